//! The model of a spool, and `memory:`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;

use crate::{
    Durability, Effect, EnumerateHandle, EnumerateReport, Listing, ListingSender, SharedClock,
    Spool, SpoolEntry, SpoolError, SpoolId, SpoolSender, SpoolStats, SystemClock, Timestamp,
};

/// A spool in the memory of this process.
///
/// # Guarantees
/// | | |
/// |---|---|
/// | durability | the life of the process, with and without `force_sync` |
/// | atomicity | `store_many` writes all or none |
/// | limits | bounded by the number of entries and the sum of their payloads |
///
/// Nothing is there at open, so an enumeration sends what was created before its start time.
#[derive(Clone, Debug)]
pub struct MemorySpool {
    clock: SharedClock,
    limits: Limits,
    state: Arc<Mutex<State>>,
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    bytes: u64,
    entries: u64,
}

#[derive(Default)]
struct State {
    entries: BTreeMap<SpoolId, Bytes>,
    bytes: u64,
    closed: bool,
}

impl MemorySpool {
    /// The bound on the payloads of `MemorySpool::default()`: 256 MiB.
    pub const BYTES_MAX: u64 = 256 << 20;
    /// The bound on the number of entries of `MemorySpool::default()`.
    pub const ENTRIES_MAX: u64 = 1 << 20;

    /// An empty spool with a clock, a bound on the sum of payloads and one on their number.
    pub fn new(clock: SharedClock, bytes_max: u64, entries_max: u64) -> Self {
        let limits = Limits { bytes: bytes_max, entries: entries_max };
        Self { clock, limits, state: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, unless the spool was shut down.
    fn open(&self) -> Result<MutexGuard<'_, State>, SpoolError> {
        let state = self.lock();
        if state.closed {
            return Err(SpoolError::ShuttingDown { effect: Effect::NotApplied });
        }
        Ok(state)
    }

    fn put(
        &self,
        entries: Vec<(SpoolId, Bytes)>,
        deadline: Option<Instant>,
    ) -> Result<(), SpoolError> {
        if deadline.is_some_and(|deadline| deadline <= self.clock.instant()) {
            return Err(SpoolError::CallerDeadlineExceeded { effect: Effect::NotApplied });
        }
        for (_, data) in &entries {
            let bytes = size(data);
            if bytes > self.limits.bytes {
                return Err(SpoolError::TooLarge { bytes, bytes_max: self.limits.bytes });
            }
        }
        let mut state = self.open()?;
        let after = state.after(&entries);
        if after.bytes > self.limits.bytes {
            return Err(SpoolError::Full { limit: format!("bytes_max={}", self.limits.bytes) });
        }
        if after.entries > self.limits.entries {
            return Err(SpoolError::Full { limit: format!("entries_max={}", self.limits.entries) });
        }
        state.bytes = after.bytes;
        state.entries.extend(entries);
        Ok(())
    }

    fn delete(&self, ids: &[SpoolId]) -> Result<(), SpoolError> {
        let mut state = self.open()?;
        for id in ids {
            if let Some(data) = state.entries.remove(id) {
                state.bytes = state.bytes.saturating_sub(size(&data));
            }
        }
        Ok(())
    }

    fn get(&self, id: SpoolId) -> Result<Bytes, SpoolError> {
        self.open()?.entries.get(&id).cloned().ok_or(SpoolError::NotFound { id })
    }

    /// Walks the entries on a thread of its own, so that a slow receiver holds nobody up.
    fn walk(
        &self,
        start_time: Timestamp,
        mut send: impl FnMut(SpoolId, Bytes) -> bool + Send + 'static,
    ) -> Result<EnumerateHandle, SpoolError> {
        let old = |id: &SpoolId| id.created().map_or(true, |created| created < start_time);
        let ids: Vec<SpoolId> = self.open()?.entries.keys().copied().filter(old).collect();
        let (handle, report) = EnumerateHandle::pair();
        let spool = self.clone();
        let walk = move || {
            let mut report: EnumerateReport = report;
            for id in ids {
                match spool.get(id) {
                    Ok(data) => {
                        let bytes = size(&data);
                        if !send(id, data) {
                            return report.abort(None);
                        }
                        report.item(bytes);
                    }
                    Err(SpoolError::NotFound { .. }) => {}
                    Err(error) => return report.abort(Some(error)),
                }
            }
            report.complete();
        };
        std::thread::Builder::new().name("spool-walk".into()).spawn(walk).map_err(|error| {
            crate::BackendError::new("memory", "enumerate", error).effect_is(Effect::NotApplied)
        })?;
        Ok(handle)
    }
}

/// What a spool would hold.
struct After {
    bytes: u64,
    entries: u64,
}

impl State {
    /// What the spool would hold after storing `new`, of which the last of an id counts.
    fn after(&self, new: &[(SpoolId, Bytes)]) -> After {
        let last: BTreeMap<SpoolId, u64> = new.iter().map(|(id, data)| (*id, size(data))).collect();
        let replaced: Vec<&Bytes> = last.keys().filter_map(|id| self.entries.get(id)).collect();
        let freed: u64 = replaced.iter().map(|data| size(data)).sum();
        After {
            bytes: self.bytes.saturating_sub(freed).saturating_add(last.values().sum()),
            entries: count(self.entries.len()) + count(last.len() - replaced.len()),
        }
    }
}

impl Default for MemorySpool {
    fn default() -> Self {
        Self::new(SystemClock::shared(), Self::BYTES_MAX, Self::ENTRIES_MAX)
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "State({} entries, {} bytes)", self.entries.len(), self.bytes)
    }
}

