//! The bus within one process.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::bus::{Bus, BusError, Feed, Subscription, Topic};

/// A bus between the parts of one process, and the model of every other one.
///
/// Clones are handles of one bus. Publishing never waits: a frame is in every subscription when the
/// call returns.
///
/// ```
/// use larder_core::{Bus, MemoryBus, Topic};
/// use bytes::Bytes;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (bus, topic) = (MemoryBus::new(), Topic::new("news")?);
/// let mut subscription = bus.subscribe(&topic).await?;
/// bus.publish(&topic, Bytes::from("hello")).await?;
/// assert_eq!(subscription.next().await?, "hello");
/// # Ok(()) }
/// ```
#[derive(Clone, Default)]
pub struct MemoryBus(Arc<Mutex<HashMap<Topic, Vec<Feed>>>>);

impl MemoryBus {
    /// A bus that nobody listens on yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends every subscription, as when a server goes away. New ones can be made at once.
    pub fn cut(&self) {
        let feeds = std::mem::take(&mut *self.lock());
        drop(feeds);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Topic, Vec<Feed>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bus for MemoryBus {
    async fn publish(&self, topic: &Topic, frame: Bytes) -> Result<(), BusError> {
        BusError::check(&frame)?;
        let mut topics = self.lock();
        if let Some(feeds) = topics.get_mut(topic) {
            feeds.retain_mut(|feed| feed.push(frame.clone()));
            if feeds.is_empty() {
                topics.remove(topic);
            }
        }
        Ok(())
    }

    async fn subscribe(&self, topic: &Topic) -> Result<Subscription, BusError> {
        let (feed, subscription) = Subscription::fed();
        let mut topics = self.lock();
        let feeds = topics.entry(topic.clone()).or_default();
        // Those that were given up must not pile up where nobody publishes.
        feeds.retain(|feed| !feed.is_closed());
        feeds.push(feed);
        Ok(subscription)
    }

    fn label(&self) -> &'static str {
        "memory"
    }
}

impl fmt::Debug for MemoryBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBus").finish_non_exhaustive()
    }
}
