//! The cache that a service uses.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use larder_core::{
    Age, CacheError, CacheValue, Condition, DeleteStatus, KeyRef, SharedClock, SharedTier, Source,
    SystemClock, Tier as _, TierUsage, Timestamp, Version, WriteStatus,
};

use super::tags::Floors;
use super::{Tag, Tagged, Tags};
use crate::compose::{CompositionLayer, Lifetime};

mod tally;

use larder_core::HybridClock;
use tally::Tally;

/// The cache that a service uses: a tier, or several as one, with versions, tags and numbers.
///
/// Clones are handles of one cache. Every write gets a version of this process's hybrid clock, so
/// that copies in several layers, and writes of several processes, have one order.
///
/// # Tags
/// [`Cache::remove_tag`] invalidates every value that was put with the tag before, wherever its
/// copies are. It takes effect in this process when it returns; other processes are not told, and a
/// value that one of them put is judged by its version: by the clocks of both. Up to 65,536 tags are
/// remembered; beyond that, and for what was put before this cache was made, tagged
/// values die that need not have: a value never outlives its invalidation here.
///
/// # Metrics
/// With the label `cache`: `larder_cache_hits_total` (also `tier`: the labels on the way to the
/// tier that answered), `larder_cache_stale_hits_total`, `larder_cache_misses_total`,
/// `larder_cache_invalidated_total` (hits that a tag or a clear had invalidated; each is counted as
/// a miss or a hit besides), `larder_cache_puts_total`, `larder_cache_removes_total` and
/// `larder_cache_errors_total`.
///
/// ```
/// use larder::cache::{Cache, PutOptions, Tag, Tags, memory};
/// use larder_core::{KeyRef, SharedTier};
/// use bytes::Bytes;
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cache: Cache<Bytes> = Cache::builder(SharedTier::new(memory(64 << 20))).build();
/// let key = KeyRef::new("page/1")?;
/// let news = Tag::new("news")?;
/// let options = PutOptions::new().ttl(Duration::from_secs(30)).tags(Tags::new([news.clone()])?);
/// cache.put(key, Bytes::from("<h1>"), options).await?;
/// assert_eq!(cache.get(key).await?.map(|hit| hit.value), Some(Bytes::from("<h1>")));
/// cache.remove_tag(&news);
/// assert!(cache.get(key).await?.is_none());
/// # Ok(()) }
/// ```
pub struct Cache<V>(Arc<Inner<V>>);

struct Inner<V> {
    name: String,
    tier: SharedTier<Tagged<V>>,
    clock: SharedClock,
    versions: HybridClock,
    /// The origin of this process's versions.
    origin: u64,
    floors: Floors,
    default_ttl: Option<Duration>,
    tally: Tally,
}

/// The settings of a [`Cache`].
#[derive(Debug)]
pub struct CacheBuilder<V> {
    tier: SharedTier<Tagged<V>>,
    name: String,
    clock: SharedClock,
    default_ttl: Option<Duration>,
    tags_max: usize,
}

impl<V: Clone + Send + Sync + 'static> CacheBuilder<V> {
    /// The name in metrics and events. Default: `default`.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// What decides about staleness and dates versions. Default: the system clock. Give the tiers
    /// the same one.
    #[must_use]
    pub fn clock(mut self, clock: SharedClock) -> Self {
        self.clock = clock;
        self
    }

    /// How long a value lives whose put does not say it. Default: for ever.
    #[must_use]
    pub fn default_ttl(mut self, ttl: Duration) -> Self {
        self.default_ttl = Some(ttl);
        self
    }

    /// How many invalidated tags are remembered. Default: 65,536.
    #[must_use]
    pub fn tags_max(mut self, tags_max: usize) -> Self {
        self.tags_max = tags_max;
        self
    }

    /// The cache.
    pub fn build(self) -> Cache<V> {
        let Self { tier, name, clock, default_ttl, tags_max } = self;
        let versions = HybridClock::new(Arc::clone(&clock));
        let start = versions.next();
        Cache(Arc::new(Inner {
            tally: Tally::new(&name),
            floors: Floors::new(start, tags_max),
            origin: start.origin(),
            name,
            tier,
            clock,
            versions,
            default_ttl,
        }))
    }
}

/// How a value is put.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PutOptions {
    /// How long it lives; zero removes the key. `None`: the default of the cache.
    pub ttl: Option<Duration>,
    /// When it is due for a refresh; `None`: never.
    pub stale_after: Option<Duration>,
    /// What it can be invalidated by.
    pub tags: Tags,
}

