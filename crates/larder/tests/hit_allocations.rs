//! A hit in the first tier allocates nothing, however the tiers are put together.

#![allow(clippy::unwrap_used, reason = "a step that fails fails the test")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use bytes::Bytes;
use larder::cache::{
    Cache, Guarded, LoadOptions, MemoryCache, PutOptions, Tag, Tagged, Tags, Tiered,
};
use larder::compose::{AnyReadPolicy, AnyWritePolicy, OptimisticParallelWritePolicy, RefillPolicy};
use larder_core::{
    BoxError, CacheValue, Clock as _, Condition, KeyRef, SharedTier, SystemClock, Tier, Version,
};

thread_local! {
    /// What this thread has allocated; other tests run in other threads.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

#[expect(
    unsafe_code,
    reason = "an allocator is unsafe by its trait; this one hands on to the system's"
)]
// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // The cell may be gone while a thread ends; that is no hit.
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn key() -> KeyRef<'static> {
    KeyRef::new("a-key-of-twenty-byte").unwrap()
}

fn near() -> MemoryCache<Bytes> {
    MemoryCache::builder(8 << 20).label("near").build()
}

/// The allocations of 1,000 awaited hits, after a first one.
async fn allocations(mut hit: impl AsyncFnMut()) -> u64 {
    hit().await;
    let before = ALLOCATIONS.with(Cell::get);
    for _ in 0..1_000 {
        hit().await;
    }
    ALLOCATIONS.with(Cell::get) - before
}

async fn hits_of(tier: impl Tier<Bytes>) -> u64 {
    // A value with everything, so that every check of a read is made.
    let now = SystemClock.now();
    let value = CacheValue::new(Bytes::from(vec![7; 256]))
        .with_ttl(now, Duration::from_mins(1))
        .with_stale_after(now, Duration::from_secs(30))
        .with_version(Version::from_parts(1, 1));
    tier.write(key(), value, Condition::Always).await.unwrap();
    allocations(async || assert!(tier.read(key()).await.unwrap().is_some())).await
}

#[tokio::test]
async fn the_counter_counts() {
    let allocated = allocations(async || drop(std::hint::black_box(Box::new(1)))).await;
    assert_eq!(allocated, 1_000);
}

#[tokio::test]
async fn a_hit_in_memory_allocates_nothing() {
    assert_eq!(hits_of(near()).await, 0);
}

#[tokio::test]
async fn a_hit_behind_a_handle_allocates_nothing() {
    assert_eq!(hits_of(SharedTier::new(near())).await, 0);
}

#[tokio::test]
async fn a_hit_behind_a_closed_breaker_allocates_nothing() {
    assert_eq!(hits_of(Guarded::builder(near()).build()).await, 0);
    // One that has to be awaited, so that the breaker and the time limit are passed.
    let nothing = MemoryCache::<Bytes>::builder(0).build();
    let far = Tiered::builder(nothing, near()).refill(RefillPolicy::Never).build();
    assert_eq!(hits_of(Guarded::builder(far).build()).await, 0);
}

#[tokio::test]
async fn a_hit_in_the_first_of_two_tiers_allocates_nothing() {
    assert_eq!(hits_of(Tiered::builder(near(), near()).build()).await, 0);
}

#[tokio::test]
async fn a_hit_in_two_tiers_chosen_at_run_time_allocates_nothing() {
    let read: AnyReadPolicy = "sequential".parse().unwrap();
    let write = AnyWritePolicy::from(OptimisticParallelWritePolicy);
    let tiered = Tiered::builder(SharedTier::new(near()), SharedTier::new(near()))
        .read(read)
        .write(write)
        .build();
    assert_eq!(hits_of(SharedTier::new(tiered)).await, 0);
}

#[tokio::test]
async fn a_hit_in_the_first_of_three_nested_tiers_allocates_nothing() {
    let inner = Tiered::builder(near(), near()).build();
    assert_eq!(hits_of(Tiered::builder(near(), inner).build()).await, 0);
    let inner = SharedTier::new(Tiered::builder(near(), near()).build());
    let outer = Tiered::builder(SharedTier::new(near()), inner).build();
    assert_eq!(hits_of(SharedTier::new(outer)).await, 0);
}

#[tokio::test]
async fn a_hit_of_the_cache_that_a_service_uses_allocates_nothing() {
    let near = || MemoryCache::<Tagged<Bytes>>::builder(8 << 20).build();
    let tiered = Tiered::builder(SharedTier::new(near()), SharedTier::new(near())).build();
    let cache: Cache<Bytes> = Cache::builder(SharedTier::new(tiered)).build();
    let tags = Tags::new([Tag::new("a").unwrap(), Tag::new("b").unwrap()]).unwrap();
    let options = PutOptions::new().ttl(Duration::from_mins(1)).tags(tags);
    cache.put(key(), Bytes::from("v"), options).await.unwrap();
    // A floor above the value, so that the tags have to be looked up.
    cache.remove_tag(&Tag::new("c").unwrap());
    assert_eq!(allocations(async || assert!(cache.get(key()).await.unwrap().is_some())).await, 0);

    let eager = LoadOptions::new().eager_refresh_percent(90);
    for options in [LoadOptions::new(), eager] {
        let hit = async || {
            let load = || async { Err::<Bytes, _>("a hit loads nothing") };
            assert!(cache.get_or_load_with(key(), &options, load).await.unwrap().is_some());
        };
        assert_eq!(allocations(hit).await, 0);
    }
}

#[tokio::test]
async fn a_hit_on_the_note_that_there_is_no_value_allocates_nothing() {
    let tier = MemoryCache::<Tagged<Bytes>>::builder(8 << 20).build();
    let cache: Cache<Bytes> = Cache::builder(SharedTier::new(tier)).build();
    let hit = async || {
        let load = || async { Ok::<_, BoxError>(None::<Bytes>) };
        assert!(cache.get_or_load(key(), load).await.unwrap().is_none());
    };
    assert_eq!(allocations(hit).await, 0);
    assert_eq!(cache.stats().loads, 1);
}
