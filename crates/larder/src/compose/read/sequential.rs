//! One layer after the other.

use std::cmp::Ordering;

use larder_core::Failure;

use super::{Answer, CompositionReadPolicy, ReadResult, conclude};
use crate::compose::freshness::{is_due, order_of_writes};
use crate::compose::{
    CompositionError, CompositionLayer, Freshness, LayerCall, Offload, PolicyKey, ReadRequest,
};

/// Asks L1, and L2 only when L1 did not hit or has a stale value only. The default.
///
/// Beside a stale value of L1, L2's counts if it is fresh; otherwise L1's is returned, also when
/// L2 fails (the failure is then in [`ReadResult::degraded`]). Versions come first: when both
/// values carry one and they differ, the newer write is returned, stale or not, so that a read
/// never goes back behind a write that the near layer has seen.
///
/// Allocates nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_structs, reason = "has nothing to set")]
pub struct SequentialReadPolicy;

impl CompositionReadPolicy for SequentialReadPolicy {
    fn l1_hit_decides(&self, stale: bool) -> bool {
        !stale
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
        let l1 = match Answer::judge(read_l1.call().await, &request) {
            Answer::Hit(value) if !is_due(&value, request.clock) => {
                return Ok(ReadResult::hit(value, CompositionLayer::L1));
            }
            other => other,
        };
        let l2 = Answer::judge(read_l2.call().await, &request);
        conclude(&request, l1, l2, |stale, value| {
            let l2_wins = match order_of_writes(stale, value) {
                Some(Ordering::Less) => true,
                Some(Ordering::Greater) => false,
                Some(Ordering::Equal) | None => !is_due(value, request.clock),
            };
            if l2_wins { CompositionLayer::L2 } else { CompositionLayer::L1 }
        })
    }
}
