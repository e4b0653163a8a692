//! The memory of this process as a cache tier.

use std::fmt;
use std::hash::BuildHasher as _;
use std::num::NonZeroU64;
use std::sync::{Mutex, MutexGuard, PoisonError};

use larder_core::{
    Age, CacheError, CacheValue, Condition, Conditions, DeleteStatus, Durability, Found, Key,
    KeyRef, Now, RepairListener, SharedClock, Source, SystemClock, Tier, TierStats, TierUsage,
    WriteStatus,
};
use metrics::{Counter, counter};
use quick_cache::sync::Cache as Entries;
use quick_cache::{Lifecycle, OptionsBuilder, Weighter};
use rapidhash::fast::RandomState;

use super::Weight;

/// A cache in the memory of this process, bounded in bytes.
///
/// It is typed: a hit is a clone of the stored handle (`Bytes`, `Arc<T>`), with no decoding and no
/// allocation, and [`Tier::read_now`] answers every question without waiting. When it is full it
/// evicts what is asked for least (the policy of `quick_cache`, which resists scans).
///
/// # Guarantees
/// | | |
/// |---|---|
/// | durability | [`Durability::Process`] |
/// | conditions | all, each decided in one step |
/// | precision of times | one nanosecond |
/// | largest entry | [`MemoryCache::bytes_max`]; a larger one is [`CacheError::TooLarge`], and what was stored stays |
///
/// An expired entry takes memory until it is read, replaced or evicted.
///
/// Counters, with the label `tier`: `larder_cache_evictions_total`, `larder_cache_expired_total`
/// (entries that a read found expired and dropped) and `larder_cache_too_large_total`.
///
/// ```
/// use larder::cache::MemoryCache;
/// use larder_core::{CacheValue, Condition, KeyRef, Tier};
/// use bytes::Bytes;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cache: MemoryCache<Bytes> = MemoryCache::builder(64 << 20).label("near").build();
/// let key = KeyRef::new("greeting")?;
/// cache.write(key, CacheValue::new(Bytes::from("hello")), Condition::Always).await?;
/// assert_eq!(cache.read(key).await?.map(|found| found.value.data), Some(Bytes::from("hello")));
/// # Ok(()) }
/// ```
pub struct MemoryCache<V> {
    label: String,
    clock: SharedClock,
    weigh: fn(&V) -> u64,
    entries: Entries<Key, Stored<V>, ByStoredWeight, RandomState, Evictions>,
    /// Writers of one key take turns, so that a condition and its write are one step.
    turns: Box<[Mutex<()>]>,
    hasher: RandomState,
    bytes_max: u64,
    expired: Counter,
    too_large: Counter,
}

/// How many locks writers spread over.
const TURNS: usize = 64;

/// What an entry takes besides its key, its value and the heap memory of the value: links, the slot
/// in the hash table, the reference counts of the key.
const ENTRY_OVERHEAD: usize = 64;

/// A shard is at least so large, because the largest entry is a little less than a shard.
const SHARD_BYTES_MIN: u64 = 8 << 20;

/// The settings of a [`MemoryCache`].
pub struct MemoryCacheBuilder<V> {
    label: String,
    clock: SharedClock,
    capacity: u64,
    weigh: fn(&V) -> u64,
}

impl<V> MemoryCacheBuilder<V> {
    /// The name in metrics and source paths. Default: `memory`.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// What decides about expiry. Default: the system clock.
    #[must_use]
    pub fn clock(mut self, clock: SharedClock) -> Self {
        self.clock = clock;
        self
    }

    /// What a value weighs, in bytes.
    #[must_use]
    pub fn weigher(mut self, weigh: fn(&V) -> u64) -> Self {
        self.weigh = weigh;
        self
    }
}

impl<V: Clone + Send + Sync + 'static> MemoryCacheBuilder<V> {
    /// The cache, empty.
    pub fn build(self) -> MemoryCache<V> {
        let Self { label, clock, capacity, weigh } = self;
        let hasher = RandomState::default();
        let of = |name: &'static str| counter!(name, "tier" => label.clone());
        let entries = Entries::with_options(
            options(capacity),
            ByStoredWeight,
            hasher,
            Evictions(of("larder_cache_evictions_total")),
        );
        // The share of a shard that its main queue may take; see `OptionsBuilder`.
        let bytes_max = entries.shard_capacity() / 100 * 97;
        MemoryCache {
            expired: of("larder_cache_expired_total"),
            too_large: of("larder_cache_too_large_total"),
            turns: (0..TURNS).map(|_| Mutex::new(())).collect(),
            label,
            clock,
            weigh,
            entries,
            hasher,
            bytes_max,
        }
    }
}

