use larder_core::{
    BackendError, CaSResult, Consensus, ConsensusError, Determinate, Durability, Effect,
    Failure as _, KeyStream, SeqNo, VersionedData,
};

use super::{Fault, Unreliable};

#[deny(clippy::missing_trait_methods)]
impl<C: Consensus> Consensus for Unreliable<C> {
    /// Never fails on purpose: a listing is for people.
    fn list_keys(&self) -> KeyStream {
        self.inner.list_keys()
    }

    async fn head(&self, key: &str) -> Result<Option<VersionedData>, ConsensusError> {
        self.disturb("head", self.inner.head(key)).await
    }

    async fn compare_and_set(
        &self,
        key: &str,
        expected: Option<SeqNo>,
        new: VersionedData,
    ) -> Result<CaSResult, ConsensusError> {
        // What is wrong with the arguments is told before anything can fail.
        larder_core::consensus::check_compare_and_set(key, expected, &new)?;
        self.disturb("compare_and_set", self.inner.compare_and_set(key, expected, new)).await
    }

    async fn scan(
        &self,
        key: &str,
        from: SeqNo,
        limit: usize,
    ) -> Result<Vec<VersionedData>, ConsensusError> {
        self.disturb("scan", self.inner.scan(key, from, limit)).await
    }

    async fn truncate(&self, key: &str, seqno: SeqNo) -> Result<usize, ConsensusError> {
        self.disturb("truncate", self.inner.truncate(key, seqno)).await
    }

    /// Hints are no promise anyway: one in so many that fail is never given.
    async fn changed(&self, key: &str, seen: Option<SeqNo>) {
        match self.faults.next() {
            None => self.inner.changed(key, seen).await,
            // It returns for nothing.
            Some(Fault::Before) => {}
            Some(Fault::Instead | Fault::After) => std::future::pending().await,
        }
    }

    fn durability(&self) -> Durability {
        self.inner.durability()
    }
}

impl<C> Unreliable<C> {
    async fn disturb<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, ConsensusError>>,
    ) -> Result<T, ConsensusError> {
        let Some(fault) = self.faults.next() else { return call.await };
        if fault == Fault::After {
            call.await?;
        }
        Err(classified(fault.error(operation)))
    }
}

fn classified(error: BackendError) -> ConsensusError {
    match error.effect() {
        Effect::NotApplied => Determinate::Backend(error).into(),
        Effect::Unknown => ConsensusError::Indeterminate(error),
    }
}
