//! Consensus: versioned data per key, replaced only by compare-and-set.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::Stream;

use crate::key::check_key;
use crate::{BackendError, Durability, Effect, Failure, KeyError, Retry, SeqNo};

mod resolution;
mod watchers;

pub use resolution::Resolution;
pub use watchers::Watchers;

/// One version of a key's data.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "plain data that callers build and take apart")]
pub struct VersionedData {
    /// Its place in the history of the key.
    pub seqno: SeqNo,
    /// The data; empty data is data.
    pub data: Bytes,
}

/// The answer of a compare-and-set that was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "callers must handle both answers")]
pub enum CaSResult {
    /// The new version is the head now.
    Committed,
    /// The head was not the expected one; nothing changed.
    ExpectationMismatch {
        /// The head seen by this very call; `None`: the key is empty. Never equal to `expected`.
        current: Option<SeqNo>,
    },
}

/// A store on which many processes agree on one total order of versions per key.
///
/// # Contract
/// - A compare-and-set commits exactly when the head's sequence number is `expected` (`None`: the
///   key has no data yet). Gaps are legal. Data comes back byte for byte.
/// - [`Consensus::head`] is linearizable: it shows the effect of every call that returned before it
///   started. Head and scan only show versions that are durable.
/// - The head is never deleted, so a key never becomes empty again, and a truncated version can
///   never be created again by a late writer.
/// - Keys: not empty, at most [`KEY_BYTES_MAX`](crate::key::KEY_BYTES_MAX) bytes, no NUL. Sequence
///   numbers: at most `i64::MAX`. Anything else is `InvalidArgument` before any I/O.
///
/// # Cancel safety
/// Dropping the future of a compare-and-set or truncate does not undo it: its outcome is unknown.
pub trait Consensus: fmt::Debug + Send + Sync + 'static {
    /// Streams every key that ever got a committed version, and no others, each once.
    fn list_keys(&self) -> KeyStream;

    /// Returns the newest version of `key`; `None` when it has no data.
    ///
    /// # Errors
    /// [`ConsensusError`]; reads have no effect, whatever they say.
    fn head<'a>(
        &'a self,
        key: &'a str,
    ) -> impl Future<Output = Result<Option<VersionedData>, ConsensusError>> + Send + 'a;

    /// Makes `new` the head of `key` if the head is `expected` now.
    ///
    /// # Errors
    /// [`ConsensusError::InvalidArgument`] when `new.seqno` is not above `expected` or above
    /// `i64::MAX`, or the key is no key, even when `expected` is outdated.
    /// [`ConsensusError::Determinate`]: it did not happen. [`ConsensusError::Indeterminate`]: it
    /// may have happened or may yet happen; read before you repeat.
    fn compare_and_set<'a>(
        &'a self,
        key: &'a str,
        expected: Option<SeqNo>,
        new: VersionedData,
    ) -> impl Future<Output = Result<CaSResult, ConsensusError>> + Send + 'a;

    /// Returns up to `limit` versions from `from` (inclusive) upwards, the head included.
    ///
    /// One consistent slice. Empty for an unknown key, for a `from` above the head and for a
    /// `limit` of zero. Versions that were truncated are not there any more.
    ///
    /// # Errors
    /// As [`Consensus::head`].
    fn scan<'a>(
        &'a self,
        key: &'a str,
        from: SeqNo,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<VersionedData>, ConsensusError>> + Send + 'a;

    /// Deletes the versions below `seqno` and returns how many there were.
    ///
    /// # Errors
    /// [`Determinate::AboveHead`] and [`Determinate::NoSuchKey`]: nothing was deleted. Others as
    /// for [`Consensus::compare_and_set`].
    fn truncate<'a>(
        &'a self,
        key: &'a str,
        seqno: SeqNo,
    ) -> impl Future<Output = Result<usize, ConsensusError>> + Send + 'a;

    /// Waits until the head of `key` may have moved past `seen` (`None`: until it may have data).
    ///
    /// A hint that saves polling, never a promise: it may return although nothing has moved, and may stay
    /// pending for ever although something has. Whoever waits for it also looks from time to time, as
    /// `recipes::Watch` of the crate `larder` does. When it returns, [`Consensus::head`] tells.
    ///
    /// Pending for ever unless the backend hears of changes.
    ///
    /// # Cancel safety
    /// Has no effect.
    fn changed<'a>(
        &'a self,
        key: &'a str,
        seen: Option<SeqNo>,
    ) -> impl Future<Output = ()> + Send + 'a {
        let _ = (key, seen);
        std::future::pending()
    }

    /// What a committed version survives.
    fn durability(&self) -> Durability;
}

/// Why a consensus operation failed. A lost race is not a failure: see [`CaSResult`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConsensusError {
    /// The call makes no sense; nothing was sent. Effect `NotApplied`, retry `Never`.
    #[error(transparent)]
    InvalidArgument(#[from] InvalidArgument),
    /// It did not happen and will not happen. Effect `NotApplied`.
    #[error(transparent)]
    Determinate(#[from] Determinate),
    /// It may have happened, or may yet happen. Effect `Unknown`.
    #[error("the outcome is unknown: read the key before repeating")]
    Indeterminate(#[source] BackendError),
}

/// What is wrong with the arguments of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidArgument {
    /// The key is no key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A sequence number is above `i64::MAX`.
    #[error("the sequence number is too large: seqno={seqno} seqno_max={}", SeqNo::MAX)]
    SeqNoTooLarge {
        /// The number.
        seqno: SeqNo,
    },
    /// The new version would not come after the expected one.
    #[error(
        "the new sequence number must be above the expected one: new={new} expected={expected}"
    )]
    NotIncreasing {
        /// The expected head.
        expected: SeqNo,
        /// The new head.
        new: SeqNo,
    },
}

