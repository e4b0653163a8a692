use larder_core::{
    CacheError, CacheValue, Condition, Conditions, DeleteStatus, Durability, Found, Key, KeyRef,
    Now, RepairListener, Source, Tier, TierStats, TierUsage, WriteStatus,
};

use super::{Disturbance, Disturbed};

#[deny(clippy::missing_trait_methods)]
impl<V, T, D> Tier<V> for Disturbed<T, D>
where
    V: Clone + Send + Sync + 'static,
    T: Tier<V>,
    D: Disturbance,
{
    async fn read(&self, key: KeyRef<'_>) -> Result<Option<Found<V>>, CacheError> {
        self.meet("read", self.inner.read(key)).await
    }

    fn read_now(&self, key: KeyRef<'_>) -> Now<V> {
        if self.disturbance.is_calm() { self.inner.read_now(key) } else { Now::Ask }
    }

    async fn write(
        &self,
        key: KeyRef<'_>,
        value: CacheValue<V>,
        condition: Condition,
    ) -> Result<WriteStatus, CacheError> {
        self.meet("write", self.inner.write(key, value, condition)).await
    }

    async fn remove(
        &self,
        key: KeyRef<'_>,
        condition: Condition,
    ) -> Result<DeleteStatus, CacheError> {
        self.meet("remove", self.inner.remove(key, condition)).await
    }

    async fn read_many(&self, keys: &[KeyRef<'_>]) -> Result<Vec<Option<Found<V>>>, CacheError> {
        self.meet("read_many", self.inner.read_many(keys)).await
    }

    async fn write_many(
        &self,
        entries: Vec<(Key, CacheValue<V>)>,
        condition: Condition,
    ) -> Result<Vec<WriteStatus>, CacheError> {
        self.meet("write_many", self.inner.write_many(entries, condition)).await
    }

    async fn remove_many(
        &self,
        keys: &[KeyRef<'_>],
        condition: Condition,
    ) -> Result<Vec<DeleteStatus>, CacheError> {
        self.meet("remove_many", self.inner.remove_many(keys, condition)).await
    }

    async fn clear(&self) -> Result<(), CacheError> {
        self.meet("clear", self.inner.clear()).await
    }

    async fn forget(&self, key: KeyRef<'_>, condition: Condition) -> Result<(), CacheError> {
        self.meet("forget", self.inner.forget(key, condition)).await
    }

    async fn forget_all(&self) -> Result<(), CacheError> {
        self.meet("forget_all", self.inner.forget_all()).await
    }

    fn label(&self) -> &str {
        self.inner.label()
    }

    fn describe(&self, source: Source) -> String {
        self.inner.describe(source)
    }

    fn conditions(&self) -> Conditions {
        self.inner.conditions()
    }

    fn durability(&self) -> Durability {
        self.inner.durability()
    }

    fn usage(&self) -> Option<TierUsage> {
        self.inner.usage()
    }

    fn tier_stats(&self) -> Vec<TierStats> {
        self.inner.tier_stats()
    }

    fn on_repair(&self, listener: &RepairListener) {
        self.inner.on_repair(listener);
    }
}