impl PutOptions {
    /// The defaults of the cache, and no tags.
    pub const fn new() -> Self {
        Self { ttl: None, stale_after: None, tags: Tags::NONE }
    }

    /// Lives for `ttl`.
    #[must_use]
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Is due for a refresh `after` now.
    #[must_use]
    pub const fn stale_after(mut self, after: Duration) -> Self {
        self.stale_after = Some(after);
        self
    }

    /// Can be invalidated by `tags`.
    #[must_use]
    pub fn tags(mut self, tags: Tags) -> Self {
        self.tags = tags;
        self
    }
}

/// A value that a cache had.
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
    /// Which write it is.
    pub version: Option<Version>,
    /// Its tags.
    pub tags: Tags,
    /// The tier that gave it; [`Cache::describe`] names it.
    pub source: Source,
}

impl<V> Hit<V> {
    /// The layer that gave it; the first one where there is only one.
    pub const fn layer(&self) -> CompositionLayer {
        match self.source.step() {
            Some((true, _)) => CompositionLayer::L2,
            _ => CompositionLayer::L1,
        }
    }

    /// What is left of its life at `now`.
    pub fn lifetime(&self, now: Timestamp) -> Lifetime {
        Lifetime::until(self.expire, now)
    }
}

/// What a cache has done since it was made, and how full it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Gets that found a value, stale ones included.
    pub hits: u64,
    /// Gets that found a stale value.
    pub stale_hits: u64,
    /// Gets that found none.
    pub misses: u64,
    /// Values found that a tag or a clear had invalidated.
    pub invalidated: u64,
    /// Puts that succeeded.
    pub puts: u64,
    /// Removes that removed something.
    pub removes: u64,
    /// Calls that failed.
    pub errors: u64,
    /// How full the tiers are, as far as they know.
    pub usage: Option<TierUsage>,
}

