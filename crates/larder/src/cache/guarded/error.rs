//! Why a guard gives an error of its own.

use std::sync::Arc;
use std::time::Duration;

use larder_core::{BackendError, CacheError, Effect, Retry};

/// What a [`Guarded`](super::Guarded) tier itself has against a call: the source of its
/// [`CacheError::Backend`]. Repeating helps later, with each of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GuardError {
    /// There was no answer in time. Effect of a read `NotApplied`, otherwise `Unknown`.
    #[error("the cache tier {tier} gave no answer within {limit:?}")]
    TimedOut {
        /// The label of the tier.
        tier: Arc<str>,
        /// The limit of the call.
        limit: Duration,
    },
    /// The tier was not asked, because too many calls have failed. Effect `NotApplied`.
    #[error("the cache tier {tier} has failed too often: it is tried again in {retry_in:?}")]
    Open {
        /// The label of the tier.
        tier: Arc<str>,
        /// When the next call is let through; zero for a clear once the pause is over, because
        /// another call has to find out.
        retry_in: Duration,
    },
    /// The tier was not asked, because one call is finding out whether it works again. Effect
    /// `NotApplied`.
    #[error("the cache tier {tier} has failed too often: a call that tries it again is under way")]
    Probing {
        /// The label of the tier.
        tier: Arc<str>,
    },
}

impl GuardError {
    /// As the failure of `operation`.
    pub(super) fn of(self, operation: &'static str, effect: Effect) -> CacheError {
        BackendError::new("guarded", operation, self)
            .effect_is(effect)
            .retry_is(Retry::Later)
            .into()
    }
}
