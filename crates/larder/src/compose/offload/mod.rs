//! Background work: what goes on after its caller has left.

use std::error::Error;
use std::fmt;
use std::future::Future;

use bytes::Bytes;

mod any;
mod bounded;
mod disabled;

pub use any::AnyOffload;
pub use bounded::{BoundedOffload, Drained, OffloadLimits, OffloadStats};
pub use disabled::DisabledOffload;

/// Runs tasks in the background. Clones are handles of the same executor.
///
/// An implementation bounds how much it takes, keeps a panicking task from harming anything else,
/// and never drops a task in silence: what it does not take, it gives back.
pub trait Offload: Clone + fmt::Debug + Send + Sync + 'static {
    /// Starts `task` in the background, unless work with the same key is running.
    ///
    /// Returns at once. [`Registered::AlreadyRunning`] means that `task` was dropped, because equal
    /// work is under way; a key from [`OffloadKey::unique`] never gives that answer.
    ///
    /// # Errors
    /// [`Refused`] with the task, untouched, when it was not taken. Nothing was started (effect
    /// `NotApplied`); the caller may run it itself, or say that it did not happen.
    fn register<F>(&self, key: OffloadKey, task: F) -> Result<Registered, Refused<F>>
    where
        F: Future<Output = ()> + Send + 'static;
}

/// What became of a task that an [`Offload`] took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums, reason = "started or not")]
pub enum Registered {
    /// It runs.
    Started,
    /// Work with the same key was running already, and the task was dropped.
    AlreadyRunning,
}

/// The name of background work: two tasks with equal keys are the same work.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct OffloadKey {
    kind: &'static str,
    scope: u64,
    /// `None`: equal to nothing, not even to another unique one.
    name: Option<Bytes>,
}

impl OffloadKey {
    /// Work of this `kind` on `name`: while it runs, equal work is not started again.
    ///
    /// Only for work whose repetition is pointless, such as a refresh. Never for writes: two writes
    /// of one key carry different values.
    pub fn keyed(kind: &'static str, name: &[u8]) -> Self {
        Self { kind, scope: 0, name: Some(Bytes::copy_from_slice(name)) }
    }

    /// Work of this `kind` that is like no other.
    pub const fn unique(kind: &'static str) -> Self {
        Self { kind, scope: 0, name: None }
    }

    /// The same name within `scope`: equal names of two scopes are different work.
    #[must_use]
    pub const fn within(mut self, scope: u64) -> Self {
        self.scope = scope;
        self
    }

    /// What sort of work it is; a metric label.
    pub const fn kind(&self) -> &'static str {
        self.kind
    }

    /// Whether equal work must not run twice at a time.
    pub const fn is_keyed(&self) -> bool {
        self.name.is_some()
    }
}

impl fmt::Debug for OffloadKey {
    /// Names the kind only: keys of stored data do not belong into logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OffloadKey")
            .field("kind", &self.kind)
            .field("scope", &self.scope)
            .field("keyed", &self.is_keyed())
            .finish_non_exhaustive()
    }
}

/// A task that was not taken, and why.
#[must_use = "the task inside did not run"]
pub struct Refused<F> {
    /// The task, never polled by the offload.
    pub task: F,
    /// Why it was refused.
    pub reason: RefusedReason,
}

/// Why an [`Offload`] refused a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusedReason {
    /// As many tasks as are allowed are running.
    Full,
    /// The offload is being drained.
    ShuttingDown,
    /// There is no background here.
    Disabled,
    /// The caller is outside of the runtime that would run the task.
    NoRuntime,
}

impl RefusedReason {
    /// The word used in metrics and events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::ShuttingDown => "shutting-down",
            Self::Disabled => "disabled",
            Self::NoRuntime => "no-runtime",
        }
    }
}

impl fmt::Display for RefusedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "as many tasks as allowed are running: retry later or raise the limit",
            Self::ShuttingDown => "it is shutting down",
            Self::Disabled => "it is disabled",
            Self::NoRuntime => "the caller is outside of a tokio runtime",
        })
    }
}

impl<F> fmt::Debug for Refused<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refused").field("reason", &self.reason).finish_non_exhaustive()
    }
}

impl<F> fmt::Display for Refused<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the background refused a task: {}", self.reason)
    }
}

impl<F> Error for Refused<F> {}
