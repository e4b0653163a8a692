//! What a cache answers.

use larder_core::{Age, Source, Timestamp, Version};

use super::super::Tags;
use crate::compose::{CompositionLayer, Lifetime};

/// A value that a cache had, or has just loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hit<V> {
    /// The value.
    pub value: V,
    /// [`Age::Fresh`] or [`Age::Stale`].
    pub age: Age,
    /// When it stops existing.
    pub expire: Option<Timestamp>,
    /// When it is, or was, due for a refresh.
    pub stale: Option<Timestamp>,
    /// Which write it is; `None` also for a loaded value that is not kept.
    pub version: Option<Version>,
    /// Its tags.
    pub tags: Tags,
    /// The tier that gave it, which [`Cache::describe`](super::Cache::describe) names; `None`: it
    /// was loaded.
    pub source: Option<Source>,
}

impl<V> Hit<V> {
    /// The layer that gave it, the first one where there is only one; `None`: it was loaded.
    pub fn layer(&self) -> Option<CompositionLayer> {
        let (second, _) = self.source?.step();
        Some(if second { CompositionLayer::L2 } else { CompositionLayer::L1 })
    }

    /// What is left of its life at `now`.
    pub fn lifetime(&self, now: Timestamp) -> Lifetime {
        Lifetime::until(self.expire, now)
    }
}

/// What a cache knows about a key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "callers match all three answers")]
pub enum Lookup<V> {
    /// It has a value.
    Hit(Hit<V>),
    /// It is known to have none: no need to ask elsewhere.
    Absent(Absent),
    /// Nothing.
    Miss,
}

impl<V> Lookup<V> {
    /// The value, if there is one.
    pub fn hit(self) -> Option<Hit<V>> {
        match self {
            Self::Hit(hit) => Some(hit),
            Self::Absent(_) | Self::Miss => None,
        }
    }
}

/// That a key is known to have no value (a negative entry).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Absent {
    /// [`Age::Fresh`] or [`Age::Stale`].
    pub age: Age,
    /// Until when that is believed.
    pub expire: Option<Timestamp>,
    /// When it is, or was, due for a refresh.
    pub stale: Option<Timestamp>,
    /// Which write it is.
    pub version: Option<Version>,
    /// Its tags.
    pub tags: Tags,
    /// The tier that said so; `None`: a loader just did.
    pub source: Option<Source>,
}

/// A [`Hit`] or an [`Absent`], while it does not matter which.
#[derive(Clone, Debug)]
pub(super) struct Entry<V> {
    pub(super) data: Option<V>,
    pub(super) age: Age,
    pub(super) expire: Option<Timestamp>,
    pub(super) stale: Option<Timestamp>,
    pub(super) version: Option<Version>,
    pub(super) tags: Tags,
    pub(super) source: Option<Source>,
}

impl<V> Entry<V> {
    #[expect(
        clippy::inline_always,
        reason = "each call that stays copies the whole value once more"
    )]
    #[inline(always)]
    pub(super) fn into_hit(self) -> Option<Hit<V>> {
        let Self { data, age, expire, stale, version, tags, source } = self;
        Some(Hit { value: data?, age, expire, stale, version, tags, source })
    }

    pub(super) fn into_lookup(self) -> Lookup<V> {
        let Self { data, age, expire, stale, version, tags, source } = self;
        match data {
            Some(value) => Lookup::Hit(Hit { value, age, expire, stale, version, tags, source }),
            None => Lookup::Absent(Absent { age, expire, stale, version, tags, source }),
        }
    }
}
