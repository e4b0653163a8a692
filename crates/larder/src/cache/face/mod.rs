//! The cache that a service uses.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use larder_core::{
    Age, CacheError, CacheValue, Condition, DeleteStatus, Found, HybridClock, KeyRef, Now,
    SharedClock, SharedTier, Source, Tier as _, TierStats, TierUsage, Timestamp, Version,
    WriteStatus,
};
use tokio::sync::Semaphore;

use super::coherence::{Change, Membership};
use super::load::{Flights, Jitter, LoadLease, LoadOptions, Pauses};
use super::tags::Floors;
use super::{Tag, Tagged, Tags};
use crate::compose::BoundedOffload;

mod at_hand;
mod builder;
mod coherent;
mod hit;
mod load;
mod many;
mod put;
mod tally;

use at_hand::AtHandOr;
pub use builder::CacheBuilder;
use hit::Entry;
pub use hit::{Absent, Hit, Lookup};
pub use put::PutOptions;
use tally::Tally;

/// The cache that a service uses: a tier, or several as one, with versions, tags and numbers.
///
/// Clones are handles of one cache. Every write gets a version of this process's hybrid clock, so
/// that copies in several layers, and writes of several processes, have one order.
///
/// # Tags
/// [`Cache::remove_tag`] invalidates every value that was put with the tag before, wherever its
/// copies are. It takes effect in this process when it returns; other processes are told over a bus
/// if there is one, and a value that one of them put is judged by its version: by the clocks of both. Up to 65,536 tags are
/// remembered; beyond that, and for what was put before this cache was made, tagged
/// values die that need not have: a value never outlives its invalidation here.
///
/// # Loads
/// [`Cache::get_or_load`] asks a loader for what is not here or stale: once for all who wait, in the
/// background, and never over what was put or removed meanwhile. Everything about it has a bound:
/// loads at a time and their time ([`CacheBuilder::offload`]), callers who wait
/// ([`CacheBuilder::waiters_max`]), keys with a pause after failures (16,384).
///
/// # Other processes
/// With [`CacheBuilder::coherence`] the copies in private tiers keep in step with the same cache in
/// other processes, within a bound that [`CoherenceOptions`](super::CoherenceOptions) states. Without
/// it a copy lives as long as its value, or as
/// [`TieredBuilder::l1_ttl_max`](super::TieredBuilder::l1_ttl_max) lets it.
///
/// # Metrics
/// With the label `cache`; in brackets what else labels them.
///
/// | name | counts |
/// |---|---|
/// | `larder_cache_hits_total` (`tier`: the labels on the way to the one that answered) | values found, stale ones included |
/// | `larder_cache_stale_hits_total` | stale entries found |
/// | `larder_cache_negative_hits_total` | entries found that say that there is no value |
/// | `larder_cache_misses_total` | look-ups that found nothing |
/// | `larder_cache_invalidated_total` | entries found that a tag or a clear had invalidated; each is a miss or a hit besides |
/// | `larder_cache_puts_total`, `larder_cache_removes_total` | puts that succeeded, removes that removed something |
/// | `larder_cache_errors_total` | calls of the tiers that failed |
/// | `larder_cache_loads_total` | loaders that were asked |
/// | `larder_cache_refreshes_total` | those of them that were asked while a value could be served |
/// | `larder_cache_joined_loads_total` | callers who met a load that was under way |
/// | `larder_cache_stale_served_total` | stale values given to callers who would have loaded |
/// | `larder_cache_superseded_loads_total` | loaded values that were not cached because something newer was put, removed or invalidated |
/// | `larder_cache_spared_loads_total` | loads that were not made because what another process loaded came first |
/// | `larder_cache_unleased_loads_total` | loads that were made without the lease that they should have had |
/// | `larder_cache_load_errors_total` (`reason`: [`LoadError::as_str`](super::LoadError::as_str)) | loads that failed, and callers who were turned away |
/// | `larder_cache_bus_trusted`, `larder_cache_bus_peers` (gauges) | whether every other process is heard, and how many there are |
/// | `larder_cache_bus_sent_total`, `_send_errors_total`, `_left_out_total` | messages sent, failed attempts, changes that were not told because too many waited |
/// | `larder_cache_bus_received_total`, `_changes_total`, `_refused_versions_total` | messages of others, the changes in them, versions too far in the future |
/// | `larder_cache_bus_gaps_total`, `_unreadable_total`, `_forgotten_total`, `_subscriptions_total` | what was missed, what could not be read, times that all copies were forgotten, subscriptions made |
///
/// Events have the target `larder::cache`: a refresh that failed is a warning, a load that failed
/// is told at debug level because its callers get the error. Keys and values appear in neither.
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
    load: LoadOptions,
    flights: Flights<Entry<V>>,
    pauses: Pauses,
    jitter: Jitter,
    offload: BoundedOffload,
    lease: Option<LoadLease>,
    waiting: Semaphore,
    waiters_max: usize,
    tally: Tally,
    membership: Option<Membership>,
}

