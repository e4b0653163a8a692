//! The spool: a durable set of opaque payloads by id.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::time::{Duration, Instant};

use bytes::Bytes;

pub use stats::{SpoolCondition, SpoolHealth, SpoolStats};

use crate::channel::Sender;
use crate::{
    BackendError, Durability, Effect, EnumerateHandle, Failure, Retry, SpoolId, Timestamp,
};

mod stats;

/// What a mail server, webhook sender, outbox or job queue writes before it says "accepted".
///
/// # Contract
/// - What a successful store wrote is loaded byte for byte until it is replaced or removed.
/// - An empty payload is a payload. A missing id is [`SpoolError::NotFound`] on load and success
///   on remove, on every backend.
/// - `force_sync` means that Ok survives the loss of power, the directory entry of the file
///   included. Without it Ok survives the death of the process at once, and the loss of power after
///   the interval that the backend states.
/// - A store that answers an error is never a success later in this process: loads then show what
///   was there before, or nothing.
/// - While the health gate is closed ([`Spool::unhealthy_reason`]) stores are refused and
///   everything else works.
///
/// # Cancel safety
/// A store or remove whose future is dropped before it was handed to the backend did not happen;
/// later it happens as a whole or not at all. Reads have no effect.
pub trait Spool: fmt::Debug + Send + Sync + 'static {
    /// Returns the payload stored under `id`.
    ///
    /// # Errors
    /// [`SpoolError::NotFound`] for a missing id, [`SpoolError::Corrupt`] for damage found by
    /// checksum, [`SpoolError::Backend`] when it could not be read.
    fn load(&self, id: SpoolId) -> impl Future<Output = Result<Bytes, SpoolError>> + Send + '_;

    /// Loads many ids; answers in the order of `ids`.
    ///
    /// # Errors
    /// Each id has an answer of its own, as for [`Spool::load`].
    fn load_many<'a>(
        &'a self,
        ids: &'a [SpoolId],
    ) -> impl Future<Output = Vec<Result<Bytes, SpoolError>>> + Send + 'a;

    /// Writes or replaces the payload of `id`.
    ///
    /// # Units and limits
    /// A `deadline` that has passed writes nothing. Otherwise the sooner of it and the spool's own
    /// limit counts. Payload sizes are bounded by the backend.
    ///
    /// # Errors
    /// [`SpoolError::CallerDeadlineExceeded`] or [`SpoolError::BackpressureTimeout`], whichever
    /// limit was the sooner; [`SpoolError::Unhealthy`], [`SpoolError::TooLarge`],
    /// [`SpoolError::Full`]: nothing was written; others as they say. Once the payload was handed to
    /// the engine every error has effect `Unknown`.
    fn store(
        &self,
        id: SpoolId,
        data: Bytes,
        force_sync: bool,
        deadline: Option<Instant>,
    ) -> impl Future<Output = Result<(), SpoolError>> + Send + '_;

    /// Writes many payloads with one acknowledgement.
    ///
    /// The embedded engine writes all or none; other backends say when they cannot.
    ///
    /// # Errors
    /// As [`Spool::store`].
    fn store_many(
        &self,
        entries: Vec<(SpoolId, Bytes)>,
        force_sync: bool,
        deadline: Option<Instant>,
    ) -> impl Future<Output = Result<(), SpoolError>> + Send + '_;

    /// Removes `id`; a missing id is success.
    ///
    /// Ok survives the death of the process at once; the loss of power may bring the entry back.
    ///
    /// # Errors
    /// [`SpoolError::ShuttingDown`], [`SpoolError::NoSpace`], [`SpoolError::Backend`].
    fn remove(&self, id: SpoolId) -> impl Future<Output = Result<(), SpoolError>> + Send + '_;

    /// Removes `id` so that not even the loss of power brings it back.
    ///
    /// # Errors
    /// As [`Spool::remove`].
    fn remove_durable(
        &self,
        id: SpoolId,
    ) -> impl Future<Output = Result<(), SpoolError>> + Send + '_;

    /// Removes many ids with one acknowledgement; durable if asked.
    ///
    /// # Errors
    /// As [`Spool::remove`].
    fn remove_many(
        &self,
        ids: Vec<SpoolId>,
        durable: bool,
    ) -> impl Future<Output = Result<(), SpoolError>> + Send + '_;

    /// Sends every entry to `sender`, in no order; returns at once.
    ///
    /// Sends the ids that were there when the spool was opened or were created before
    /// `start_time`. Each one that is live throughout comes exactly once; those removed meanwhile
    /// may or may not come. The channel's capacity is the back-pressure. Dropping the receiver
    /// ends the enumeration, and the handle then says that it was aborted.
    ///
    /// # Errors
    /// [`SpoolError::ShuttingDown`]. What goes wrong later is told by the handle; damage of one
    /// entry is an entry, [`SpoolEntry::Corrupt`].
    fn enumerate(
        &self,
        sender: SpoolSender,
        start_time: Timestamp,
    ) -> Result<EnumerateHandle, SpoolError>;

    /// As [`Spool::enumerate`], but with sizes in place of payloads, which need not be read.
    ///
    /// # Errors
    /// As [`Spool::enumerate`].
    fn list(
        &self,
        sender: ListingSender,
        start_time: Timestamp,
    ) -> Result<EnumerateHandle, SpoolError>;

    /// Does the periodic maintenance: gives back space that costs little to give back.
    ///
    /// # Errors
    /// [`SpoolError::Backend`]; nothing that was acknowledged is touched.
    fn cleanup(&self) -> impl Future<Output = Result<(), SpoolError>> + Send + '_;

    /// Ends the spool: pending calls end with Ok or [`SpoolError::ShuttingDown`], later calls fail.
    ///
    /// Idempotent. Ok means that everything acknowledged is durable.
    ///
    /// # Errors
    /// [`SpoolError::Backend`] when the last flush failed.
    fn shutdown(&self) -> impl Future<Output = Result<(), SpoolError>> + Send + '_;

    /// Flushes and drops what can be read again.
    ///
    /// Returns the bytes of memory saved; negative if it grew.
    ///
    /// # Errors
    /// [`SpoolError::Backend`] when the flush failed.
    fn advise_low_memory(&self) -> impl Future<Output = Result<isize, SpoolError>> + Send + '_;

    /// Flushes and compacts fully.
    ///
    /// # Errors
    /// [`SpoolError::Backend`] when a file is missing or damaged; nothing that loads is lost.
    fn compact(&self) -> impl Future<Output = Result<(), SpoolError>> + Send + '_ {
        std::future::ready(Ok(()))
    }

    /// Why stores are refused at the moment; `None` when they are accepted.
    ///
    /// Does no I/O, waits for nothing and allocates nothing. The text is fit for strangers.
    fn unhealthy_reason(&self) -> Option<&'static str> {
        None
    }

    /// The operator has seen the reported damage: the gate may open again.
    ///
    /// Says what was accepted, each damaged place in words; nothing when none was open.
    ///
    /// # Errors
    /// [`SpoolError::Unhealthy`] when the cause is one that only reopening the spool clears.
    fn acknowledge(&self) -> impl Future<Output = Result<Vec<String>, SpoolError>> + Send + '_;

    /// Counts and sizes.
    ///
    /// # Errors
    /// [`SpoolError::Backend`] when a remote backend could not be asked.
    fn stats(&self) -> impl Future<Output = Result<SpoolStats, SpoolError>> + Send + '_;

    /// What a store with `force_sync` survives.
    fn durability(&self) -> Durability;
}

