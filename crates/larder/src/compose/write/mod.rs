//! Write policies: when each layer is written, and what counts as a success.

use std::fmt;
use std::future::Future;

use larder_core::Failure;

use super::{CompositionError, LayerCall, Offload, Outcome, PolicyKey, WriteRequest};

mod any;
mod both;
mod optimistic_parallel;
mod race;
mod sequential;

pub use any::AnyWritePolicy;
pub use both::remove_both;
pub use optimistic_parallel::OptimisticParallelWritePolicy;
pub use race::RaceWritePolicy;
pub use sequential::SequentialWritePolicy;

/// Decides when each layer is written and what counts as a success.
///
/// A policy is control flow only: it holds no state of its own and knows nothing of what is
/// stored. The outcome of every policy:
///
/// | L1, L2 | Sequential | OptimisticParallel | Race |
/// |---|---|---|---|
/// | ok, ok | `Ok` | `Ok` | `Ok` after the first; the other [`Background`] or dropped |
/// | ok, err | `Err`, L1 holds the value | `Ok`, L2 [`Failed`] | `Ok`; L2's failure is counted and reported |
/// | err, ok | `Err`, L2 not written | `Ok`, L1 [`Failed`] | `Ok` after waiting for L2 |
/// | err, err | `Err` of L1, L2 not written | `Err` of both | `Err` of both |
///
/// `Ok` promises: Sequential, both layers have it; OptimisticParallel, at least one layer that
/// [counts](WriteRequest::counted) has it; Race, the same, and the other follows unless it fails.
/// `Err` never promises absence.
///
/// [`Background`]: super::LayerOutcome::Background
/// [`Failed`]: super::LayerOutcome::Failed
pub trait CompositionWritePolicy: fmt::Debug + Send + Sync + 'static {
    /// Whether success needs both layers. Removes follow it as well: see [`remove_both`].
    fn needs_both(&self) -> bool;

    /// Writes through both layers; `A` is what a layer answers to a write.
    ///
    /// # Errors
    /// [`CompositionError`] as in the table above. Its effect is [`larder_core::Effect::Unknown`]
    /// as soon as one layer has changed.
    ///
    /// # Cancel safety
    /// Dropping the future drops the calls that it has made and not yet handed to the background:
    /// each layer may have been written or not.
    fn execute_with<K, A, E, O>(
        &self,
        request: WriteRequest<'_, K, O>,
        write_l1: impl LayerCall<A, E>,
        write_l2: impl LayerCall<A, E>,
    ) -> impl Future<Output = Result<Outcome<E, A>, CompositionError<E>>> + Send
    where
        K: PolicyKey + ?Sized,
        A: Send + 'static,
        E: Failure,
        O: Offload;
}