impl<V: Clone + Send + Sync + 'static> Cache<V> {
    /// A cache over `tier`, to be refined.
    pub fn builder(tier: SharedTier<Tagged<V>>) -> CacheBuilder<V> {
        CacheBuilder {
            tier,
            name: String::from("default"),
            clock: SystemClock::shared(),
            default_ttl: None,
            tags_max: Floors::TAGS_MAX,
        }
    }

    /// The name of this cache.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// What dates the values of this cache.
    pub fn clock(&self) -> &SharedClock {
        &self.0.clock
    }

    /// The labels on the way to the tier that gave a hit, joined by dots.
    pub fn describe(&self, source: Source) -> String {
        self.0.tier.describe(source)
    }

    /// Returns the value of `key`, fresh or stale, if it is here.
    ///
    /// Allocates nothing when a tier in memory has it. Never loads.
    ///
    /// # Errors
    /// [`CacheError::Backend`] when no layer could be asked.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn get(&self, key: KeyRef<'_>) -> Result<Option<Hit<V>>, CacheError> {
        let found = self.find(key).await;
        match &found {
            Ok(Some(hit)) => self.0.tally.hit(hit, |source| self.describe(source)),
            Ok(None) => self.0.tally.misses.increment(),
            Err(_) => self.0.tally.errors.increment(),
        }
        found
    }

    /// Writes or replaces the value of `key`. Its life counts from now; a life of zero removes it.
    ///
    /// Not applied means that a newer write of another process is stored and stays.
    ///
    /// # Errors
    /// [`CacheError::TooLarge`]: nothing was written. [`CacheError::Backend`]: as it says.
    ///
    /// # Cancel safety
    /// Dropping the future leaves it unknown whether the value was written.
    pub async fn put(
        &self,
        key: KeyRef<'_>,
        value: V,
        options: PutOptions,
    ) -> Result<WriteStatus, CacheError> {
        let written = self.store(key, value, options).await;
        match &written {
            Ok(_) => self.0.tally.puts.increment(),
            Err(_) => self.0.tally.errors.increment(),
        }
        written
    }

    /// Removes `key` from every layer; a missing key is `Missing`, not an error.
    ///
    /// # Errors
    /// [`CacheError::Backend`] as the layers and the write policy say. A layer that failed counts
    /// as not holding the key.
    ///
    /// # Cancel safety
    /// Dropping the future leaves it unknown whether the key was removed.
    pub async fn remove(&self, key: KeyRef<'_>) -> Result<DeleteStatus, CacheError> {
        let removed = self.0.tier.remove(key, Condition::Always).await;
        match &removed {
            Ok(DeleteStatus::Deleted(_)) => self.0.tally.removes.increment(),
            Ok(DeleteStatus::Missing) => {}
            Err(_) => self.0.tally.errors.increment(),
        }
        removed
    }

    /// Invalidates every value that has `tag` and was put before, in every layer. See [`Cache`].
    ///
    /// At once, however many they are: their memory is freed as they are asked for or evicted.
    pub fn remove_tag(&self, tag: &Tag) {
        self.0.floors.raise(tag, self.0.versions.next());
    }

    /// Invalidates everything that was put before, and clears every layer.
    ///
    /// # Errors
    /// [`CacheError::Backend`] when a layer could not be cleared. What it holds is invalid here all
    /// the same, but not to other processes.
    ///
    /// # Cancel safety
    /// Dropping the future leaves everything invalid here; layers may not be cleared.
    pub async fn clear(&self) -> Result<(), CacheError> {
        self.0.floors.raise_all(self.0.versions.next());
        let cleared = self.0.tier.clear().await;
        if cleared.is_err() {
            self.0.tally.errors.increment();
        }
        cleared
    }

    /// What it has done so far, and how full it is.
    pub fn stats(&self) -> CacheStats {
        self.0.tally.stats(self.0.tier.usage())
    }

    async fn find(&self, key: KeyRef<'_>) -> Result<Option<Hit<V>>, CacheError> {
        let inner = &*self.0;
        // Twice: an invalid copy in a near layer may hide a valid value in a far one.
        for _ in 0..2 {
            let Some(found) = inner.tier.read(key).await? else { return Ok(None) };
            let CacheValue { data: Tagged { data, tags }, expire, stale, version } = found.value;
            let known = version.filter(|version| self.merge(*version));
            if inner.floors.cover(known, &tags) {
                inner.tally.invalidated.increment();
                self.drop_invalid(key, version).await;
                continue;
            }
            let due = stale.is_some_and(|stale| inner.clock.is_past(stale));
            let age = if due { Age::Stale } else { Age::Fresh };
            let source = found.source;
            return Ok(Some(Hit { value: data, age, expire, stale, version, tags, source }));
        }
        Ok(None)
    }

    /// Merges a version of another process, so that later ones of this process exceed it. One that
    /// is too far in the future is not merged, and says nothing about when its value was put.
    fn merge(&self, version: Version) -> bool {
        version.origin() == self.0.origin || self.0.versions.observe(version)
    }

    /// Removes a value that is invalid. When that fails it stays invalid.
    async fn drop_invalid(&self, key: KeyRef<'_>, version: Option<Version>) {
        let that_one = Condition::IfVersionIs(version);
        let supported = self.0.tier.conditions().supports(that_one);
        let condition = if supported { that_one } else { Condition::Always };
        if self.0.tier.remove(key, condition).await.is_err() {
            self.0.tally.errors.increment();
        }
    }

    async fn store(
        &self,
        key: KeyRef<'_>,
        data: V,
        options: PutOptions,
    ) -> Result<WriteStatus, CacheError> {
        let inner = &*self.0;
        let PutOptions { ttl, stale_after, tags } = options;
        let now = inner.clock.now();
        let mut value = CacheValue {
            data: Tagged { data, tags },
            expire: ttl.or(inner.default_ttl).map(|ttl| now.saturating_add(ttl)),
            stale: stale_after.map(|after| now.saturating_add(after)),
            version: None,
        };
        if !inner.tier.conditions().if_newer_than {
            value.version = Some(inner.versions.next());
            return inner.tier.write(key, value, Condition::Always).await;
        }
        let version = inner.versions.next();
        value.version = Some(version);
        let written = inner.tier.write(key, value.clone(), Condition::IfNewerThan(version)).await?;
        if written.applied {
            return Ok(written);
        }
        // What is stored has a higher version, yet this put began later: either the clock of its
        // writer is ahead, and merging it lets this put win, or it was written meanwhile.
        let stored = inner.tier.read(key).await?.and_then(|found| found.value.version);
        let merged = stored.is_none_or(|stored| self.merge(stored));
        let version = inner.versions.next();
        value.version = Some(version);
        // A version too far ahead to be merged must not lock the key for ever.
        let condition = if merged { Condition::IfNewerThan(version) } else { Condition::Always };
        inner.tier.write(key, value, condition).await
    }
}

impl<V> Clone for Cache<V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<V> fmt::Debug for Cache<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("name", &self.0.name)
            .field("tier", &self.0.tier)
            .finish_non_exhaustive()
    }
}
