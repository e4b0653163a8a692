//! The bus: small messages from each process to all others.
//!
//! A bus is what caches of several processes tell one another about changes with. It is a transport
//! and nothing more: it may lose frames, and whoever uses it has to notice that by numbers of its
//! own (the coherence of `larder::cache` does). So a backend has three promises to keep, and none
//! of reconnecting, remembering or repeating.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::channel::{self, Receiver, Sender};
use crate::{BackendError, Effect, Failure, Retry};

/// The largest frame in bytes: small enough for every bus, in base64 as well.
pub const FRAME_BYTES_MAX: usize = 4096;

/// How many frames a subscription holds that were not yet taken.
pub const SUBSCRIPTION_FRAMES: usize = 1024;

/// One bus: what is published on a topic reaches everybody who listens there.
///
/// # Contract
/// - A frame reaches every subscription of its topic that was established before it was published,
///   those of its own publisher included, whole or not at all, and no other topic.
/// - Frames that one handle publishes one after the other come in that order.
/// - Frames may be lost, without a word when the way is cut. A subscription that knows that it
///   may have missed something ends with an error; it never goes on with a hole that it knows of.
/// - A frame may come twice when its publisher had to repeat it.
/// - Nothing is kept for those who do not listen. A subscription holds at most
///   [`SUBSCRIPTION_FRAMES`] frames; one that is too slow ends, and holds nobody up.
/// - Frames and topics of other programs do not meet (a namespace, where the place is shared).
pub trait Bus: fmt::Debug + Send + Sync + 'static {
    /// Sends `frame` to everybody who listens on `topic`. That nobody does is no error.
    ///
    /// Ok means that the bus has it, not that anybody got it.
    ///
    /// # Errors
    /// [`BusError::TooLarge`] above [`FRAME_BYTES_MAX`]: nothing was sent. [`BusError::Backend`] as
    /// it says; after `Unknown` the same frame may be sent again.
    ///
    /// # Cancel safety
    /// Dropping the future leaves it unknown whether the frame was sent.
    fn publish<'a>(
        &'a self,
        topic: &'a Topic,
        frame: Bytes,
    ) -> impl Future<Output = Result<(), BusError>> + Send + 'a;

    /// Begins to listen on `topic`: what is published after this has returned comes.
    ///
    /// # Errors
    /// [`BusError::Backend`] when the bus cannot be reached.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    fn subscribe<'a>(
        &'a self,
        topic: &'a Topic,
    ) -> impl Future<Output = Result<Subscription, BusError>> + Send + 'a;

    /// The name of this bus in metrics and events.
    fn label(&self) -> &str;
}

/// What frames are about, and who should get them: 1 to 64 letters, digits and `-_.:/` of ASCII.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(Arc<str>);

/// Why a text is no topic. Nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a topic is 1 to {} letters, digits and -_.:/ of ASCII", Topic::BYTES_MAX)]
#[allow(clippy::exhaustive_structs, reason = "there is nothing else to say")]
pub struct TopicError;

impl Topic {
    /// The longest topic, in bytes.
    pub const BYTES_MAX: usize = 64;

    /// The topic `text`.
    ///
    /// # Errors
    /// [`TopicError`] when it is empty, too long or holds other characters.
    pub fn new(text: &str) -> Result<Self, TopicError> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/".contains(&byte);
        if (1..=Self::BYTES_MAX).contains(&text.len()) && text.bytes().all(fits) {
            Ok(Self(text.into()))
        } else {
            Err(TopicError)
        }
    }

    /// The topic as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Topic({})", self.0)
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Failure for TopicError {
    fn effect(&self) -> Effect {
        Effect::NotApplied
    }

    fn retry(&self) -> Retry {
        Retry::Never
    }
}

/// Why a frame was not sent, or a subscription has none any more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BusError {
    /// The frame is larger than [`FRAME_BYTES_MAX`]. Effect `NotApplied`, retry `Never`.
    #[error("the frame is too large for a bus: bytes={bytes} bytes_max={FRAME_BYTES_MAX}")]
    TooLarge {
        /// The size of the frame.
        bytes: usize,
    },
    /// Frames were not taken for so long that they no longer fit. Subscribe again. Effect
    /// `Unknown`, retry `Later`.
    #[error("frames were not taken in time: more than {SUBSCRIPTION_FRAMES} waited")]
    Lagged,
    /// What feeds the subscription is gone. Subscribe again. Effect `Unknown`, retry `Later`.
    #[error("the subscription has ended")]
    Ended,
    /// The technology behind the bus failed; the error says its effect and retry.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

impl BusError {
    /// That `frame` is too large, if it is.
    ///
    /// # Errors
    /// [`BusError::TooLarge`].
    pub const fn check(frame: &Bytes) -> Result<(), Self> {
        if frame.len() > FRAME_BYTES_MAX {
            return Err(Self::TooLarge { bytes: frame.len() });
        }
        Ok(())
    }
}