/// Where [`Spool::enumerate`] sends its entries.
pub type SpoolSender = Sender<SpoolEntry>;

/// Where [`Spool::list`] sends its entries.
pub type ListingSender = Sender<Listing>;

/// One entry of an enumeration.
#[derive(Debug)]
#[allow(clippy::exhaustive_enums, reason = "callers must handle damage")]
pub enum SpoolEntry {
    /// A payload.
    Item {
        /// Its id.
        id: SpoolId,
        /// The payload. It may share memory with others: what a backend states about that is how
        /// much a payload keeps in memory for as long as it is kept.
        data: Bytes,
    },
    /// Damage found by checksum; the entry is quarantined, not deleted.
    Corrupt {
        /// The id, when the damage left it readable.
        id: Option<SpoolId>,
        /// What was found.
        error: SpoolError,
    },
}

/// One entry of a listing.
#[derive(Debug)]
#[allow(clippy::exhaustive_enums, reason = "callers must handle damage")]
pub enum Listing {
    /// A payload that is stored.
    Item {
        /// Its id.
        id: SpoolId,
        /// The size of the payload in bytes.
        size: u64,
    },
    /// Damage that is already known.
    Corrupt {
        /// The id, when the damage left it readable.
        id: Option<SpoolId>,
        /// What was found.
        error: SpoolError,
    },
}

