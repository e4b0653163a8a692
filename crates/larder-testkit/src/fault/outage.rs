//! A store that goes away when a test says so, and comes back.

use tokio::sync::watch;

use super::{Disturbance, Disturbed, Fault};

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

/// An outage that can come over stores: the switch, shared by its clones.
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
        Disturbed::by(self.clone(), store)
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

/// A store that an [`Outage`] can come over.
pub type Interrupted<S> = Disturbed<S, Outage>;

impl Disturbance for Outage {
    fn is_calm(&self) -> bool {
        self.trouble().is_none()
    }

    async fn strike(&self) -> Option<Fault> {
        if self.trouble() == Some(Trouble::Hangs) {
            self.is_over().await;
        }
        self.strike_now()
    }

    fn strike_now(&self) -> Option<Fault> {
        match self.trouble() {
            Some(Trouble::Refuses) => Some(Fault::Before),
            Some(Trouble::LosesAnswers) => Some(Fault::After),
            Some(Trouble::Hangs) | None => None,
        }
    }
}