impl Spool for MemorySpool {
    async fn load(&self, id: SpoolId) -> Result<Bytes, SpoolError> {
        self.get(id)
    }

    async fn load_many(&self, ids: &[SpoolId]) -> Vec<Result<Bytes, SpoolError>> {
        ids.iter().map(|id| self.get(*id)).collect()
    }

    async fn store(
        &self,
        id: SpoolId,
        data: Bytes,
        _force_sync: bool,
        deadline: Option<Instant>,
    ) -> Result<(), SpoolError> {
        self.put(vec![(id, data)], deadline)
    }

    async fn store_many(
        &self,
        entries: Vec<(SpoolId, Bytes)>,
        _force_sync: bool,
        deadline: Option<Instant>,
    ) -> Result<(), SpoolError> {
        self.put(entries, deadline)
    }

    async fn remove(&self, id: SpoolId) -> Result<(), SpoolError> {
        self.delete(&[id])
    }

    async fn remove_durable(&self, id: SpoolId) -> Result<(), SpoolError> {
        self.delete(&[id])
    }

    async fn remove_many(&self, ids: Vec<SpoolId>, _durable: bool) -> Result<(), SpoolError> {
        self.delete(&ids)
    }

    fn enumerate(
        &self,
        sender: SpoolSender,
        start_time: Timestamp,
    ) -> Result<EnumerateHandle, SpoolError> {
        self.walk(start_time, move |id, data| {
            sender.send_blocking(SpoolEntry::Item { id, data }).is_ok()
        })
    }

    fn list(
        &self,
        sender: ListingSender,
        start_time: Timestamp,
    ) -> Result<EnumerateHandle, SpoolError> {
        self.walk(start_time, move |id, data| {
            sender.send_blocking(Listing::Item { id, size: size(&data) }).is_ok()
        })
    }

    async fn cleanup(&self) -> Result<(), SpoolError> {
        self.open().map(drop)
    }

    async fn shutdown(&self) -> Result<(), SpoolError> {
        self.lock().closed = true;
        Ok(())
    }

    async fn advise_low_memory(&self) -> Result<isize, SpoolError> {
        self.open().map(|_| 0)
    }

    async fn acknowledge(&self) -> Result<Vec<String>, SpoolError> {
        self.open().map(|_| Vec::new())
    }

    async fn stats(&self) -> Result<SpoolStats, SpoolError> {
        let state = self.open()?;
        Ok(SpoolStats {
            entries: count(state.entries.len()),
            bytes: state.bytes,
            ..SpoolStats::default()
        })
    }

    fn durability(&self) -> Durability {
        Durability::Process
    }
}

fn size(data: &Bytes) -> u64 {
    count(data.len())
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
