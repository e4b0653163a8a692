//! A folder of this machine as a cache tier.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use futures_util::future::join_all;
use larder_core::{
    BackendError, CacheError, CacheValue, Condition, Conditions, DeleteStatus, Durability, Effect,
    Found, Key, KeyRef, Now, RepairListener, Source, Tier, TierStats, TierUsage, WriteStatus,
};

use crate::address::AddressError;
use crate::driver::log as driver;
use crate::registry::OpenError;

mod builder;
mod evict;
mod marks;
mod record;
mod room;
mod store;
mod title;
mod turns;

pub use builder::LogCacheBuilder;
use store::Store;

/// A cache in a folder of this machine: larger than memory, and still there after a restart.
///
/// It holds bytes; put an [`Encoded`](super::Encoded) over it for typed values. It is the embedded
/// engine with other settings: nothing waits for the disk to sync, nothing is compacted, and when it is
/// full the oldest segment goes as a whole, a thirty-second of the capacity. What was read since it was
/// written gets a second chance: it is written again, up to half of that segment.
///
/// # What it remembers
/// - Closed (dropped) and opened again: everything.
/// - The process died, the machine went on: everything that was answered. Linux only; elsewhere nothing.
/// - The power failed, or files went missing: nothing. A remove or a replacement may have been lost, and
///   what it had removed must not come back; so all of it goes.
///
/// A file system that is not of this machine, or a folder that is put back from a backup, is beyond
/// that: do not keep a cache there. So is a disk that loses a write without an error, or fails a sync
/// just before the process dies.
///
/// # Guarantees
/// | | |
/// |---|---|
/// | durability | [`Durability::Process`] |
/// | conditions | all, each decided in one step |
/// | precision of times | one nanosecond |
/// | largest value | a sixty-fourth of the capacity, less 1.1 KiB; a larger one is [`CacheError::TooLarge`], and what was stored stays |
/// | bounds | `capacity`: bytes on the disk, all files together; `max_entries`: 45 to 75 bytes of memory each |
/// | time limit | `timeout` of the address for each call, waiting for room included; [`Tier::clear`] has none |
/// | limits | one process at a time |
///
/// A read answers at once, on the calling thread, what lies in the page cache, and what is not there.
/// What has to come from the disk is read on tokio's blocking threads, at most 64 at a time.
/// An expired entry takes room until it is read, replaced or evicted. An entry that is damaged is a
/// miss, and is removed by the read that finds it.
///
/// # Errors
/// All but `TooLarge` are [`CacheError::Backend`].
///
/// | what happened | effect of a write | retry |
/// |---|---|---|
/// | the disk is full (a segment is given up meanwhile) | `NotApplied` | `Later` |
/// | no room, or no turn, within the time limit | `NotApplied` | `Later` |
/// | no answer within the time limit, after the write was handed over | `Unknown` | `Later` |
/// | a write or a sync has failed before: reads go on, until it is opened again | `NotApplied` | `Never` |
///
/// Counters, with the label `tier`: `larder_cache_evictions_total`, `larder_cache_expired_total` and
/// `larder_cache_unread_records_total` (`reason`=`damaged`), entries that a read found expired or
/// damaged and dropped, and `larder_cache_too_large_total`.
///
/// ```
/// use larder::cache::LogCache;
/// use larder_core::{CacheValue, Condition, KeyRef, Tier};
/// use bytes::Bytes;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// let path = folder.path().join("cache");
/// let disk = LogCache::open(&path)?;
/// let key = KeyRef::new("greeting")?;
/// disk.write(key, CacheValue::new(Bytes::from("hello")), Condition::Always).await?;
/// drop(disk);
/// let disk = LogCache::open(&path)?;
/// assert_eq!(disk.read(key).await?.map(|found| found.value.data), Some(Bytes::from("hello")));
/// # Ok(()) }
/// ```
pub struct LogCache {
    label: String,
    store: Arc<Store>,
    evictor: Option<JoinHandle<()>>,
}

