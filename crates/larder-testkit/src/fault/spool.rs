use std::time::Instant;

use bytes::Bytes;
use larder_core::{
    Durability, EnumerateHandle, ListingSender, Spool, SpoolError, SpoolId, SpoolSender,
    SpoolStats, Timestamp,
};

use super::{Disturbance, Disturbed, Fault};

#[deny(clippy::missing_trait_methods)]
impl<S: Spool, D: Disturbance> Spool for Disturbed<S, D> {
    async fn load(&self, id: SpoolId) -> Result<Bytes, SpoolError> {
        self.meet("load", self.inner.load(id)).await
    }

    async fn load_many(&self, ids: &[SpoolId]) -> Vec<Result<Bytes, SpoolError>> {
        let mut faults = Vec::with_capacity(ids.len());
        for _ in ids {
            faults.push(self.disturbance.strike().await);
        }
        // One call for all, as without faults; reading changes nothing, so those that fail may reach the store.
        let answers = self.inner.load_many(ids).await;
        let met = |(fault, answer): (Option<Fault>, _)| match fault {
            Some(fault) => Err(fault.error("load_many").into()),
            None => answer,
        };
        faults.into_iter().zip(answers).map(met).collect()
    }

    async fn store(
        &self,
        id: SpoolId,
        data: Bytes,
        force_sync: bool,
        deadline: Option<Instant>,
    ) -> Result<(), SpoolError> {
        self.meet("store", self.inner.store(id, data, force_sync, deadline)).await
    }

    async fn store_many(
        &self,
        entries: Vec<(SpoolId, Bytes)>,
        force_sync: bool,
        deadline: Option<Instant>,
    ) -> Result<(), SpoolError> {
        self.meet("store_many", self.inner.store_many(entries, force_sync, deadline)).await
    }

    async fn remove(&self, id: SpoolId) -> Result<(), SpoolError> {
        self.meet("remove", self.inner.remove(id)).await
    }

    async fn remove_durable(&self, id: SpoolId) -> Result<(), SpoolError> {
        self.meet("remove_durable", self.inner.remove_durable(id)).await
    }

    async fn remove_many(&self, ids: Vec<SpoolId>, durable: bool) -> Result<(), SpoolError> {
        self.meet("remove_many", self.inner.remove_many(ids, durable)).await
    }

    fn enumerate(
        &self,
        sender: SpoolSender,
        start_time: Timestamp,
    ) -> Result<EnumerateHandle, SpoolError> {
        self.meet_now("enumerate")?;
        self.inner.enumerate(sender, start_time)
    }

    fn list(
        &self,
        sender: ListingSender,
        start_time: Timestamp,
    ) -> Result<EnumerateHandle, SpoolError> {
        self.meet_now("list")?;
        self.inner.list(sender, start_time)
    }

    async fn cleanup(&self) -> Result<(), SpoolError> {
        self.meet("cleanup", self.inner.cleanup()).await
    }

    /// Is never disturbed: a test has to be able to end.
    async fn shutdown(&self) -> Result<(), SpoolError> {
        self.inner.shutdown().await
    }

    async fn advise_low_memory(&self) -> Result<isize, SpoolError> {
        self.meet("advise_low_memory", self.inner.advise_low_memory()).await
    }

    async fn compact(&self) -> Result<(), SpoolError> {
        self.meet("compact", self.inner.compact()).await
    }

    fn unhealthy_reason(&self) -> Option<&'static str> {
        self.inner.unhealthy_reason()
    }

    async fn acknowledge(&self) -> Result<Vec<String>, SpoolError> {
        self.meet("acknowledge", self.inner.acknowledge()).await
    }

    async fn stats(&self) -> Result<SpoolStats, SpoolError> {
        self.meet("stats", self.inner.stats()).await
    }

    fn durability(&self) -> Durability {
        self.inner.durability()
    }
}
