//! Read policies: when each layer is asked, and whose answer counts.

use std::fmt;
use std::future::Future;

use larder_core::Failure;

use super::freshness::is_expired;
use super::{
    CompositionError, CompositionLayer, Freshness, LayerCall, Offload, Operation, PolicyKey,
    ReadRequest, UnknownPolicy,
};

mod any;
mod parallel;
mod race;
mod sequential;

pub use any::AnyReadPolicy;
pub use parallel::ParallelReadPolicy;
pub use race::RaceReadPolicy;
pub use sequential::SequentialReadPolicy;

/// Decides when each layer is read and whose answer counts.
///
/// A policy is control flow only: it holds no state of its own and knows nothing of what is
/// stored. The outcome of every policy, with H = hit, M = miss (nothing there, or only an expired
/// value), E = error:
///
/// | L1, L2 | Sequential | Race | Parallel |
/// |---|---|---|---|
/// | H, * | L1's; L2 is not asked unless L1's is stale | the first that hits | H,H: the fresher; else L1's |
/// | M,H and E,H | L2's | L2's | L2's |
/// | M,M | none | none | none |
/// | M,E and E,M | [`OnLayerError`] | same | same |
/// | E,E | [`CompositionError::BothLayersFailed`] | same | same |
///
/// No error of a layer is silent: it is in the result, in a counter and in an event.
///
/// Write your own as a plain `async fn execute_with`, and report failures through
/// [`ReadRequest::observer`].
pub trait CompositionReadPolicy: fmt::Debug + Send + Sync + 'static {
    /// Whether a hit that L1 has at hand decides, so that the composite may return it without
    /// making a future; `stale` says whether the value is due for a refresh.
    fn l1_hit_decides(&self, stale: bool) -> bool;

    /// Reads through both layers.
    ///
    /// # Errors
    /// [`CompositionError`] when no layer could answer, or when one could not and
    /// [`OnLayerError::Fail`] is asked for. Its effect and retry are those of the layers' errors.
    ///
    /// # Cancel safety
    /// Dropping the future drops the calls that it has made; none of them was handed to the
    /// background before the policy had decided.
    fn execute_with<K, T, E, O>(
        &self,
        request: ReadRequest<'_, K, O>,
        read_l1: impl LayerCall<Option<T>, E>,
        read_l2: impl LayerCall<Option<T>, E>,
    ) -> impl Future<Output = Result<ReadResult<T, E>, CompositionError<E>>> + Send
    where
        K: PolicyKey + ?Sized,
        T: Freshness,
        E: Failure,
        O: Offload;
}

/// The answer of a read through two layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "policies of users build it")]
pub struct ReadResult<T, E> {
    /// The value; `None` is a miss. Never an expired value.
    pub value: Option<T>,
    /// The layer that gave the value; L2 when there is none.
    pub source: CompositionLayer,
    /// The layer that failed on the way, with its error.
    pub degraded: Option<Degraded<E>>,
}

/// A layer that failed in a read that went on without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "policies of users build it")]
pub struct Degraded<E> {
    /// The layer.
    pub layer: CompositionLayer,
    /// Its error.
    pub error: E,
}

impl<T, E> ReadResult<T, E> {
    /// A value that `source` gave, with no failure on the way.
    pub const fn hit(value: T, source: CompositionLayer) -> Self {
        Self { value: Some(value), source, degraded: None }
    }

    /// No value in either layer.
    pub const fn miss() -> Self {
        Self { value: None, source: CompositionLayer::L2, degraded: None }
    }

    /// The same result, with the layer that failed on the way.
    #[must_use]
    pub fn without(mut self, layer: CompositionLayer, error: E) -> Self {
        self.degraded = Some(Degraded { layer, error });
        self
    }
}

/// What a read means when one layer misses and the other one fails.
///
/// The same under every policy: an outage must not change its meaning with the policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums, reason = "a miss or a failure")]
pub enum OnLayerError {
    /// A miss, reported and counted: right for caches, where a miss costs a load.
    #[default]
    Miss,
    /// The layer's error: right where "not found" would be believed, as in a spool.
    Fail,
}

