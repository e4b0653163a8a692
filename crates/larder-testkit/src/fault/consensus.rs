use larder_core::{
    CaSResult, Consensus, ConsensusError, Durability, KeyStream, SeqNo, VersionedData,
};

use super::{Disturbance, Disturbed, Fault};

#[deny(clippy::missing_trait_methods)]
impl<C: Consensus, D: Disturbance> Consensus for Disturbed<C, D> {
    /// Is never disturbed: a listing is for people.
    fn list_keys(&self) -> KeyStream {
        self.inner.list_keys()
    }

    async fn head(&self, key: &str) -> Result<Option<VersionedData>, ConsensusError> {
        self.meet("head", self.inner.head(key)).await
    }

    async fn compare_and_set(
        &self,
        key: &str,
        expected: Option<SeqNo>,
        new: VersionedData,
    ) -> Result<CaSResult, ConsensusError> {
        // What is wrong with the arguments is told before anything can fail.
        larder_core::consensus::check_compare_and_set(key, expected, &new)?;
        self.meet("compare_and_set", self.inner.compare_and_set(key, expected, new)).await
    }

    async fn scan(
        &self,
        key: &str,
        from: SeqNo,
        limit: usize,
    ) -> Result<Vec<VersionedData>, ConsensusError> {
        self.meet("scan", self.inner.scan(key, from, limit)).await
    }

    async fn truncate(&self, key: &str, seqno: SeqNo) -> Result<usize, ConsensusError> {
        self.meet("truncate", self.inner.truncate(key, seqno)).await
    }

    /// Hints are no promise anyway: one in so many that fail is never given.
    async fn changed(&self, key: &str, seen: Option<SeqNo>) {
        match self.disturbance.strike().await {
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
