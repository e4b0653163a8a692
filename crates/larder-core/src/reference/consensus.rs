//! The model of a consensus store, and `memory:`.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::consensus::{Watchers, check_compare_and_set, check_consensus_key, check_seqno};
use crate::{
    CaSResult, Consensus, ConsensusError, Determinate, Durability, KeyStream, SeqNo, VersionedData,
};

/// A consensus store in the memory of this process.
///
/// # Guarantees
/// | | |
/// |---|---|
/// | durability | the life of the process |
/// | consistency | linearizable: one lock |
/// | limits | the sum of keys and data is bounded by the capacity |
#[derive(Debug)]
pub struct MemoryConsensus {
    capacity: u64,
    store: Mutex<Store>,
    watchers: Watchers,
}

#[derive(Default)]
struct Store {
    keys: BTreeMap<String, BTreeMap<SeqNo, Bytes>>,
    bytes: u64,
}

impl MemoryConsensus {
    /// The capacity of `MemoryConsensus::default()`: 256 MiB.
    pub const CAPACITY: u64 = 256 << 20;

    /// An empty store that holds at most `capacity` bytes of keys and data.
    pub fn with_capacity(capacity: u64) -> Self {
        Self { capacity, store: Mutex::default(), watchers: Watchers::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    fn head(&self, key: &str) -> Option<(&SeqNo, &Bytes)> {
        self.keys.get(key).and_then(BTreeMap::last_key_value)
    }
}

impl Default for MemoryConsensus {
    fn default() -> Self {
        Self::with_capacity(Self::CAPACITY)
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({} keys, {} bytes)", self.keys.len(), self.bytes)
    }
}

impl Consensus for MemoryConsensus {
    fn list_keys(&self) -> KeyStream {
        KeyStream::from_keys(self.lock().keys.keys().cloned().collect())
    }

    async fn head(&self, key: &str) -> Result<Option<VersionedData>, ConsensusError> {
        check_consensus_key(key)?;
        let store = self.lock();
        let head = store.head(key);
        Ok(head.map(|(seqno, data)| VersionedData { seqno: *seqno, data: data.clone() }))
    }

    async fn compare_and_set(
        &self,
        key: &str,
        expected: Option<SeqNo>,
        new: VersionedData,
    ) -> Result<CaSResult, ConsensusError> {
        check_compare_and_set(key, expected, &new)?;
        let mut store = self.lock();
        let versions = store.keys.get(key);
        let current =
            versions.and_then(|versions| versions.last_key_value().map(|(head, _)| *head));
        if current != expected {
            return Ok(CaSResult::ExpectationMismatch { current });
        }
        let key_bytes = if versions.is_none() { key.len() } else { 0 };
        let added = u64::try_from(key_bytes + new.data.len()).unwrap_or(u64::MAX);
        if store.bytes.saturating_add(added) > self.capacity {
            return Err(
                Determinate::Unavailable { reason: "the memory capacity is used up" }.into()
            );
        }
        store.bytes += added;
        store.keys.entry(key.to_owned()).or_default().insert(new.seqno, new.data);
        drop(store);
        self.watchers.wake(key);
        Ok(CaSResult::Committed)
    }

    async fn scan(
        &self,
        key: &str,
        from: SeqNo,
        limit: usize,
    ) -> Result<Vec<VersionedData>, ConsensusError> {
        check_consensus_key(key)?;
        check_seqno(from)?;
        let store = self.lock();
        let Some(versions) = store.keys.get(key) else { return Ok(Vec::new()) };
        let slice = versions.range(from..).take(limit);
        Ok(slice.map(|(seqno, data)| VersionedData { seqno: *seqno, data: data.clone() }).collect())
    }

    async fn truncate(&self, key: &str, seqno: SeqNo) -> Result<usize, ConsensusError> {
        check_consensus_key(key)?;
        check_seqno(seqno)?;
        let mut store = self.lock();
        let versions = store.keys.get_mut(key).ok_or(Determinate::NoSuchKey)?;
        let head = versions.last_key_value().map_or(SeqNo::MIN, |(head, _)| *head);
        if seqno > head {
            return Err(Determinate::AboveHead { seqno, head }.into());
        }
        let kept = versions.split_off(&seqno);
        let deleted = std::mem::replace(versions, kept);
        let freed: usize = deleted.values().map(Bytes::len).sum();
        store.bytes = store.bytes.saturating_sub(u64::try_from(freed).unwrap_or(u64::MAX));
        Ok(deleted.len())
    }

    /// Exact: it returns when the head has moved past `seen`.
    async fn changed(&self, key: &str, seen: Option<SeqNo>) {
        let has_moved = || self.lock().head(key).map(|(seqno, _)| *seqno) > seen;
        self.watchers.wait(key, has_moved).await;
    }

    fn durability(&self) -> Durability {
        Durability::Process
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::{Context, Waker};

    use super::*;
    use crate::SharedConsensus;

    #[tokio::test]
    async fn who_waits_for_a_change_is_told_of_newer_heads_only() {
        let memory = Arc::new(MemoryConsensus::default());
        let store = SharedConsensus::new(Arc::clone(&memory));
        let mut context = Context::from_waker(Waker::noop());
        let mut first = pin!(store.changed("k", None));
        let mut second = pin!(store.changed("k", Some(SeqNo(5))));
        assert!(first.as_mut().poll(&mut context).is_pending());
        let new = |seqno| VersionedData { seqno: SeqNo(seqno), data: Bytes::new() };
        store.compare_and_set("k", None, new(5)).await.unwrap();
        store.compare_and_set("other", None, new(9)).await.unwrap();
        assert!(first.as_mut().poll(&mut context).is_ready());
        assert!(second.as_mut().poll(&mut context).is_pending());
        store.compare_and_set("k", Some(SeqNo(5)), new(6)).await.unwrap();
        assert!(second.as_mut().poll(&mut context).is_ready());
    }
}
