//! A time limit for stores that have none.

use std::time::Duration;

use futures_util::stream;
use larder_core::consensus::{check_compare_and_set, check_consensus_key, check_seqno};
use larder_core::{
    BackendError, CaSResult, Consensus, ConsensusError, Determinate, Durability, KeyStream, Retry,
    SeqNo, VersionedData,
};
use tokio::time::timeout;

/// A store whose calls end after a time.
///
/// A backend with limits of its own knows better whether anything was sent; this is for those without, such as
/// [`LogConsensus`](crate::consensus::LogConsensus) on a disk that hangs.
///
/// | what happened | error | retry |
/// |---|---|---|
/// | the limit is zero: the store was not asked | `Determinate` | `Later` |
/// | a compare-and-set or truncation took too long: it may happen yet | `Indeterminate` | `Later` |
/// | a head or scan took too long | `Determinate` | `Later` |
/// | the next keys of a listing took too long | `Determinate`, the last item | `Later` |
///
/// Waiting for a change has no limit. A call that is cut off is dropped, as by a caller who leaves; the store
/// answers for that. Arguments are judged first, whatever the limit.
///
/// ```
/// use larder::consensus::Timeout;
/// use larder::{Consensus, MemoryConsensus};
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::ConsensusError> {
/// let store = Timeout::new(MemoryConsensus::default(), Duration::from_secs(2));
/// assert_eq!(store.head("key").await?, None);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Timeout<C> {
    store: C,
    limit: Duration,
}

impl<C: Consensus> Timeout<C> {
    /// `store` with `limit` for each call.
    pub const fn new(store: C, limit: Duration) -> Self {
        Self { store, limit }
    }

    /// The answer of a read, in time.
    async fn read<T>(
        &self,
        call: impl Future<Output = Result<T, ConsensusError>>,
    ) -> Result<T, ConsensusError> {
        if self.limit.is_zero() {
            return Err(NO_TIME.into());
        }
        timeout(self.limit, call).await.unwrap_or(Err(LATE.into()))
    }

    /// The answer of a write, in time.
    async fn write<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, ConsensusError>>,
    ) -> Result<T, ConsensusError> {
        if self.limit.is_zero() {
            return Err(NO_TIME.into());
        }
        timeout(self.limit, call).await.unwrap_or_else(|_| {
            let why = format!("no answer within {:?}", self.limit);
            let error = BackendError::new("timeout", operation, why).retry_is(Retry::Later);
            Err(ConsensusError::Indeterminate(error))
        })
    }
}

const NO_TIME: Determinate = Determinate::Unavailable { reason: "the time limit is zero" };
const LATE: Determinate = Determinate::Unavailable { reason: "it did not answer in time" };

#[deny(clippy::missing_trait_methods)]
impl<C: Consensus> Consensus for Timeout<C> {
    fn list_keys(&self) -> KeyStream {
        let limit = self.limit;
        KeyStream::new(stream::unfold(Some(self.store.list_keys()), move |keys| async move {
            let mut keys = keys?;
            match timeout(limit, keys.next()).await {
                Ok(key) => key.map(|key| (key, Some(keys))),
                Err(_) => Some((Err(LATE.into()), None)),
            }
        }))
    }

    async fn head(&self, key: &str) -> Result<Option<VersionedData>, ConsensusError> {
        check_consensus_key(key)?;
        self.read(self.store.head(key)).await
    }

    async fn compare_and_set(
        &self,
        key: &str,
        expected: Option<SeqNo>,
        new: VersionedData,
    ) -> Result<CaSResult, ConsensusError> {
        check_compare_and_set(key, expected, &new)?;
        let call = self.store.compare_and_set(key, expected, new);
        self.write("compare_and_set", call).await
    }

    async fn scan(
        &self,
        key: &str,
        from: SeqNo,
        limit: usize,
    ) -> Result<Vec<VersionedData>, ConsensusError> {
        check_consensus_key(key)?;
        check_seqno(from)?;
        self.read(self.store.scan(key, from, limit)).await
    }

    async fn truncate(&self, key: &str, seqno: SeqNo) -> Result<usize, ConsensusError> {
        check_consensus_key(key)?;
        check_seqno(seqno)?;
        self.write("truncate", self.store.truncate(key, seqno)).await
    }

    async fn changed(&self, key: &str, seen: Option<SeqNo>) {
        self.store.changed(key, seen).await;
    }

    fn durability(&self) -> Durability {
        self.store.durability()
    }
}
