//! Which of two values is the fresher one.

use std::cmp::Ordering;
use std::time::Duration;

use bytes::Bytes;
use larder_core::{CacheValue, Clock, Found, SeqNo, Timestamp, Version, VersionedData};

use super::CompositionLayer;

/// What a policy has to know of a value: how long it lives and which write it is.
///
/// Implement it for what your layers answer. A value without times and versions (a payload that is
/// either there or not) is wrapped in [`Timeless`]; context that travels with a value (a source
/// path, metadata) is paired with it: `(value, context)` is as fresh as `value`.
pub trait Freshness: Send + 'static {
    /// How writes are ordered; [`larder_core::Version`] for cache values.
    type Version: Ord;

    /// Which write this is; `None` when that is not known.
    fn version(&self) -> Option<Self::Version>;

    /// The moment at which it stops existing; `None` = never.
    fn expire(&self) -> Option<Timestamp>;

    /// The moment from which on it should be refreshed; `None` = never.
    fn stale(&self) -> Option<Timestamp>;

    /// What is left of its life at `now`, to the nanosecond.
    fn lifetime(&self, now: Timestamp) -> Lifetime {
        Lifetime::until(self.expire(), now)
    }

    /// Whether it should be refreshed at `now`. An expired value is stale as well.
    fn is_stale(&self, now: Timestamp) -> bool {
        let reached = |moment: Option<Timestamp>| moment.is_some_and(|moment| moment <= now);
        reached(self.stale()) || reached(self.expire())
    }
}

/// What is left of the life of a value.
///
/// Ordered by how much that is: `Expired` is the least, `NeverExpires` the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(clippy::exhaustive_enums, reason = "callers must tell never from over")]
pub enum Lifetime {
    /// It is over: the value does not exist any more.
    Expired,
    /// So much is left; never zero.
    RemainingFor(Duration),
    /// It has no end.
    NeverExpires,
}

impl Lifetime {
    /// What is left at `now` of a life that ends at `expire`. A life is over at its last moment.
    pub fn until(expire: Option<Timestamp>, now: Timestamp) -> Self {
        match expire {
            None => Self::NeverExpires,
            Some(expire) if expire <= now => Self::Expired,
            Some(expire) => Self::RemainingFor(expire.since(now)),
        }
    }
}

/// Says which of two values is the fresher one at `now`.
///
/// 1. An expired value never wins against one that is not.
/// 2. When both carry a version, the higher one wins, and equal versions are the first layer's: a
///    longer life is not a newer write.
/// 3. Otherwise the one that lives longer wins, and a tie is the first layer's.
///
/// ```
/// use larder::compose::{CompositionLayer, prefer};
/// use larder_core::{CacheValue, Timestamp};
/// use std::time::Duration;
///
/// let now = Timestamp::from_millis(1_000_000);
/// let nearly_gone = CacheValue::new("a").with_ttl(now, Duration::from_millis(500));
/// let lasting = CacheValue::new("b").with_ttl(now, Duration::from_secs(100));
/// assert_eq!(prefer(&nearly_gone, &lasting, now), CompositionLayer::L2);
/// ```
pub fn prefer<T: Freshness>(l1: &T, l2: &T, now: Timestamp) -> CompositionLayer {
    let (life1, life2) = (l1.lifetime(now), l2.lifetime(now));
    let l2_wins = match (life1, life2) {
        (_, Lifetime::Expired) => false,
        (Lifetime::Expired, _) => true,
        _ => order_of_writes(l1, l2).unwrap_or_else(|| life1.cmp(&life2)).is_lt(),
    };
    if l2_wins { CompositionLayer::L2 } else { CompositionLayer::L1 }
}

/// How the writes of two values are ordered, when both say which write they are.
pub(super) fn order_of_writes<T: Freshness>(l1: &T, l2: &T) -> Option<Ordering> {
    Some(l1.version()?.cmp(&l2.version()?))
}

/// Whether a value has reached the end of its life. Asks the clock only if it has one.
pub(super) fn is_expired<T: Freshness>(value: &T, clock: &dyn Clock) -> bool {
    value.expire().is_some_and(|expire| clock.is_past(expire))
}

/// Whether a value that is not expired is due for a refresh. Asks the clock only if it can be.
pub(super) fn is_due<T: Freshness>(value: &T, clock: &dyn Clock) -> bool {
    value.stale().is_some_and(|stale| clock.is_past(stale))
}

/// A value that never expires and has no version: every copy of it is as good as any other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_structs, reason = "a mark around a value")]
pub struct Timeless<T>(pub T);

impl<T: Send + 'static> Freshness for Timeless<T> {
    type Version = ();

    fn version(&self) -> Option<()> {
        None
    }

    fn expire(&self) -> Option<Timestamp> {
        None
    }

    fn stale(&self) -> Option<Timestamp> {
        None
    }
}

impl Freshness for Bytes {
    type Version = ();

    fn version(&self) -> Option<()> {
        None
    }

    fn expire(&self) -> Option<Timestamp> {
        None
    }

    fn stale(&self) -> Option<Timestamp> {
        None
    }
}

impl<T: Freshness, C: Send + 'static> Freshness for (T, C) {
    type Version = T::Version;

    fn version(&self) -> Option<T::Version> {
        self.0.version()
    }

    fn expire(&self) -> Option<Timestamp> {
        self.0.expire()
    }

    fn stale(&self) -> Option<Timestamp> {
        self.0.stale()
    }
}

impl<V: Send + 'static> Freshness for CacheValue<V> {
    type Version = Version;

    fn version(&self) -> Option<Version> {
        self.version
    }

    fn expire(&self) -> Option<Timestamp> {
        self.expire
    }

    fn stale(&self) -> Option<Timestamp> {
        self.stale
    }
}

impl<V: Send + 'static> Freshness for Found<V> {
    type Version = Version;

    fn version(&self) -> Option<Version> {
        self.value.version
    }

    fn expire(&self) -> Option<Timestamp> {
        self.value.expire
    }

    fn stale(&self) -> Option<Timestamp> {
        self.value.stale
    }
}

impl Freshness for VersionedData {
    type Version = SeqNo;

    fn version(&self) -> Option<SeqNo> {
        Some(self.seqno)
    }

    fn expire(&self) -> Option<Timestamp> {
        None
    }

    fn stale(&self) -> Option<Timestamp> {
        None
    }
}
