use std::time::Instant;

use bytes::Bytes;
use larder_core::{
    Durability, Effect, EnumerateHandle, ListingSender, Spool, SpoolError, SpoolId, SpoolSender,
    SpoolStats, Timestamp,
};

use super::{Interrupted, Trouble, failure};

#[deny(clippy::missing_trait_methods)]
impl<S: Spool> Spool for Interrupted<S> {
    async fn load(&self, id: SpoolId) -> Result<Bytes, SpoolError> {
        self.through("load", self.inner.load(id)).await
    }

    async fn load_many(&self, ids: &[SpoolId]) -> Vec<Result<Bytes, SpoolError>> {
        let mut answers = Vec::with_capacity(ids.len());
        for id in ids {
            answers.push(self.load(*id).await);
        }
        answers
    }

    async fn store(
        &self,
        id: SpoolId,
        data: Bytes,
        force_sync: bool,
        deadline: Option<Instant>,
    ) -> Result<(), SpoolError> {
        self.through("store", self.inner.store(id, data, force_sync, deadline)).await
    }

    async fn store_many(
        &self,
        entries: Vec<(SpoolId, Bytes)>,
        force_sync: bool,
        deadline: Option<Instant>,
    ) -> Result<(), SpoolError> {
        self.through("store_many", self.inner.store_many(entries, force_sync, deadline)).await
    }

    async fn remove(&self, id: SpoolId) -> Result<(), SpoolError> {
        self.through("remove", self.inner.remove(id)).await
    }

    async fn remove_durable(&self, id: SpoolId) -> Result<(), SpoolError> {
        self.through("remove_durable", self.inner.remove_durable(id)).await
    }

    async fn remove_many(&self, ids: Vec<SpoolId>, durable: bool) -> Result<(), SpoolError> {
        self.through("remove_many", self.inner.remove_many(ids, durable)).await
    }

    fn enumerate(
        &self,
        sender: SpoolSender,
        start_time: Timestamp,
    ) -> Result<EnumerateHandle, SpoolError> {
        match self.outage.trouble() {
            Some(Trouble::Refuses) => Err(failure("enumerate", Effect::NotApplied).into()),
            _ => self.inner.enumerate(sender, start_time),
        }
    }

    fn list(
        &self,
        sender: ListingSender,
        start_time: Timestamp,
    ) -> Result<EnumerateHandle, SpoolError> {
        match self.outage.trouble() {
            Some(Trouble::Refuses) => Err(failure("list", Effect::NotApplied).into()),
            _ => self.inner.list(sender, start_time),
        }
    }

    async fn cleanup(&self) -> Result<(), SpoolError> {
        self.through("cleanup", self.inner.cleanup()).await
    }

    /// Is never in trouble: a test has to be able to end.
    async fn shutdown(&self) -> Result<(), SpoolError> {
        self.inner.shutdown().await
    }

    async fn advise_low_memory(&self) -> Result<isize, SpoolError> {
        self.through("advise_low_memory", self.inner.advise_low_memory()).await
    }

    async fn compact(&self) -> Result<(), SpoolError> {
        self.through("compact", self.inner.compact()).await
    }

    fn unhealthy_reason(&self) -> Option<&'static str> {
        self.inner.unhealthy_reason()
    }

    async fn acknowledge(&self) -> Result<Vec<String>, SpoolError> {
        self.through("acknowledge", self.inner.acknowledge()).await
    }

    async fn stats(&self) -> Result<SpoolStats, SpoolError> {
        self.through("stats", self.inner.stats()).await
    }

    fn durability(&self) -> Durability {
        self.inner.durability()
    }
}