/// What a cache has done since it was made, and how full it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Gets that found a value, stale ones included.
    pub hits: u64,
    /// Gets that found a stale entry.
    pub stale_hits: u64,
    /// Gets that found the note that there is no value.
    pub negative_hits: u64,
    /// Gets that found nothing.
    pub misses: u64,
    /// Values found that a tag or a clear had invalidated.
    pub invalidated: u64,
    /// Puts that succeeded.
    pub puts: u64,
    /// Removes that removed something.
    pub removes: u64,
    /// Calls of the tiers that failed.
    pub errors: u64,
    /// Loaders that were asked.
    pub loads: u64,
    /// Loads that failed, and callers of loads who were turned away.
    pub load_errors: u64,
    /// Loads that began while a value could be served.
    pub refreshes: u64,
    /// Callers who met a load that was under way.
    pub joined_loads: u64,
    /// Stale values given to callers who would have loaded.
    pub stale_served: u64,
    /// Loaded values that were not cached because something newer came.
    pub superseded_loads: u64,
    /// Loads that were not made because what another process loaded came first.
    pub spared_loads: u64,
    /// Loads that were made without the lease that they should have had.
    pub unleased_loads: u64,
    /// How full the tiers are, as far as they know.
    pub usage: Option<TierUsage>,
    /// Its tiers, the nearest first. A negative entry is no hit of one; a cache without tiers inside
    /// is its own only tier.
    pub tiers: Vec<TierStats>,
}

