//! A store some of whose calls do not end as they should.

use std::fmt;

use larder_core::{
    BackendError, CacheError, ConsensusError, Determinate, Effect, Failure as _, Retry, SpoolError,
};

/// A store that a [`Disturbance`] can come over: a cache tier, a spool or a consensus store, like what is in it.
///
/// What an error says of its effect is always true.
#[derive(Debug)]
pub struct Disturbed<S, D> {
    pub(super) inner: S,
    pub(super) disturbance: D,
}

/// Which calls of a store do not end as they should.
pub trait Disturbance: fmt::Debug + Send + Sync + 'static {
    /// No call can be disturbed now.
    fn is_calm(&self) -> bool;

    /// What becomes of the next call; `None`: nothing. It may let the call wait first.
    fn strike(&self) -> impl Future<Output = Option<Fault>> + Send {
        async { self.strike_now() }
    }

    /// The same for a call that cannot wait.
    fn strike_now(&self) -> Option<Fault>;
}

/// Where a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "there are no other places")]
pub enum Fault {
    /// It never reaches the store, and the error says so.
    Before,
    /// It never reaches the store, but the error does not know.
    Instead,
    /// It takes effect, and the answer is lost.
    After,
}

impl<S, D> Disturbed<S, D> {
    /// `inner`, as far as `disturbance` lets calls through.
    pub const fn by(disturbance: D, inner: S) -> Self {
        Self { inner, disturbance }
    }

    /// The store behind, which nothing disturbs.
    pub const fn inner(&self) -> &S {
        &self.inner
    }
}

impl<S, D: Disturbance> Disturbed<S, D> {
    pub(super) async fn meet<A, E: OfFault>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<A, E>>,
    ) -> Result<A, E> {
        let Some(fault) = self.disturbance.strike().await else { return call.await };
        if fault == Fault::After {
            call.await?;
        }
        Err(E::of_fault(fault.error(operation)))
    }

    /// For a call that does not wait: a fault keeps it from the store.
    pub(super) fn meet_now(&self, operation: &'static str) -> Result<(), BackendError> {
        self.disturbance.strike_now().map_or(Ok(()), |fault| Err(fault.error(operation)))
    }
}

impl Fault {
    /// The error of a call that failed here.
    pub(super) fn error(self, operation: &'static str) -> BackendError {
        let effect = match self {
            Self::Before => Effect::NotApplied,
            Self::Instead | Self::After => Effect::Unknown,
        };
        BackendError::new("disturbed", operation, "a fault on purpose")
            .effect_is(effect)
            .retry_is(Retry::Later)
    }
}

/// An error of a contract that a fault can be.
pub(super) trait OfFault {
    fn of_fault(error: BackendError) -> Self;
}

impl OfFault for CacheError {
    fn of_fault(error: BackendError) -> Self {
        error.into()
    }
}

impl OfFault for SpoolError {
    fn of_fault(error: BackendError) -> Self {
        error.into()
    }
}

impl OfFault for ConsensusError {
    fn of_fault(error: BackendError) -> Self {
        match error.effect() {
            Effect::NotApplied => Determinate::Backend(error).into(),
            Effect::Unknown => Self::Indeterminate(error),
        }
    }
}
