//! How an operation over two layers fails.

use std::error::Error;
use std::fmt;

use larder_core::error::chain;
use larder_core::{Effect, Failure, Retry};

use super::CompositionLayer;

/// The failure of an operation over two layers.
///
/// Every layer's error is in the source chain: after [`BothLayersFailed`](Self::BothLayersFailed)
/// comes [`BothFailed`], which stands for the error of the first layer (and tells its causes), then
/// the error of the second layer and its causes.
#[derive(Debug)]
#[allow(clippy::exhaustive_enums, reason = "one layer or both: callers match them")]
pub enum CompositionError<E> {
    /// One layer failed, and that decided.
    Layer {
        /// The layer that failed.
        layer: CompositionLayer,
        /// Its error.
        error: E,
        /// What the operation did in the other layer.
        other: OtherLayer,
    },
    /// Both layers failed.
    BothLayersFailed(BothFailed<E>),
}

/// What an operation that failed in one layer did in the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums, reason = "callers must treat a half-done operation")]
pub enum OtherLayer {
    /// Nothing: it was only read, or not asked.
    Untouched,
    /// All it was asked to: it holds the new value, or has removed the old one.
    Changed,
}

/// The errors of both layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "a composition has two layers")]
pub struct BothFailed<E> {
    /// The error of the near layer: usually the cause.
    pub l1: E,
    /// The error of the far layer.
    pub l2: E,
}

impl<E> CompositionError<E> {
    /// The failure of one layer that decided, with nothing changed in the other.
    pub const fn layer(layer: CompositionLayer, error: E) -> Self {
        Self::Layer { layer, error, other: OtherLayer::Untouched }
    }

    /// The failure of one layer that decided, after the other one has changed.
    pub const fn half_done(layer: CompositionLayer, error: E) -> Self {
        Self::Layer { layer, error, other: OtherLayer::Changed }
    }

    /// The failure of both layers.
    pub const fn both(l1: E, l2: E) -> Self {
        Self::BothLayersFailed(BothFailed { l1, l2 })
    }

    /// The error of `layer`, if it has one.
    pub fn of(&self, layer: CompositionLayer) -> Option<&E> {
        match (self, layer) {
            (Self::Layer { layer: failed, error, .. }, asked) => {
                (*failed == asked).then_some(error)
            }
            (Self::BothLayersFailed(both), CompositionLayer::L1) => Some(&both.l1),
            (Self::BothLayersFailed(both), CompositionLayer::L2) => Some(&both.l2),
        }
    }

    /// The same failure with other layer errors, for a composite whose own error differs.
    pub fn map<F>(self, mut change: impl FnMut(CompositionLayer, E) -> F) -> CompositionError<F> {
        match self {
            Self::Layer { layer, error, other } => {
                CompositionError::Layer { layer, error: change(layer, error), other }
            }
            Self::BothLayersFailed(BothFailed { l1, l2 }) => CompositionError::both(
                change(CompositionLayer::L1, l1),
                change(CompositionLayer::L2, l2),
            ),
        }
    }
}

impl<E: Failure> Failure for CompositionError<E> {
    /// Known not to have happened only if that is so in every layer that was asked.
    fn effect(&self) -> Effect {
        match self {
            Self::Layer { other: OtherLayer::Changed, .. } => Effect::Unknown,
            Self::Layer { error, .. } => error.effect(),
            Self::BothLayersFailed(both) => both.effect(),
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Layer { error, .. } => error.retry(),
            Self::BothLayersFailed(both) => both.retry(),
        }
    }
}

impl<E> fmt::Display for CompositionError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Layer { layer, other: OtherLayer::Untouched, .. } => {
                write!(f, "layer {layer} failed")
            }
            Self::Layer { layer, other: OtherLayer::Changed, .. } => {
                write!(f, "layer {layer} failed after layer {} had changed", layer.other())
            }
            Self::BothLayersFailed(_) => f.write_str("both layers failed"),
        }
    }
}

impl<E: Error + 'static> Error for CompositionError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Layer { error, .. } => Some(error),
            Self::BothLayersFailed(both) => Some(both),
        }
    }
}

impl<E: Failure> Failure for BothFailed<E> {
    fn effect(&self) -> Effect {
        self.l1.effect().and(self.l2.effect())
    }

    /// Repeating helps if it may help in either layer.
    fn retry(&self) -> Retry {
        match self.l1.retry() {
            Retry::Later => Retry::Later,
            _ => self.l2.retry(),
        }
    }
}

impl<E: Error + 'static> fmt::Display for BothFailed<E> {
    /// The error of the first layer and its causes. They have to be told here, because the chain
    /// goes on with the second layer.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&chain(&self.l1))
    }
}

impl<E: Error + 'static> Error for BothFailed<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.l2)
    }
}