impl LogCache {
    /// Opens the cache in the folder `path` with the defaults of an address, creating it if it is
    /// missing; blocks while it reads.
    ///
    /// # Errors
    /// As [`LogCacheBuilder::open`].
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        LogCacheBuilder::at(path).open()
    }

    /// The cache at `log:PATH`, with the parameters `capacity` (1GiB), `max_entries` (one for each KiB of
    /// the capacity) and `timeout` (1s), to be refined.
    ///
    /// # Errors
    /// [`AddressError`] when the address makes no sense; nothing was done.
    pub fn builder(uri: &str) -> Result<LogCacheBuilder, AddressError> {
        LogCacheBuilder::of(uri.parse()?)
    }

    fn over(store: Arc<Store>, label: String) -> std::io::Result<Self> {
        let evicting = Arc::clone(&store);
        let thread = std::thread::Builder::new().name(String::from("larder-evict"));
        let evictor = thread.spawn(move || evicting.run_evictor())?;
        Ok(Self { label, store, evictor: Some(evictor) })
    }
}

impl Drop for LogCache {
    /// Closes the log, which waits for the disk.
    fn drop(&mut self) {
        self.store.room.stop();
        if let Some(evictor) = self.evictor.take() {
            let _ = evictor.join();
        }
        if let Err(error) = self.store.log.close() {
            tracing::warn!(%error, tier = self.label, "a cache on disk did not close well");
        }
    }
}

impl Tier<Bytes> for LogCache {
    async fn read(&self, key: KeyRef<'_>) -> Result<Option<Found<Bytes>>, CacheError> {
        self.store.find(key).await
    }

    /// Only that there is nothing is known without a look at the disk.
    fn read_now(&self, key: KeyRef<'_>) -> Now<Bytes> {
        self.store.find_now(key)
    }

    async fn write(
        &self,
        key: KeyRef<'_>,
        value: CacheValue<Bytes>,
        condition: Condition,
    ) -> Result<WriteStatus, CacheError> {
        self.store.put(key, value, condition).await
    }

    async fn remove(
        &self,
        key: KeyRef<'_>,
        condition: Condition,
    ) -> Result<DeleteStatus, CacheError> {
        self.store.remove(key, condition).await
    }

    async fn read_many(
        &self,
        keys: &[KeyRef<'_>],
    ) -> Result<Vec<Option<Found<Bytes>>>, CacheError> {
        self.store.find_many(keys).await
    }

    async fn write_many(
        &self,
        entries: Vec<(Key, CacheValue<Bytes>)>,
        condition: Condition,
    ) -> Result<Vec<WriteStatus>, CacheError> {
        // All at once, so that they share a write; of one key in their order, since turns are fair.
        let writes = entries
            .iter()
            .map(|(key, value)| self.store.put(key.as_ref(), value.clone(), condition));
        join_all(writes).await.into_iter().collect()
    }

    async fn remove_many(
        &self,
        keys: &[KeyRef<'_>],
        condition: Condition,
    ) -> Result<Vec<DeleteStatus>, CacheError> {
        let removes = keys.iter().map(|key| self.store.remove(*key, condition));
        join_all(removes).await.into_iter().collect()
    }

    /// Forgets all segments: what is written meanwhile may stay or go.
    async fn clear(&self) -> Result<(), CacheError> {
        let store = Arc::clone(&self.store);
        let cleared = tokio::task::spawn_blocking(move || store.clear()).await;
        let failed = |error: larder_core::BoxError| {
            CacheError::from(
                BackendError::new(driver::BACKEND, "clear", error).effect_is(Effect::Unknown),
            )
        };
        cleared.map_err(|panicked| failed(panicked.into()))?.map_err(|error| failed(error.into()))
    }

    /// The folder belongs to this process alone.
    async fn forget(&self, key: KeyRef<'_>, condition: Condition) -> Result<(), CacheError> {
        self.remove(key, condition).await.map(drop)
    }

    async fn forget_all(&self) -> Result<(), CacheError> {
        self.clear().await
    }

    fn label(&self) -> &str {
        &self.label
    }

    fn describe(&self, _: Source) -> String {
        self.label.clone()
    }

    fn conditions(&self) -> Conditions {
        Conditions::ALL
    }

    fn durability(&self) -> Durability {
        Durability::Process
    }

    fn usage(&self) -> Option<TierUsage> {
        let (log, capacity) = (&self.store.log, self.store.room.bounds.capacity);
        // The title is no entry.
        let entries = log.entry_count().saturating_sub(1);
        Some(TierUsage::new(entries, log.disk_bytes(), Some(capacity)))
    }

    fn tier_stats(&self) -> Vec<TierStats> {
        vec![TierStats::new(self.label.clone(), self.usage())]
    }

    fn on_repair(&self, _: &RepairListener) {}
}

impl fmt::Debug for LogCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogCache").field("label", &self.label).finish_non_exhaustive()
    }
}
