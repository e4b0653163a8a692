//! A store that goes away when a test says so, and comes back.

mod spool;
mod tier;

use larder_core::{BackendError, Effect, Retry};
use tokio::sync::watch;

/// What is the matter with a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "a store has to answer to each")]
pub enum Trouble {
    /// Every call is an error that did not happen.
    Refuses,
    /// Every call is carried out, and its answer is lost: an error that may have happened.
    LosesAnswers,
    /// No call is carried out or answered before the outage is over.
    Hangs,
}

/// An outage that can come over cache tiers and spools: the switch, shared by its clones.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use bytes::Bytes;
/// use larder_core::reference::ReferenceTier;
/// use larder_core::{KeyRef, SystemClock, Tier};
/// use larder_testkit::{Outage, Trouble};
///
/// let outage = Outage::default();
/// let store = ReferenceTier::<Bytes>::new("server", SystemClock::shared());
/// let tier = outage.over(store);
/// let key = KeyRef::new("k").expect("a key");
/// outage.begin(Trouble::Refuses);
/// assert!(Tier::<Bytes>::read(&tier, key).await.is_err());
/// outage.end();
/// assert!(Tier::<Bytes>::read(&tier, key).await.is_ok());
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Outage {
    trouble: watch::Sender<Option<Trouble>>,
}

impl Default for Outage {
    fn default() -> Self {
        Self { trouble: watch::Sender::new(None) }
    }
}

impl Outage {
    /// From now on every call of the stores behind it is in trouble.
    pub fn begin(&self, trouble: Trouble) {
        self.trouble.send_replace(Some(trouble));
    }

    /// From now on every call is carried out, and those that hang go on.
    pub fn end(&self) {
        self.trouble.send_replace(None);
    }

    /// `store` as it is seen by who has the outage. Other ways to the same one have none.
    pub fn over<S>(&self, store: S) -> Interrupted<S> {
        Interrupted { inner: store, outage: self.clone() }
    }

    fn trouble(&self) -> Option<Trouble> {
        *self.trouble.borrow()
    }

    async fn is_over(&self) {
        let mut trouble = self.trouble.subscribe();
        // The sender is alive: it is ours.
        drop(trouble.wait_for(|trouble| *trouble != Some(Trouble::Hangs)).await);
    }
}

/// A cache tier or spool that an [`Outage`] can come over.
#[derive(Debug)]
pub struct Interrupted<S> {
    inner: S,
    outage: Outage,
}

impl<S> Interrupted<S> {
    async fn through<A, E: From<BackendError>>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<A, E>> + Send,
    ) -> Result<A, E> {
        if self.outage.trouble() == Some(Trouble::Hangs) {
            self.outage.is_over().await;
        }
        match self.outage.trouble() {
            Some(Trouble::Refuses) => Err(failure(operation, Effect::NotApplied).into()),
            Some(Trouble::LosesAnswers) => {
                drop(call.await);
                Err(failure(operation, Effect::Unknown).into())
            }
            Some(Trouble::Hangs) | None => call.await,
        }
    }
}

fn failure(operation: &'static str, effect: Effect) -> BackendError {
    let error = BackendError::new("outage", operation, "an outage on purpose");
    error.effect_is(effect).retry_is(Retry::Later)
}
