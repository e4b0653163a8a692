//! Both layers at once, and what their two answers come to.

use futures_util::future::join;
use larder_core::Failure;

use super::CompositionWritePolicy;
use crate::compose::{
    CompositionError, CompositionLayer, LayerCall, LayerOutcome, Operation, Outcome, WriteRequest,
};

/// Removes from both layers at once, whatever the policy, and waits for both.
///
/// Both, because a remove that stops half-way leaves a value for the next read. One layer failing
/// is a success whose [`Outcome`] names it, unless `policy` [needs both
/// layers](CompositionWritePolicy::needs_both) or the layer that confirmed does not
/// [count](WriteRequest::counted). [`Outcome::deleted`] sums up what was removed.
///
/// # Errors
/// [`CompositionError`]; an entry may be gone from one layer and not from the other.
///
/// # Cancel safety
/// Dropping the future drops both calls: each layer may have removed the entry or not.
pub async fn remove_both<W, K, A, E, O>(
    policy: &W,
    request: WriteRequest<'_, K, O>,
    remove_l1: impl LayerCall<A, E>,
    remove_l2: impl LayerCall<A, E>,
) -> Result<Outcome<E, A>, CompositionError<E>>
where
    W: CompositionWritePolicy,
    K: Sync + ?Sized,
    E: Failure,
    O: Sync,
{
    let (l1, l2) = join(remove_l1.call(), remove_l2.call()).await;
    conclude(Operation::Remove, &request, policy.needs_both(), l1, l2)
}

/// The outcome of a write or remove when both layers have answered.
///
/// The one place where the table of the tolerant policies is written down, and where their failures
/// are reported.
pub(super) fn conclude<K, A, E, O>(
    operation: Operation,
    request: &WriteRequest<'_, K, O>,
    needs_both: bool,
    l1: Result<A, E>,
    l2: Result<A, E>,
) -> Result<Outcome<E, A>, CompositionError<E>>
where
    K: ?Sized,
    E: Failure,
{
    use CompositionLayer::{L1, L2};
    let observer = request.observer;
    let (outcome, partial) = match (l1, l2) {
        (Ok(l1), Ok(l2)) => {
            observer.complete(operation);
            return Ok(Outcome { l1: LayerOutcome::Done(l1), l2: LayerOutcome::Done(l2) });
        }
        (Ok(l1), Err(error)) if request.counted.l1() && !needs_both => {
            (Ok(Outcome { l1: LayerOutcome::Done(l1), l2: LayerOutcome::Failed(error) }), L2)
        }
        (Err(error), Ok(l2)) if request.counted.l2() && !needs_both => {
            (Ok(Outcome { l1: LayerOutcome::Failed(error), l2: LayerOutcome::Done(l2) }), L1)
        }
        (Ok(_), Err(error)) => (Err(CompositionError::half_done(L2, error)), L2),
        (Err(error), Ok(_)) => (Err(CompositionError::half_done(L1, error)), L1),
        (Err(l1), Err(l2)) => (Err(CompositionError::both(l1, l2)), L1),
    };
    match &outcome {
        Ok(outcome) => {
            if let LayerOutcome::Failed(error) = outcome.of(partial) {
                observer.degraded(operation, partial, error);
            }
        }
        Err(error) => observer.failed(operation, error),
    }
    outcome
}
