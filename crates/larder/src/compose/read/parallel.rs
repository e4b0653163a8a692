//! Both layers at once, for the fresher value.

use futures_util::future::join;
use larder_core::Failure;

use super::{Answer, CompositionReadPolicy, ReadResult, conclude};
use crate::compose::freshness::prefer;
use crate::compose::{CompositionError, Freshness, LayerCall, Offload, PolicyKey, ReadRequest};

/// Asks both layers at once, waits for both and returns the fresher value; see [`prefer`].
///
/// As slow as the slower layer. Allocates nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_structs, reason = "has nothing to set")]
pub struct ParallelReadPolicy;

impl CompositionReadPolicy for ParallelReadPolicy {
    fn l1_hit_decides(&self, _stale: bool) -> bool {
        false
    }

    async fn execute_with<K, T, E, O>(
        &self,
        request: ReadRequest<'_, K, O>,
        read_l1: impl LayerCall<Option<T>, E>,
        read_l2: impl LayerCall<Option<T>, E>,
    ) -> Result<ReadResult<T, E>, CompositionError<E>>
    where
        K: PolicyKey + ?Sized,
        T: Freshness,
        E: Failure,
        O: Offload,
    {
        let (l1, l2) = join(read_l1.call(), read_l2.call()).await;
        // Judged when both are there: the first answer may have expired while the second one came.
        let (l1, l2) = (Answer::judge(l1, &request), Answer::judge(l2, &request));
        conclude(&request, l1, l2, |l1, l2| prefer(l1, l2, request.clock.now()))
    }
}
