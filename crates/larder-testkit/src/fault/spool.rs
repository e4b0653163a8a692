use std::time::Instant;

use bytes::Bytes;
use larder_core::{
    Durability, EnumerateHandle, ListingSender, Spool, SpoolError, SpoolId, SpoolSender,
    SpoolStats, Timestamp,
};

use super::{Fault, Unreliable};

#[deny(clippy::missing_trait_methods)]
impl<S: Spool> Spool for Unreliable<S> {
    async fn load(&self, id: SpoolId) -> Result<Bytes, SpoolError> {
        self.upset("load", self.inner.load(id)).await
    }

    async fn load_many(&self, ids: &[SpoolId]) -> Vec<Result<Bytes, SpoolError>> {
        let mut answers = self.inner.load_many(ids).await;
        for answer in &mut answers {
            if let Some(fault) = self.faults.next() {
                *answer = Err(fault.error("load_many").into());
            }
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
        self.upset("store", self.inner.store(id, data, force_sync, deadline)).await
    }

    async fn store_many(
        &self,
        entries: Vec<(SpoolId, Bytes)>,
        force_sync: bool,
        deadline: Option<Instant>,
    ) -> Result<(), SpoolError> {
        self.upset("store_many", self.inner.store_many(entries, force_sync, deadline)).await
    }

    async fn remove(&self, id: SpoolId) -> Result<(), SpoolError> {
        self.upset("remove", self.inner.remove(id)).await
    }

    async fn remove_durable(&self, id: SpoolId) -> Result<(), SpoolError> {
        self.upset("remove_durable", self.inner.remove_durable(id)).await
    }

    async fn remove_many(&self, ids: Vec<SpoolId>, durable: bool) -> Result<(), SpoolError> {
        self.upset("remove_many", self.inner.remove_many(ids, durable)).await
    }

    fn enumerate(
        &self,
        sender: SpoolSender,
        start_time: Timestamp,
    ) -> Result<EnumerateHandle, SpoolError> {
        match self.faults.next() {
            Some(fault) => Err(fault.error("enumerate").into()),
            None => self.inner.enumerate(sender, start_time),
        }
    }

    fn list(
        &self,
        sender: ListingSender,
        start_time: Timestamp,
    ) -> Result<EnumerateHandle, SpoolError> {
        match self.faults.next() {
            Some(fault) => Err(fault.error("list").into()),
            None => self.inner.list(sender, start_time),
        }
    }

    async fn cleanup(&self) -> Result<(), SpoolError> {
        self.upset("cleanup", self.inner.cleanup()).await
    }

    /// Never fails on purpose: a test has to be able to end.
    async fn shutdown(&self) -> Result<(), SpoolError> {
        self.inner.shutdown().await
    }

    async fn advise_low_memory(&self) -> Result<isize, SpoolError> {
        self.upset("advise_low_memory", self.inner.advise_low_memory()).await
    }

    async fn compact(&self) -> Result<(), SpoolError> {
        self.upset("compact", self.inner.compact()).await
    }

    fn unhealthy_reason(&self) -> Option<&'static str> {
        self.inner.unhealthy_reason()
    }

    async fn acknowledge(&self) -> Result<Vec<String>, SpoolError> {
        self.upset("acknowledge", self.inner.acknowledge()).await
    }

    async fn stats(&self) -> Result<SpoolStats, SpoolError> {
        self.upset("stats", self.inner.stats()).await
    }

    fn durability(&self) -> Durability {
        self.inner.durability()
    }
}

impl<S> Unreliable<S> {
    async fn upset<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, SpoolError>>,
    ) -> Result<T, SpoolError> {
        let Some(fault) = self.faults.next() else { return call.await };
        if fault == Fault::After {
            call.await?;
        }
        Err(fault.error(operation).into())
    }
}
