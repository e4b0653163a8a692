//! One layer after the other; both have to succeed.

use larder_core::Failure;

use super::CompositionWritePolicy;
use crate::compose::{
    CompositionError, CompositionLayer, LayerCall, LayerOutcome, Offload, Operation, Outcome,
    PolicyKey, WriteRequest,
};

/// Writes L1, then L2; an error ends it.
///
/// `Ok` promises that both layers have the value, so it does not matter which of them counts. An
/// error of L1 leaves L2 untouched; after an error of L2, L1 holds the new value. Allocates
/// nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_structs, reason = "has nothing to set")]
pub struct SequentialWritePolicy;

impl CompositionWritePolicy for SequentialWritePolicy {
    fn needs_both(&self) -> bool {
        true
    }

    async fn execute_with<K, A, E, O>(
        &self,
        request: WriteRequest<'_, K, O>,
        write_l1: impl LayerCall<A, E>,
        write_l2: impl LayerCall<A, E>,
    ) -> Result<Outcome<E, A>, CompositionError<E>>
    where
        K: PolicyKey + ?Sized,
        A: Send + 'static,
        E: Failure,
        O: Offload,
    {
        let l1 = write_l1.call().await.map_err(|error| {
            let error = CompositionError::layer(CompositionLayer::L1, error);
            request.observer.failed(Operation::Write, &error);
            error
        })?;
        let l2 = write_l2.call().await.map_err(|error| {
            let error = CompositionError::half_done(CompositionLayer::L2, error);
            request.observer.failed(Operation::Write, &error);
            error
        })?;
        request.observer.complete(Operation::Write);
        Ok(Outcome { l1: LayerOutcome::Done(l1), l2: LayerOutcome::Done(l2) })
    }
}