impl<V> fmt::Debug for MemoryCacheBuilder<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryCacheBuilder")
            .field("label", &self.label)
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

impl<V: Weight> MemoryCache<V> {
    /// A cache of `capacity` bytes, to be refined: keys, entries and the memory behind the values
    /// count. A capacity of zero holds nothing.
    pub fn builder(capacity: u64) -> MemoryCacheBuilder<V> {
        Self::weighed(capacity, V::weight)
    }
}

impl<V> MemoryCache<V> {
    /// As [`MemoryCache::builder`], for values whose weight `weigh` tells, in bytes.
    pub fn weighed(capacity: u64, weigh: fn(&V) -> u64) -> MemoryCacheBuilder<V> {
        MemoryCacheBuilder {
            label: String::from("memory"),
            clock: SystemClock::shared(),
            capacity,
            weigh,
        }
    }

    /// The weight of the largest entry that is taken, in bytes.
    pub const fn bytes_max(&self) -> u64 {
        self.bytes_max
    }
}

impl<V: Clone + Send + Sync + 'static> MemoryCache<V> {
    #[expect(
        clippy::inline_always,
        reason = "each call that stays copies the whole value once more"
    )]
    #[inline(always)]
    fn find(&self, key: KeyRef<'_>) -> Option<Found<V>> {
        let stored = self.entries.get(key.as_str());
        if stored.as_ref().is_some_and(|stored| self.is_over(&stored.value)) {
            self.drop_expired(key);
            return None;
        }
        stored.map(|stored| Found::here(stored.value))
    }

    #[inline]
    fn is_over(&self, value: &CacheValue<V>) -> bool {
        value.expire.is_some_and(|expire| self.clock.is_past(expire))
    }

    /// Drops the entry if it still is an expired one: a newer one may have come meanwhile.
    #[cold]
    fn drop_expired(&self, key: KeyRef<'_>) {
        if self.entries.remove_if(key.as_str(), |stored| self.is_over(&stored.value)).is_some() {
            self.expired.increment(1);
        }
    }

    /// Whether `condition` holds for what is stored, if it is not expired.
    fn holds(&self, condition: Condition, stored: Option<&Stored<V>>) -> bool {
        let live = stored.filter(|stored| !self.is_over(&stored.value));
        condition.holds(live.map(|stored| stored.value.version))
    }

    fn put(
        &self,
        key: Key,
        value: CacheValue<V>,
        condition: Condition,
    ) -> Result<WriteStatus, CacheError> {
        let over = value.age(&*self.clock) == Age::Expired;
        let weight = self.entry_weight(&key, &value.data);
        if !over && weight.get() > self.bytes_max {
            self.too_large.increment(1);
            return Err(CacheError::TooLarge { bytes: weight.get(), bytes_max: self.bytes_max });
        }
        let _turn = self.turn(key.as_ref());
        if condition != Condition::Always
            && !self.holds(condition, self.entries.peek(key.as_str()).as_ref())
        {
            return Ok(WriteStatus::NOT_NEWER);
        }
        if over {
            self.entries.remove(key.as_str());
        } else {
            self.entries.insert(key, Stored { value, weight });
        }
        Ok(WriteStatus::WRITTEN)
    }

    fn delete(&self, key: KeyRef<'_>, condition: Condition) -> DeleteStatus {
        let _turn = self.turn(key);
        let removes = |stored: &Stored<V>| self.holds(condition, Some(stored));
        match self.entries.remove_if(key.as_str(), removes) {
            Some((_, stored)) if !self.is_over(&stored.value) => DeleteStatus::Deleted(1),
            _ => DeleteStatus::Missing,
        }
    }

    fn entry_weight(&self, key: &Key, data: &V) -> NonZeroU64 {
        let own = key.as_str().len() + size_of::<Stored<V>>() + ENTRY_OVERHEAD;
        let own = u64::try_from(own).unwrap_or(u64::MAX).saturating_add((self.weigh)(data));
        NonZeroU64::new(own).unwrap_or(NonZeroU64::MIN)
    }

    fn turn(&self, key: KeyRef<'_>) -> MutexGuard<'_, ()> {
        let hash = self.hasher.hash_one(key.as_str());
        let at = usize::try_from(hash % TURNS as u64).unwrap_or(0);
        self.turns[at].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V: Clone + Send + Sync + 'static> Tier<V> for MemoryCache<V> {
    async fn read(&self, key: KeyRef<'_>) -> Result<Option<Found<V>>, CacheError> {
        Ok(self.find(key))
    }

    #[inline]
    fn read_now(&self, key: KeyRef<'_>) -> Now<V> {
        self.find(key).map_or(Now::Miss, Now::Hit)
    }

    async fn write(
        &self,
        key: KeyRef<'_>,
        value: CacheValue<V>,
        condition: Condition,
    ) -> Result<WriteStatus, CacheError> {
        self.put(key.to_key(), value, condition)
    }

    async fn remove(
        &self,
        key: KeyRef<'_>,
        condition: Condition,
    ) -> Result<DeleteStatus, CacheError> {
        Ok(self.delete(key, condition))
    }

    async fn read_many(&self, keys: &[KeyRef<'_>]) -> Result<Vec<Option<Found<V>>>, CacheError> {
        Ok(keys.iter().map(|key| self.find(*key)).collect())
    }

    async fn write_many(
        &self,
        entries: Vec<(Key, CacheValue<V>)>,
        condition: Condition,
    ) -> Result<Vec<WriteStatus>, CacheError> {
        let put = |(key, value)| self.put(key, value, condition);
        // All of them, before the first error is told: one large value must not hide the others.
        let written: Vec<_> = entries.into_iter().map(put).collect();
        written.into_iter().collect()
    }

    async fn remove_many(
        &self,
        keys: &[KeyRef<'_>],
        condition: Condition,
    ) -> Result<Vec<DeleteStatus>, CacheError> {
        Ok(keys.iter().map(|key| self.delete(*key, condition)).collect())
    }

    async fn clear(&self) -> Result<(), CacheError> {
        self.entries.clear();
        Ok(())
    }

    async fn forget(&self, key: KeyRef<'_>, condition: Condition) -> Result<(), CacheError> {
        self.delete(key, condition);
        Ok(())
    }

    async fn forget_all(&self) -> Result<(), CacheError> {
        self.entries.clear();
        Ok(())
    }

    fn label(&self) -> &str {
        &self.label
    }

    fn describe(&self, _: Source) -> String {
        self.label.clone()
    }

    fn conditions(&self) -> Conditions {
        Conditions::ALL
    }

    fn durability(&self) -> Durability {
        Durability::Process
    }

    fn usage(&self) -> Option<TierUsage> {
        let entries = u64::try_from(self.entries.len()).unwrap_or(u64::MAX);
        Some(TierUsage::new(entries, self.entries.weight(), Some(self.entries.capacity())))
    }

    fn tier_stats(&self) -> Vec<TierStats> {
        vec![TierStats::new(self.label.clone(), Tier::<V>::usage(self))]
    }

    fn on_repair(&self, _: &RepairListener) {}
}

impl<V> fmt::Debug for MemoryCache<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryCache").field("label", &self.label).finish_non_exhaustive()
    }
}

/// How `quick_cache` is to lay out `capacity` bytes.
fn options(capacity: u64) -> quick_cache::Options {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let shards = usize::try_from(capacity / SHARD_BYTES_MIN).unwrap_or(usize::MAX);
    let shards = shards.clamp(1, cores.saturating_mul(4));
    // It rounds up to a power of two; the shards must not become smaller than they may be.
    let shards = 1 << shards.ilog2();
    // The estimate bounds what is remembered of evicted keys: eight bytes for each.
    let items = usize::try_from(capacity / 1024).unwrap_or(usize::MAX).clamp(32 * shards, 1 << 24);
    let mut options = OptionsBuilder::new();
    options.shards(shards).estimated_items_capacity(items).weight_capacity(capacity);
    match options.build() {
        Ok(options) => options,
        Err(_) => unreachable!("both capacities are set above"),
    }
}

/// A value with its weight, which is asked once: `quick_cache` needs it to stay the same.
struct Stored<V> {
    value: CacheValue<V>,
    /// Never zero, so that what `quick_cache` answers is no longer than this.
    weight: NonZeroU64,
}

impl<V: Clone> Clone for Stored<V> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), weight: self.weight }
    }
}

#[derive(Clone)]
struct ByStoredWeight;

impl<V> Weighter<Key, Stored<V>> for ByStoredWeight {
    fn weight(&self, _: &Key, stored: &Stored<V>) -> u64 {
        stored.weight.get()
    }
}

/// Counts evictions, and drops what was evicted after the lock of the shard is released.
#[derive(Clone)]
struct Evictions(Counter);

impl<V> Lifecycle<Key, Stored<V>> for Evictions {
    /// The first one takes no memory: mostly there is no other.
    type RequestState = (Option<(Key, Stored<V>)>, Vec<(Key, Stored<V>)>);

    fn on_evict(&self, (first, more): &mut Self::RequestState, key: Key, stored: Stored<V>) {
        self.0.increment(1);
        if first.is_none() {
            *first = Some((key, stored));
        } else {
            more.push((key, stored));
        }
    }
}
