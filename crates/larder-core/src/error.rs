//! What every error of every contract answers: did it happen, and does repeating help?

use std::error::Error;
use std::fmt;

/// Any error that may cross threads, for source chains.
pub type BoxError = Box<dyn Error + Send + Sync + 'static>;

/// Whether a failed operation took effect.
///
/// Exhaustive on purpose: a caller has to think about both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums, reason = "callers must match both answers")]
pub enum Effect {
    /// It did not happen and will not happen later.
    NotApplied,
    /// It may have happened, or may yet happen.
    Unknown,
}

impl Effect {
    /// The word used on the wire: `not-applied` or `unknown`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotApplied => "not-applied",
            Self::Unknown => "unknown",
        }
    }

    /// The effect of two operations that were attempted together: known only if both are.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::NotApplied, Self::NotApplied) => Self::NotApplied,
            _ => Self::Unknown,
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether the same call may succeed when it is repeated unchanged.
///
/// Repeating after [`Effect::Unknown`] is safe only for idempotent operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Retry {
    /// Repeating gives the same error: something else has to change first.
    Never,
    /// The cause passes by itself: repeat with back-off.
    Later,
}

/// Implemented by every error of larder.
pub trait Failure: Error + Send + Sync + 'static {
    /// Whether the failed operation took effect.
    fn effect(&self) -> Effect;

    /// Whether repeating the same call helps.
    fn retry(&self) -> Retry;
}

/// What an acknowledged write survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(clippy::exhaustive_enums, reason = "an ordered scale; a new step would be a new contract")]
pub enum Durability {
    /// Nothing beyond the life of this process.
    Process,
    /// The loss of power of the machine that holds it.
    Power,
    /// The loss of that machine.
    Machine,
}

impl Durability {
    /// The word used in listings: `process`, `power` or `machine`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Power => "power",
            Self::Machine => "machine",
        }
    }
}

/// An error of the technology behind a backend, classified.
///
/// It starts as [`Effect::Unknown`] and [`Retry::Never`]: a failure that nobody has looked at is
/// never called harmless. The backend that knows better says so with [`BackendError::effect_is`]
/// and [`BackendError::retry_is`].
pub struct BackendError(Box<Inner>);

struct Inner {
    backend: &'static str,
    operation: &'static str,
    effect: Effect,
    retry: Retry,
    source: BoxError,
}

impl BackendError {
    /// An unclassified failure of `operation` in `backend`.
    pub fn new(
        backend: &'static str,
        operation: &'static str,
        source: impl Into<BoxError>,
    ) -> Self {
        Self(Box::new(Inner {
            backend,
            operation,
            effect: Effect::Unknown,
            retry: Retry::Never,
            source: source.into(),
        }))
    }

    /// The same error with a better known effect.
    #[must_use]
    pub fn effect_is(mut self, effect: Effect) -> Self {
        self.0.effect = effect;
        self
    }

    /// The same error with a better known answer to repeating.
    #[must_use]
    pub fn retry_is(mut self, retry: Retry) -> Self {
        self.0.retry = retry;
        self
    }

    /// The technology, such as `log` or `redis`.
    pub fn backend(&self) -> &'static str {
        self.0.backend
    }

    /// What was attempted, such as `store`.
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }
}

impl fmt::Debug for BackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackendError")
            .field("backend", &self.0.backend)
            .field("operation", &self.0.operation)
            .field("effect", &self.0.effect)
            .field("retry", &self.0.retry)
            .field("source", &self.0.source)
            .finish()
    }
}

impl fmt::Display for BackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failed in the {} backend", self.0.operation, self.0.backend)
    }
}

impl Error for BackendError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0.source)
    }
}

impl Failure for BackendError {
    fn effect(&self) -> Effect {
        self.0.effect
    }

    fn retry(&self) -> Retry {
        self.0.retry
    }
}

/// Writes an error and its sources on one line, outermost first: `a: b: c`.
///
/// For people: logs, command lines, HTTP bodies. A source that its parent already quotes is left
/// out.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_backend_error_is_unknown_and_never() {
        let error = BackendError::new("disk", "store", "odd");
        assert_eq!((error.effect(), error.retry()), (Effect::Unknown, Retry::Never));
    }

    #[test]
    fn two_effects_are_known_only_when_both_are() {
        assert_eq!(Effect::NotApplied.and(Effect::NotApplied), Effect::NotApplied);
        assert_eq!(Effect::NotApplied.and(Effect::Unknown), Effect::Unknown);
        assert_eq!(Effect::Unknown.and(Effect::NotApplied), Effect::Unknown);
    }

    #[test]
    fn the_chain_names_every_source_once() {
        let inner = BackendError::new("disk", "sync", "input/output error");
        let outer = BackendError::new("tiered", "store", inner);
        assert_eq!(
            chain(&outer),
            "store failed in the tiered backend: sync failed in the disk backend: \
             input/output error"
        );
    }
}