/// Why a call certainly had no effect.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Determinate {
    /// Truncation would delete the head. Retry `Never`.
    #[error("cannot truncate above the head: seqno={seqno} head={head}")]
    AboveHead {
        /// Up to where.
        seqno: SeqNo,
        /// The head.
        head: SeqNo,
    },
    /// The key has no data. Retry `Never`.
    #[error("the key has no data")]
    NoSuchKey,
    /// The data is larger than the store takes. Retry `Never`.
    #[error("the data is too large for this store: bytes={bytes} bytes_max={bytes_max}")]
    TooLarge {
        /// The size of the data.
        bytes: u64,
        /// The largest size that is taken.
        bytes_max: u64,
    },
    /// The store does not accept writes at the moment, or holds as much as it may. Retry `Later`.
    #[error("the store is not accepting writes: {reason}")]
    Unavailable {
        /// Why, in words fit for strangers.
        reason: &'static str,
    },
    /// The technology behind the store failed before anything happened. Retry as it says.
    #[error(transparent)]
    Backend(BackendError),
}

impl Failure for ConsensusError {
    fn effect(&self) -> Effect {
        match self {
            Self::InvalidArgument(_) | Self::Determinate(_) => Effect::NotApplied,
            Self::Indeterminate(_) => Effect::Unknown,
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::InvalidArgument(_) => Retry::Never,
            Self::Determinate(error) => match error {
                Determinate::AboveHead { .. }
                | Determinate::NoSuchKey
                | Determinate::TooLarge { .. } => Retry::Never,
                Determinate::Unavailable { .. } => Retry::Later,
                Determinate::Backend(error) => error.retry(),
            },
            Self::Indeterminate(error) => error.retry(),
        }
    }
}

/// Checks a key, for any call.
///
/// # Errors
/// [`InvalidArgument::Key`].
pub fn check_consensus_key(key: &str) -> Result<(), InvalidArgument> {
    Ok(check_key(key)?)
}

/// Checks a sequence number, for any call.
///
/// # Errors
/// [`InvalidArgument::SeqNoTooLarge`].
pub const fn check_seqno(seqno: SeqNo) -> Result<(), InvalidArgument> {
    if seqno.is_valid() { Ok(()) } else { Err(InvalidArgument::SeqNoTooLarge { seqno }) }
}

/// Checks the arguments of a compare-and-set, before any I/O; the same for every backend.
///
/// # Errors
/// The first thing that is wrong.
pub fn check_compare_and_set(
    key: &str,
    expected: Option<SeqNo>,
    new: &VersionedData,
) -> Result<(), InvalidArgument> {
    check_consensus_key(key)?;
    check_seqno(new.seqno)?;
    match expected {
        None => Ok(()),
        Some(expected) => {
            check_seqno(expected)?;
            if new.seqno > expected {
                Ok(())
            } else {
                Err(InvalidArgument::NotIncreasing { expected, new: new.seqno })
            }
        }
    }
}

/// A stream of keys.
pub struct KeyStream(Pin<Box<dyn Stream<Item = Result<String, ConsensusError>> + Send>>);

impl KeyStream {
    /// Wraps any stream of keys.
    pub fn new(
        stream: impl Stream<Item = Result<String, ConsensusError>> + Send + 'static,
    ) -> Self {
        Self(Box::pin(stream))
    }

    /// A stream over keys that are at hand.
    pub fn from_keys(keys: Vec<String>) -> Self {
        Self::new(AtHand(keys.into_iter()))
    }

    /// The next key; `None` at the end. Cancelling loses nothing.
    pub async fn next(&mut self) -> Option<Result<String, ConsensusError>> {
        poll_fn(|context| self.0.as_mut().poll_next(context)).await
    }
}

impl Stream for KeyStream {
    type Item = Result<String, ConsensusError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(context)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl fmt::Debug for KeyStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyStream").finish_non_exhaustive()
    }
}

struct AtHand(std::vec::IntoIter<String>);

impl Stream for AtHand {
    type Item = Result<String, ConsensusError>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.0.next().map(Ok))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(seqno: u64) -> VersionedData {
        VersionedData { seqno: SeqNo(seqno), data: Bytes::new() }
    }

    #[test]
    fn arguments_are_judged_before_any_io() {
        assert!(check_compare_and_set("k", None, &data(0)).is_ok());
        assert!(check_compare_and_set("k", Some(SeqNo(5)), &data(10)).is_ok());
        assert_eq!(
            check_compare_and_set("k", Some(SeqNo(5)), &data(5)),
            Err(InvalidArgument::NotIncreasing { expected: SeqNo(5), new: SeqNo(5) })
        );
        let over = SeqNo(1 << 63);
        assert_eq!(
            check_compare_and_set("k", None, &data(over.0)),
            Err(InvalidArgument::SeqNoTooLarge { seqno: over })
        );
        assert!(check_compare_and_set("k", None, &data(i64::MAX.unsigned_abs())).is_ok());
        assert!(matches!(check_compare_and_set("", None, &data(0)), Err(InvalidArgument::Key(_))));
    }

    #[tokio::test]
    async fn a_key_stream_ends() {
        let mut keys = KeyStream::from_keys(vec!["a".into()]);
        assert_eq!(keys.next().await.unwrap().unwrap(), "a");
        assert!(keys.next().await.is_none());
    }
}
