//! Why there is no value although a loader was asked.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use larder_core::{BoxError, Effect, Failure, Retry};

use crate::compose::RefusedReason;

/// Why [`Cache::get_or_load`](crate::cache::Cache::get_or_load) has no value to give.
///
/// Everybody who waited for the same load gets the same error; nobody else does: it is not kept,
/// and the next call loads again. Effect `NotApplied`: nothing was put into the cache.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum LoadError {
    /// The loader failed. Its error is the source; [`LoadError::loader_error`] gives it by type.
    /// Retry `Never`: what it means is the loader's business.
    Loader(Arc<dyn Error + Send + Sync + 'static>),
    /// The loader panicked. Retry `Never`.
    Panicked,
    /// The load has not ended within the hard timeout. Retry `Later`.
    TimedOut {
        /// The timeout.
        after: Duration,
    },
    /// The background takes no more loads: it is full, shutting down or not there. Retry `Later`,
    /// but `Never` outside of a tokio runtime.
    Refused(RefusedReason),
    /// As many callers as are allowed wait for loads. Retry `Later`.
    TooManyWaiters {
        /// How many are allowed.
        waiters_max: usize,
    },
    /// The load was cut off from outside: its background or runtime ended. Retry `Later`.
    CutOff,
}

impl LoadError {
    pub(in crate::cache) fn loader(error: impl Into<BoxError>) -> Self {
        Self::Loader(error.into().into())
    }

    /// The error of the loader, if it is an `E`.
    pub fn loader_error<E: Error + 'static>(&self) -> Option<&E> {
        match self {
            Self::Loader(error) => error.downcast_ref(),
            _ => None,
        }
    }

    /// The word used in metrics and events.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Loader(_) => "failed",
            Self::Panicked => "panicked",
            Self::TimedOut { .. } => "timed-out",
            Self::Refused(_) => "refused",
            Self::TooManyWaiters { .. } => "too-many-waiters",
            Self::CutOff => "cut-off",
        }
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loader(_) => f.write_str("the loader failed"),
            Self::Panicked => f.write_str("the loader panicked"),
            Self::TimedOut { after } => write!(f, "the load has not ended within {after:?}"),
            Self::Refused(reason) => write!(f, "the load was not started: {reason}"),
            Self::TooManyWaiters { waiters_max } => {
                write!(f, "as many callers as allowed wait for loads: waiters_max={waiters_max}")
            }
            Self::CutOff => f.write_str("the load was cut off before it ended"),
        }
    }
}

impl Error for LoadError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Loader(error) => Some(&**error),
            _ => None,
        }
    }
}

impl Failure for LoadError {
    fn effect(&self) -> Effect {
        Effect::NotApplied
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Loader(_)
            | Self::Panicked
            | Self::Refused(RefusedReason::Disabled | RefusedReason::NoRuntime) => Retry::Never,
            Self::Refused(_)
            | Self::TimedOut { .. }
            | Self::TooManyWaiters { .. }
            | Self::CutOff => Retry::Later,
        }
    }
}
