//! The model of a cache tier.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{
    Age, CacheError, CacheValue, Condition, Conditions, DeleteStatus, Durability, Found, Key,
    KeyRef, Now, RepairListener, SharedClock, Source, Tier, TierStats, TierUsage, WriteStatus,
};

/// A cache tier that never forgets before the expiry: the model for tests.
///
/// It grows without bound, so it is no cache to run a service on.
pub struct ReferenceTier<V> {
    label: String,
    clock: SharedClock,
    entries: Mutex<BTreeMap<Key, CacheValue<V>>>,
}

impl<V: Clone> ReferenceTier<V> {
    /// An empty tier with a name and a clock.
    pub fn new(label: impl Into<String>, clock: SharedClock) -> Self {
        Self { label: label.into(), clock, entries: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, CacheValue<V>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, key: KeyRef<'_>) -> Option<Found<V>> {
        let value = self.lock().get(key.as_str()).cloned()?;
        (value.age(&*self.clock) != Age::Expired).then(|| Found::here(value))
    }

    fn put(&self, key: KeyRef<'_>, value: CacheValue<V>, condition: Condition) -> WriteStatus {
        let mut entries = self.lock();
        if !condition.holds(self.live(&entries, key).map(|stored| stored.version)) {
            return WriteStatus::NOT_NEWER;
        }
        if value.age(&*self.clock) == Age::Expired {
            entries.remove(key.as_str());
        } else {
            entries.insert(key.to_key(), value);
        }
        WriteStatus::WRITTEN
    }

    fn delete(&self, key: KeyRef<'_>, condition: Condition) -> DeleteStatus {
        let mut entries = self.lock();
        let Some(stored) = self.live(&entries, key) else { return DeleteStatus::Missing };
        if !condition.holds(Some(stored.version)) {
            return DeleteStatus::Missing;
        }
        entries.remove(key.as_str());
        DeleteStatus::Deleted(1)
    }

    fn live<'a>(
        &self,
        entries: &'a BTreeMap<Key, CacheValue<V>>,
        key: KeyRef<'_>,
    ) -> Option<&'a CacheValue<V>> {
        entries.get(key.as_str()).filter(|value| value.age(&*self.clock) != Age::Expired)
    }
}

impl<V> fmt::Debug for ReferenceTier<V> {
    /// Keys and values may be personal data: only the label is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReferenceTier").field("label", &self.label).finish_non_exhaustive()
    }
}

impl<V: Clone + Send + Sync + 'static> Tier<V> for ReferenceTier<V> {
    async fn read(&self, key: KeyRef<'_>) -> Result<Option<Found<V>>, CacheError> {
        Ok(self.get(key))
    }

    fn read_now(&self, key: KeyRef<'_>) -> Now<V> {
        self.get(key).map_or(Now::Miss, Now::Hit)
    }

    async fn write(
        &self,
        key: KeyRef<'_>,
        value: CacheValue<V>,
        condition: Condition,
    ) -> Result<WriteStatus, CacheError> {
        Ok(self.put(key, value, condition))
    }

    async fn remove(
        &self,
        key: KeyRef<'_>,
        condition: Condition,
    ) -> Result<DeleteStatus, CacheError> {
        Ok(self.delete(key, condition))
    }

    async fn read_many(&self, keys: &[KeyRef<'_>]) -> Result<Vec<Option<Found<V>>>, CacheError> {
        Ok(keys.iter().map(|key| self.get(*key)).collect())
    }

    async fn write_many(
        &self,
        entries: Vec<(Key, CacheValue<V>)>,
        condition: Condition,
    ) -> Result<Vec<WriteStatus>, CacheError> {
        let put = |(key, value): (Key, CacheValue<V>)| self.put(key.as_ref(), value, condition);
        Ok(entries.into_iter().map(put).collect())
    }

    async fn remove_many(
        &self,
        keys: &[KeyRef<'_>],
        condition: Condition,
    ) -> Result<Vec<DeleteStatus>, CacheError> {
        Ok(keys.iter().map(|key| self.delete(*key, condition)).collect())
    }

    async fn clear(&self) -> Result<(), CacheError> {
        self.lock().clear();
        Ok(())
    }

    async fn forget(&self, key: KeyRef<'_>, condition: Condition) -> Result<(), CacheError> {
        self.delete(key, condition);
        Ok(())
    }

    async fn forget_all(&self) -> Result<(), CacheError> {
        self.lock().clear();
        Ok(())
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
        let entries = self.lock().len();
        Some(TierUsage::new(u64::try_from(entries).unwrap_or(u64::MAX), 0, None))
    }

    fn tier_stats(&self) -> Vec<TierStats> {
        vec![TierStats::new(self.label.clone(), Tier::<V>::usage(self))]
    }

    fn on_repair(&self, _: &RepairListener) {}
}