impl OnLayerError {
    /// The word used in config: `miss` or `fail`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Miss => "miss",
            Self::Fail => "fail",
        }
    }
}

impl std::str::FromStr for OnLayerError {
    type Err = UnknownPolicy;

    fn from_str(text: &str) -> Result<Self, UnknownPolicy> {
        match text {
            "miss" => Ok(Self::Miss),
            "fail" => Ok(Self::Fail),
            _ => Err(UnknownPolicy::new("reaction to a layer's error", text, "miss, fail")),
        }
    }
}

/// What one layer said, with expired values sorted out.
enum Answer<T, E> {
    Hit(T),
    Miss,
    Failed(E),
}

impl<T: Freshness, E> Answer<T, E> {
    /// Judges what a layer said, at the time it said it.
    fn judge<K: ?Sized, O>(said: Result<Option<T>, E>, request: &ReadRequest<'_, K, O>) -> Self {
        match said {
            Ok(Some(value)) if is_expired(&value, request.clock) => Self::Miss,
            Ok(Some(value)) => Self::Hit(value),
            Ok(None) => Self::Miss,
            Err(error) => Self::Failed(error),
        }
    }
}

/// The outcome of a read when both layers have answered; `choose` decides between two hits.
///
/// The one place where the table of [`CompositionReadPolicy`] is written down, and where failures
/// are reported.
fn conclude<K, T, E, O>(
    request: &ReadRequest<'_, K, O>,
    l1: Answer<T, E>,
    l2: Answer<T, E>,
    choose: impl FnOnce(&T, &T) -> CompositionLayer,
) -> Result<ReadResult<T, E>, CompositionError<E>>
where
    K: ?Sized,
    E: Failure,
{
    use CompositionLayer::{L1, L2};
    let outcome = match (l1, l2) {
        (Answer::Hit(l1), Answer::Hit(l2)) => match choose(&l1, &l2) {
            L1 => Ok(ReadResult::hit(l1, L1)),
            L2 => Ok(ReadResult::hit(l2, L2)),
        },
        (Answer::Hit(value), Answer::Miss) => Ok(ReadResult::hit(value, L1)),
        (Answer::Miss, Answer::Hit(value)) => Ok(ReadResult::hit(value, L2)),
        (Answer::Hit(value), Answer::Failed(error)) => {
            Ok(ReadResult::hit(value, L1).without(L2, error))
        }
        (Answer::Failed(error), Answer::Hit(value)) => {
            Ok(ReadResult::hit(value, L2).without(L1, error))
        }
        (Answer::Miss, Answer::Miss) => Ok(ReadResult::miss()),
        (Answer::Miss, Answer::Failed(error)) => miss_beside(request, L2, error),
        (Answer::Failed(error), Answer::Miss) => miss_beside(request, L1, error),
        (Answer::Failed(l1), Answer::Failed(l2)) => Err(CompositionError::both(l1, l2)),
    };
    match &outcome {
        Ok(ReadResult { degraded: None, .. }) => request.observer.complete(Operation::Read),
        Ok(ReadResult { degraded: Some(Degraded { layer, error }), .. }) => {
            request.observer.degraded(Operation::Read, *layer, error);
        }
        Err(error) => request.observer.failed(Operation::Read, error),
    }
    outcome
}

/// One layer missed and `layer` failed.
fn miss_beside<K, T, E, O>(
    request: &ReadRequest<'_, K, O>,
    layer: CompositionLayer,
    error: E,
) -> Result<ReadResult<T, E>, CompositionError<E>>
where
    K: ?Sized,
{
    match request.on_layer_error {
        OnLayerError::Miss => Ok(ReadResult::miss().without(layer, error)),
        OnLayerError::Fail => Err(CompositionError::layer(layer, error)),
    }
}
