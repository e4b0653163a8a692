//! The two layers of a composition, and the calls that a policy may make to them.

use std::fmt;
use std::future::Future;

/// Which layer of a composition is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(clippy::exhaustive_enums, reason = "a composition has two layers; more are nested")]
pub enum CompositionLayer {
    /// The near layer: asked first, filled from the far one.
    L1,
    /// The far layer: larger, slower, usually shared.
    L2,
}

impl CompositionLayer {
    /// The word used in metrics, events and headers: `l1` or `l2`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::L1 => "l1",
            Self::L2 => "l2",
        }
    }

    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::L1 => Self::L2,
            Self::L2 => Self::L1,
        }
    }
}

impl fmt::Display for CompositionLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A call to one layer that has not been made yet.
///
/// A composite hands one per layer to a policy, and the policy decides whether, when and how to
/// make it. `A` is what the layer answers, `E` its error.
///
/// A policy makes each call at most once. A call that it never makes must have no effect, so do
/// the work inside the future, not while creating it.
pub trait LayerCall<A, E>: Send + Sync {
    /// The call, borrowing what it needs: no allocation, no copied key.
    fn call(&self) -> impl Future<Output = Result<A, E>> + Send;

    /// The same call, owning what it needs, so that it can outlive the policy in the background.
    ///
    /// Policies use it only for a call that they may have to hand to an
    /// [`Offload`](super::Offload). The background part of a policy counts and reports the answer
    /// but gives it to nobody: what else has to happen when the call ends late (a debt to note, a
    /// newer write to respect) belongs into this future.
    fn call_owned(&self) -> impl Future<Output = Result<A, E>> + Send + 'static;
}

/// A [`LayerCall`] from two closures: the borrowing call, then the owning one.
///
/// ```
/// use larder::compose::{Calls, LayerCall};
/// use std::sync::Arc;
///
/// # async fn example() {
/// let store = Arc::new(String::from("value"));
/// let call = Calls(
///     || async { Ok::<_, std::io::Error>(store.len()) },
///     || {
///         let store = Arc::clone(&store);
///         async move { Ok(store.len()) }
///     },
/// );
/// assert_eq!(call.call().await.ok(), Some(5));
/// # }
/// ```
#[derive(Clone, Copy)]
#[allow(clippy::exhaustive_structs, reason = "the two closures are all there is")]
pub struct Calls<B, O>(pub B, pub O);

impl<A, E, B, O, FB, FO> LayerCall<A, E> for Calls<B, O>
where
    B: Fn() -> FB + Send + Sync,
    O: Fn() -> FO + Send + Sync,
    FB: Future<Output = Result<A, E>> + Send,
    FO: Future<Output = Result<A, E>> + Send + 'static,
{
    fn call(&self) -> impl Future<Output = Result<A, E>> + Send {
        (self.0)()
    }

    fn call_owned(&self) -> impl Future<Output = Result<A, E>> + Send + 'static {
        (self.1)()
    }
}

impl<B, O> fmt::Debug for Calls<B, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Calls")
    }
}