impl Failure for BusError {
    fn effect(&self) -> Effect {
        match self {
            Self::TooLarge { .. } => Effect::NotApplied,
            Self::Lagged | Self::Ended => Effect::Unknown,
            Self::Backend(error) => error.effect(),
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::TooLarge { .. } => Retry::Never,
            Self::Lagged | Self::Ended => Retry::Later,
            Self::Backend(error) => error.retry(),
        }
    }
}

/// The frames of one topic, as they come.
///
/// Dropping it ends it. The other end is a [`Feed`].
pub struct Subscription {
    frames: Receiver<Bytes>,
    reason: Arc<Mutex<Option<BusError>>>,
    /// What lives as long as the subscription: a connection, a task.
    kept: Vec<Box<dyn Any + Send + Sync>>,
}

/// What a backend feeds a subscription with.
pub struct Feed {
    frames: Option<Sender<Bytes>>,
    reason: Arc<Mutex<Option<BusError>>>,
}

impl Subscription {
    /// A subscription and what feeds it, for [`SUBSCRIPTION_FRAMES`] frames.
    ///
    /// ```
    /// use larder_core::bus::{BusError, Subscription};
    /// use bytes::Bytes;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let (mut feed, mut subscription) = Subscription::fed();
    /// assert!(feed.push(Bytes::from("hello")));
    /// drop(feed);
    /// assert_eq!(subscription.next().await.unwrap(), "hello");
    /// assert!(matches!(subscription.next().await, Err(BusError::Ended)));
    /// # }
    /// ```
    pub fn fed() -> (Feed, Self) {
        let (sender, frames) = channel::channel(SUBSCRIPTION_FRAMES);
        let reason = Arc::new(Mutex::new(None));
        let feed = Feed { frames: Some(sender), reason: Arc::clone(&reason) };
        (feed, Self { frames, reason, kept: Vec::new() })
    }

    /// The same subscription, which drops `kept` when it is dropped.
    #[must_use]
    pub fn keeping(mut self, kept: impl Any + Send + Sync) -> Self {
        self.kept.push(Box::new(kept));
        self
    }

    /// Waits for the next frame.
    ///
    /// # Errors
    /// Why there are no more: something may have been missed. Every further call says
    /// [`BusError::Ended`].
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Bytes, BusError> {
        match self.frames.recv().await {
            Some(frame) => Ok(frame),
            None => Err(locked(&self.reason).take().unwrap_or(BusError::Ended)),
        }
    }
}

impl Feed {
    /// Hands a frame on, without waiting. `false`: the subscription is gone, or was too slow and has
    /// ended; there is nobody to feed any more.
    pub fn push(&mut self, frame: Bytes) -> bool {
        let Some(frames) = &self.frames else { return false };
        match frames.try_send(frame) {
            Ok(()) => return true,
            Err(channel::TrySendError::Full(_)) => {
                *locked(&self.reason) = Some(BusError::Lagged);
            }
            Err(channel::TrySendError::Closed(_)) => {}
        }
        self.frames = None;
        false
    }

    /// Ends the subscription, after what was pushed, for this reason.
    pub fn end(mut self, reason: BusError) {
        if self.frames.is_some() {
            *locked(&self.reason) = Some(reason);
        }
        self.frames = None;
    }

    /// Whether nobody listens any more.
    pub fn is_closed(&self) -> bool {
        self.frames.as_ref().is_none_or(Sender::is_closed)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").finish_non_exhaustive()
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_short_and_plain() {
        for good in ["a", "shop:cache/0-9_.", &"t".repeat(64)] {
            assert_eq!(Topic::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "a b", "ä", "a\n", "a*", &"t".repeat(65)] {
            assert_eq!(Topic::new(bad), Err(TopicError), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn a_slow_subscription_gets_what_fitted_and_then_the_reason() {
        let (mut feed, mut subscription) = Subscription::fed();
        let frame = |number: usize| Bytes::from(number.to_string());
        let fitted = (0..9_999).take_while(|number| feed.push(frame(*number))).count();
        assert!((SUBSCRIPTION_FRAMES / 2..=SUBSCRIPTION_FRAMES).contains(&fitted), "{fitted}");
        assert!(!feed.push(frame(0)), "it has ended");
        for number in 0..fitted {
            assert_eq!(subscription.next().await.unwrap(), frame(number));
        }
        assert!(matches!(subscription.next().await, Err(BusError::Lagged)));
        assert!(matches!(subscription.next().await, Err(BusError::Ended)));
    }

    #[tokio::test]
    async fn an_end_comes_after_the_frames_and_what_was_kept_goes_with_the_subscription() {
        let (mut feed, subscription) = Subscription::fed();
        let kept = Arc::new(());
        let mut subscription = subscription.keeping(Arc::clone(&kept));
        assert!(feed.push(Bytes::from("last")));
        feed.end(BackendError::new("test", "listen", "cut").into());
        assert_eq!(subscription.next().await.unwrap(), "last");
        assert!(matches!(subscription.next().await, Err(BusError::Backend(_))));
        drop(subscription);
        assert_eq!(Arc::strong_count(&kept), 1);
    }
}