impl<V: Clone + Send + Sync + 'static> Cache<V> {
    /// A cache over `tier`, to be refined.
    pub fn builder(tier: SharedTier<Tagged<V>>) -> CacheBuilder<V> {
        CacheBuilder::new(tier)
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

    /// Returns the value of `key`, fresh or stale, if it is here. Whether there is none or nothing
    /// is known, [`Cache::look_up`] tells.
    ///
    /// Allocates nothing when a tier in memory has it. Never loads.
    ///
    /// # Errors
    /// [`CacheError::Backend`] when no layer could be asked.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    #[inline]
    pub fn get(
        &self,
        key: KeyRef<'_>,
    ) -> impl Future<Output = Result<Option<Hit<V>>, CacheError>> + Send {
        let asked = async move { Ok(self.find_counted(key).await?.and_then(Entry::into_hit)) };
        AtHandOr::new(move || self.get_now(key), asked)
    }

    /// Returns the value of `key`, fresh or stale, if a tier in memory has it at hand: without a
    /// future, for code that is not asynchronous or has something better to do than to wait.
    ///
    /// `None` says only that nothing is at hand, and is not counted as a miss: [`Cache::get`] asks
    /// the other tiers as well. Allocates nothing.
    ///
    /// ```
    /// # use larder::cache::{Cache, PutOptions, memory};
    /// # use larder_core::{KeyRef, SharedTier};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let cache: Cache<u64> = Cache::builder(SharedTier::new(memory(1 << 20))).build();
    /// let key = KeyRef::new("answer")?;
    /// assert!(cache.get_now(key).is_none());
    /// cache.put(key, 42, PutOptions::new()).await?;
    /// assert_eq!(cache.get_now(key).map(|hit| hit.value), Some(42));
    /// # Ok(()) }
    /// ```
    #[expect(
        clippy::inline_always,
        reason = "each call that stays copies the whole value once more"
    )]
    #[inline(always)]
    pub fn get_now(&self, key: KeyRef<'_>) -> Option<Hit<V>> {
        let now = self.read_now(key);
        // All that may call something else looks at the value where it is; then it moves once.
        let age = self.judge(&now)?;
        let Now::Hit(Found { value: CacheValue { data, expire, stale, version }, source }) = now
        else {
            return None;
        };
        let Tagged { data, tags } = data;
        Some(Hit { value: data?, age, expire, stale, version, tags, source: Some(source) })
    }

    /// As [`Cache::get`], and tells a key that is known to have no value from one about which
    /// nothing is known.
    ///
    /// # Errors
    /// As [`Cache::get`].
    ///
    /// # Cancel safety
    /// As [`Cache::get`].
    pub async fn look_up(&self, key: KeyRef<'_>) -> Result<Lookup<V>, CacheError> {
        if let Some(entry) = self.find_now(key) {
            return Ok(entry.into_lookup());
        }
        let found = self.find_counted(key).await?;
        Ok(found.map_or(Lookup::Miss, Entry::into_lookup))
    }

    /// Writes or replaces the value of `key`. Its life counts from now; a life of zero removes it.
    ///
    /// Not applied means that a newer write of another process is stored and stays. A load of the key
    /// that is under way does not replace it.
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
        let mut change = self.0.flights.change(key);
        let version = self.0.versions.next();
        change.settled().await;
        self.0.pauses.end(key);
        let mut notice = self.notice(key, Change::Put);
        match self.store(key, value, options, version).await {
            Ok((written, version)) => {
                self.0.tally.puts.increment();
                notice.wrote(written, Some(version));
                Ok(written)
            }
            Err(error) => {
                self.0.tally.errors.increment();
                notice.failed(&error);
                Err(error)
            }
        }
    }

    /// Removes `key` from every layer; a missing key is `Missing`, not an error. What a load that is
    /// under way brings is not cached, and who asks from now on does not wait for that load.
    ///
    /// # Errors
    /// [`CacheError::Backend`] as the layers and the write policy say. A layer that failed counts
    /// as not holding the key.
    ///
    /// # Cancel safety
    /// Dropping the future leaves it unknown whether the key was removed.
    pub async fn remove(&self, key: KeyRef<'_>) -> Result<DeleteStatus, CacheError> {
        let mut change = self.0.flights.change(key);
        change.settled().await;
        let mut notice = self.notice(key, Change::Remove);
        let removed = self.0.tier.remove(key, Condition::Always).await;
        match &removed {
            Ok(DeleteStatus::Deleted(_)) => self.0.tally.removes.increment(),
            Ok(DeleteStatus::Missing) => {}
            Err(error) => {
                self.0.tally.errors.increment();
                notice.failed(error);
            }
        }
        removed
    }

    /// Invalidates every value that has `tag` and was put before, in every layer. See [`Cache`].
    ///
    /// At once, however many they are: their memory is freed as they are asked for or evicted.
    pub fn remove_tag(&self, tag: &Tag) {
        let version = self.0.versions.next();
        self.0.floors.raise(tag, version);
        self.tell(|| Change::RemoveTag(tag.clone(), version));
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
        let version = self.0.versions.next();
        self.0.floors.raise_all(version);
        self.tell(|| Change::Clear(version));
        self.0.flights.void_all().await;
        let cleared = self.0.tier.clear().await;
        // Again: what others have read meanwhile may have been cleared just after.
        self.tell(|| Change::Clear(version));
        if cleared.is_err() {
            self.0.tally.errors.increment();
        }
        cleared
    }

    /// What it has done so far, and how full it is.
    pub fn stats(&self) -> CacheStats {
        self.0.tally.stats(self.0.tier.usage(), self.0.tier.tier_stats())
    }

    /// What a tier in memory has at hand, counted. Asked first, and not only by tiers of tiers: it
    /// saves a hit the way through their futures.
    #[expect(
        clippy::inline_always,
        reason = "each call that stays copies the whole value once more"
    )]
    #[inline(always)]
    fn find_now(&self, key: KeyRef<'_>) -> Option<Entry<V>> {
        let Now::Hit(found) = self.read_now(key) else { return None };
        let entry = self.0.accept(found).ok()?;
        self.count(&entry);
        Some(entry)
    }

    /// The age of a value that a tier has at hand, counted; `None` when there is none, or it is invalid.
    /// The note that there is no value is counted by the one who asks further.
    #[inline]
    fn judge(&self, now: &Now<Tagged<V>>) -> Option<Age> {
        let Now::Hit(Found { value, source }) = now else { return None };
        let Tagged { data, tags } = &value.data;
        if data.is_none() || self.0.covers(value.version, tags) {
            return None;
        }
        let age = self.0.age(value.stale);
        self.0.tally.hit(*source, age, |source| self.describe(source));
        Some(age)
    }

    async fn find_counted(&self, key: KeyRef<'_>) -> Result<Option<Entry<V>>, CacheError> {
        let found = self.find(key).await;
        match &found {
            Ok(Some(entry)) => self.count(entry),
            Ok(None) => self.0.tally.misses.increment(),
            Err(_) => self.0.tally.errors.increment(),
        }
        found
    }

    #[expect(
        clippy::inline_always,
        reason = "each call that stays copies the whole value once more"
    )]
    #[inline(always)]
    fn count(&self, entry: &Entry<V>) {
        self.0.tally.found(entry, |source| self.describe(source));
    }

    async fn find(&self, key: KeyRef<'_>) -> Result<Option<Entry<V>>, CacheError> {
        if !self.vouch().await {
            return Ok(None);
        }
        // Twice: an invalid copy in a near layer may hide a valid value in a far one.
        for _ in 0..2 {
            let Some(found) = self.0.tier.read(key).await? else { return Ok(None) };
            match self.0.accept(found) {
                Ok(entry) => return Ok(Some(entry)),
                Err(invalid) => {
                    self.0.tally.invalidated.increment();
                    self.drop_invalid(key, invalid).await;
                }
            }
        }
        Ok(None)
    }

    /// Removes a value that is invalid. When that fails it stays invalid.
    async fn drop_invalid(&self, key: KeyRef<'_>, invalid: Invalid) {
        let that_one = Condition::IfVersionIs(invalid.version);
        let supported = self.0.tier.conditions().supports(that_one);
        let condition = if supported { that_one } else { Condition::Always };
        let dropped = if invalid.certain {
            self.0.tier.remove(key, condition).await.map(drop)
        } else {
            // Others may know better.
            self.0.tier.forget(key, condition).await
        };
        if dropped.is_err() {
            self.0.tally.errors.increment();
        }
    }

    async fn store(
        &self,
        key: KeyRef<'_>,
        data: V,
        options: PutOptions,
        version: Version,
    ) -> Result<(WriteStatus, Version), CacheError> {
        let inner = &*self.0;
        let value = inner.value(data, options, version);
        if !inner.tier.conditions().if_newer_than {
            return Ok((inner.tier.write(key, value, Condition::Always).await?, version));
        }
        let written = inner.tier.write(key, value.clone(), Condition::IfNewerThan(version)).await?;
        if written.applied { Ok((written, version)) } else { self.insist(key, value).await }
    }

    /// Writes a value again that was found not to be newer. What is stored has a higher version, yet
    /// this put began later: either the clock of its writer is ahead, and merging it lets this put
    /// win, or it was written meanwhile.
    async fn insist(
        &self,
        key: KeyRef<'_>,
        mut value: CacheValue<Tagged<V>>,
    ) -> Result<(WriteStatus, Version), CacheError> {
        let inner = &*self.0;
        let stored = inner.tier.read(key).await?.and_then(|found| found.value.version);
        let merged = stored.is_none_or(|stored| inner.merge(stored));
        let version = inner.versions.next();
        value.version = Some(version);
        // A version too far ahead to be merged must not lock the key for ever.
        let condition = if merged { Condition::IfNewerThan(version) } else { Condition::Always };
        Ok((inner.tier.write(key, value, condition).await?, version))
    }
}

