//! Both layers at once; one success is enough.

use futures_util::future::join;
use larder_core::Failure;

use super::{CompositionWritePolicy, both};
use crate::compose::{
    CompositionError, LayerCall, Offload, Operation, Outcome, PolicyKey, WriteRequest,
};

/// Writes both layers at once, waits for both, and succeeds if at least one did. The default.
///
/// `Ok` promises that at least one layer that [counts](WriteRequest::counted) has the value; the
/// [`Outcome`] names the layer that does not. Allocates nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_structs, reason = "has nothing to set")]
pub struct OptimisticParallelWritePolicy;

impl CompositionWritePolicy for OptimisticParallelWritePolicy {
    fn needs_both(&self) -> bool {
        false
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
        let (l1, l2) = join(write_l1.call(), write_l2.call()).await;
        both::conclude(Operation::Write, &request, self.needs_both(), l1, l2)
    }
}
