//! What became of each layer in a write or a remove.

use larder_core::{DeleteStatus, LayerState};

use super::CompositionLayer;

/// What became of both layers, after a write or remove that succeeded as a whole.
///
/// `A` is what each layer answered: `()` unless the composite's layers say more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a layer that failed or was not tried has to be repaired"]
#[allow(clippy::exhaustive_structs, reason = "a composition has two layers")]
pub struct Outcome<E, A = ()> {
    /// The near layer.
    pub l1: LayerOutcome<E, A>,
    /// The far layer.
    pub l2: LayerOutcome<E, A>,
}

impl<E, A> Outcome<E, A> {
    /// What became of `layer`.
    pub const fn of(&self, layer: CompositionLayer) -> &LayerOutcome<E, A> {
        match layer {
            CompositionLayer::L1 => &self.l1,
            CompositionLayer::L2 => &self.l2,
        }
    }

    /// Whether both layers have confirmed.
    pub const fn is_complete(&self) -> bool {
        matches!((&self.l1, &self.l2), (LayerOutcome::Done(_), LayerOutcome::Done(_)))
    }

    /// The layers that did not take part and will not by themselves: somebody has to repair them.
    pub fn owing(&self) -> impl Iterator<Item = CompositionLayer> + use<E, A> {
        let owes = [(CompositionLayer::L1, self.l1.owes()), (CompositionLayer::L2, self.l2.owes())];
        owes.into_iter().filter_map(|(layer, owes)| owes.then_some(layer))
    }
}

impl<E> Outcome<E, DeleteStatus> {
    /// How many layers had the entry and removed it, as one status.
    pub fn deleted(&self) -> DeleteStatus {
        let of = |layer: &LayerOutcome<E, DeleteStatus>| match layer {
            LayerOutcome::Done(status) => *status,
            _ => DeleteStatus::Missing,
        };
        of(&self.l1).and(of(&self.l2))
    }
}

/// What became of one layer in a write or remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "callers must treat a layer that owes something")]
pub enum LayerOutcome<E, A = ()> {
    /// It confirmed.
    Done(A),
    /// It answered with this error.
    Failed(E),
    /// Nobody waits for its answer: it was not asked, or its call was dropped because it lost a
    /// race and the background refused it or was not wanted.
    ///
    /// A call that was dropped half-way may still have taken effect, so the layer counts neither as
    /// written nor as untouched.
    NotTried,
    /// Its call goes on in the background. A failure there is counted and reported.
    Background,
}

impl<E, A> LayerOutcome<E, A> {
    /// Whether the layer did not take part and will not by itself.
    pub const fn owes(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::NotTried)
    }

    /// The same without the answer or the error: what a status tells.
    pub const fn state(&self) -> LayerState {
        match self {
            Self::Done(_) => LayerState::Done,
            Self::Failed(_) => LayerState::Failed,
            Self::NotTried => LayerState::NotTried,
            Self::Background => LayerState::Background,
        }
    }

    /// The word used in events and headers: `done`, `failed`, `not-tried` or `background`.
    pub const fn as_str(&self) -> &'static str {
        self.state().as_str()
    }
}