/// An entry that a tag or a clear has invalidated, or may have.
struct Invalid {
    version: Option<Version>,
    certain: bool,
}

impl<V> Inner<V> {
    /// What is put, with its life from now on.
    fn value(&self, data: V, options: PutOptions, version: Version) -> CacheValue<Tagged<V>> {
        let PutOptions { ttl, stale_after, tags } = options;
        let now = self.clock.now();
        CacheValue {
            data: Tagged::new(data, tags),
            expire: ttl.or(self.default_ttl).map(|ttl| now.saturating_add(ttl)),
            stale: stale_after.map(|after| now.saturating_add(after)),
            version: Some(version),
        }
    }

    /// What a tier found as an entry with its age.
    #[expect(
        clippy::inline_always,
        reason = "each call that stays copies the whole value once more"
    )]
    #[inline(always)]
    fn accept(&self, found: Found<Tagged<V>>) -> Result<Entry<V>, Invalid> {
        let Found { value: CacheValue { data: tagged, expire, stale, version }, source } = found;
        if self.covers(version, &tagged.tags) {
            return Err(self.invalid(version, &tagged.tags));
        }
        let Tagged { data, tags } = tagged;
        let age = self.age(stale);
        Ok(Entry { data, age, expire, stale, version, tags, source: Some(source) })
    }

    #[cold]
    fn invalid(&self, version: Option<Version>, tags: &Tags) -> Invalid {
        let known = version.filter(|version| self.merge(*version));
        Invalid { version, certain: self.floors.condemn(known, tags) }
    }

    /// Whether an entry was invalidated.
    #[expect(
        clippy::inline_always,
        reason = "each call that stays copies the whole value once more"
    )]
    #[inline(always)]
    fn covers(&self, version: Option<Version>, tags: &Tags) -> bool {
        self.floors.cover(version.filter(|version| self.merge(*version)), tags)
    }

    /// Merges a version of another process, so that later ones of this process exceed it. One that
    /// is too far in the future is not merged, and says nothing about when its value was put.
    #[inline]
    fn merge(&self, version: Version) -> bool {
        version.origin() == self.origin || self.versions.observe(version)
    }

    /// The age of an entry that has not expired.
    #[inline]
    fn age(&self, stale: Option<Timestamp>) -> Age {
        if stale.is_some_and(|stale| self.clock.is_past(stale)) { Age::Stale } else { Age::Fresh }
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
