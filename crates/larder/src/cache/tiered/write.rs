//! What a write of one key and a write of many have in common: both layers, and one verdict a key.

use larder_core::{CacheError, Condition, KeyRef, LayerState, WriteStatus};

use super::layer::{Answer, Ticket};
use super::{Tiered, failure};
use crate::compose::{
    CompositionLayer, CompositionWritePolicy, LayerCall, LayerOutcome,
    OptimisticParallelWritePolicy, Outcome,
};

impl<L1, L2, R, W: CompositionWritePolicy> Tiered<L1, L2, R, W> {
    /// Writes to both layers as the policy says, as far as the condition lets it.
    pub(super) async fn write_both<A: Send + 'static>(
        &self,
        key: KeyRef<'_>,
        condition: Condition,
        l1: impl LayerCall<A, CacheError>,
        l2: impl LayerCall<A, CacheError>,
    ) -> Result<Outcome<CacheError, A>, CacheError> {
        let request = self.write_request(&key);
        let outcome = if matches!(condition, Condition::Always) || self.write.needs_both() {
            self.write.execute_with(request, l1, l2).await
        } else {
            // Whether a condition holds is decided by both layers, so nobody runs ahead.
            OptimisticParallelWritePolicy.execute_with(request, l1, l2).await
        };
        outcome.map_err(|error| failure("write", error))
    }
}

/// What a layer has answered, if it has.
pub(super) fn done<A>(of: &LayerOutcome<CacheError, A>) -> Option<&A> {
    match of {
        LayerOutcome::Done(answer) => Some(answer),
        LayerOutcome::Failed(_) | LayerOutcome::NotTried | LayerOutcome::Background => None,
    }
}

pub(super) fn states<A>(outcome: &Outcome<CacheError, A>) -> [LayerState; 2] {
    [outcome.l1.state(), outcome.l2.state()]
}

/// What the write of one key came to, from what each layer has answered and how its call ended.
pub(super) fn conclude(
    ticket: &Ticket,
    condition: Condition,
    answers: [Option<Answer>; 2],
    states: [LayerState; 2],
) -> WriteStatus {
    let applied = match answers {
        [Some(l1), Some(l2)] => reconcile(ticket, condition, l1, l2),
        [Some(one), None] | [None, Some(one)] => one.applied(),
        [None, None] => true,
    };
    for (layer, state) in [CompositionLayer::L1, CompositionLayer::L2].into_iter().zip(states) {
        if state == LayerState::Background {
            ticket.goes_on(layer);
        }
    }
    let written = if applied { WriteStatus::WRITTEN } else { WriteStatus::NOT_NEWER };
    written.with_layers(states[0], states[1])
}

/// Notes which layer to distrust after a conditional write that one layer made and the other
/// did not, and says whether the write counts as made.
fn reconcile(ticket: &Ticket, condition: Condition, l1: Answer, l2: Answer) -> bool {
    use CompositionLayer::{L1, L2};
    match (l1, l2) {
        (Answer::Owing, other) | (other, Answer::Owing) => return other.applied(),
        _ => {}
    }
    if l1.applied() == l2.applied() {
        return l1.applied();
    }
    if matches!(condition, Condition::IfNewerThan(_)) {
        // The other layer has a newer value, which this one must not hide.
        ticket.owe_undoing(if l1.applied() { L1 } else { L2 });
        return false;
    }
    if !l1.applied() {
        ticket.owe(L1);
    }
    true
}