/// Why a spool operation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpoolError {
    /// No entry has this id. Effect `NotApplied`, retry `Never`.
    #[error("the spool has no entry {id}")]
    NotFound {
        /// The id asked for.
        id: SpoolId,
    },
    /// The entry is damaged: its checksum does not match. Effect `NotApplied`, retry `Never`.
    #[error("a spool entry is damaged{}: {what}", of(*id))]
    Corrupt {
        /// The id, when the damage left it readable.
        id: Option<SpoolId>,
        /// What was found and where.
        what: String,
    },
    /// The caller's deadline came before the spool accepted the write. Retry `Later`.
    #[error("the caller's deadline passed before the spool accepted the write")]
    CallerDeadlineExceeded {
        /// `NotApplied` when nothing was handed to the engine.
        effect: Effect,
    },
    /// The spool's own limit passed before it accepted the write. Retry `Later`.
    #[error("the spool did not accept the write within {deadline:?}")]
    BackpressureTimeout {
        /// The spool's limit.
        deadline: Duration,
        /// `NotApplied` when nothing was handed to the engine.
        effect: Effect,
    },
    /// The health gate is closed. Effect `NotApplied`, retry `Later`.
    #[error("the spool is not accepting writes: {reason}")]
    Unhealthy {
        /// Why, in words fit for strangers.
        reason: &'static str,
    },
    /// The payload is larger than the spool takes. Effect `NotApplied`, retry `Never`.
    #[error("the payload is too large for this spool: bytes={bytes} bytes_max={bytes_max}")]
    TooLarge {
        /// The size of the payload.
        bytes: u64,
        /// The largest size that is taken.
        bytes_max: u64,
    },
    /// The spool holds as much as it may. Effect `NotApplied`, retry `Later`.
    #[error("the spool is full: {limit}")]
    Full {
        /// The bound that was reached, such as `entries_max=1000`.
        limit: String,
    },
    /// The device has no space left. Retry `Later`.
    #[error("no space is left for the spool: {what}")]
    NoSpace {
        /// How much there is of what is short, where that is known, and what to do.
        what: Cow<'static, str>,
        /// `NotApplied` when nothing was handed to the engine.
        effect: Effect,
    },
    /// The spool is being shut down, or was. Retry `Never`.
    #[error("the spool is shutting down")]
    ShuttingDown {
        /// `NotApplied` when nothing was handed to the engine.
        effect: Effect,
    },
    /// The technology behind the spool failed; the error says its effect and retry.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

fn of(id: Option<SpoolId>) -> String {
    id.map(|id| format!(": id={id}")).unwrap_or_default()
}

impl Failure for SpoolError {
    fn effect(&self) -> Effect {
        match self {
            Self::NotFound { .. }
            | Self::Corrupt { .. }
            | Self::Unhealthy { .. }
            | Self::TooLarge { .. }
            | Self::Full { .. } => Effect::NotApplied,
            Self::CallerDeadlineExceeded { effect }
            | Self::BackpressureTimeout { effect, .. }
            | Self::NoSpace { effect, .. }
            | Self::ShuttingDown { effect } => *effect,
            Self::Backend(error) => error.effect(),
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::NotFound { .. }
            | Self::Corrupt { .. }
            | Self::TooLarge { .. }
            | Self::ShuttingDown { .. } => Retry::Never,
            Self::CallerDeadlineExceeded { .. }
            | Self::BackpressureTimeout { .. }
            | Self::Unhealthy { .. }
            | Self::Full { .. }
            | Self::NoSpace { .. } => Retry::Later,
            Self::Backend(error) => error.retry(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_before_the_hand_over_are_not_applied() {
        let id = SpoolId::from_bytes([1; 16]);
        assert_eq!(SpoolError::NotFound { id }.effect(), Effect::NotApplied);
        assert_eq!(SpoolError::Unhealthy { reason: "x" }.retry(), Retry::Later);
        let late = SpoolError::CallerDeadlineExceeded { effect: Effect::Unknown };
        assert_eq!(late.effect(), Effect::Unknown);
    }
}
