//! What a cache says of each of its tiers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use larder::cache::{
    BreakerState, Cache, Encoded, GuardOptions, Guarded, MemoryCache, NoCompression, PutOptions,
    RawCodec, Schema, Tagged, TaggedCodec, TierStats, Tiered,
};
use larder_core::{ManualClock, SharedTier};

use crate::scripted::{Op, Scripted, key};

/// Two tiers in memory over a guarded one that does as it is told.
struct Bench {
    clock: ManualClock,
    near: SharedTier<Tagged<Bytes>>,
    middle: SharedTier<Tagged<Bytes>>,
    far: Scripted,
    cache: Cache<Bytes>,
}

const TTL: Duration = Duration::from_mins(1);

fn memory(label: &str, clock: &ManualClock) -> SharedTier<Tagged<Bytes>> {
    let tier: MemoryCache<Tagged<Bytes>> =
        MemoryCache::builder(1 << 20).label(label).clock(clock.shared()).build();
    SharedTier::new(tier)
}

impl Bench {
    fn new() -> Self {
        let clock = ManualClock::default();
        let (near, middle) = (memory("near", &clock), memory("middle", &clock));
        let far = Scripted::new("far", &clock);
        let schema = Schema::new("test", "bytes", 1).unwrap();
        let records = Encoded::new(far.clone(), TaggedCodec(RawCodec), NoCompression, schema)
            .with_clock(clock.shared());
        let options = GuardOptions::new().failures_min(2).jitter_percent(0);
        let guarded = Guarded::builder(records).options(options).clock(clock.shared()).build();
        let below = Tiered::builder(middle.clone(), Arc::new(guarded))
            .label("below")
            .clock(clock.shared())
            .build();
        let all = Tiered::builder(near.clone(), SharedTier::new(below))
            .label("all")
            .clock(clock.shared())
            .build();
        let cache = Cache::builder(SharedTier::new(all)).clock(clock.shared()).build();
        Self { clock, near, middle, far, cache }
    }

    async fn put(&self, k: &str) {
        let options = PutOptions::new().ttl(TTL).stale_after(TTL / 2);
        self.cache.put(key(k), Bytes::from("v"), options).await.unwrap();
    }

    async fn get(&self, k: &str) -> bool {
        self.cache.get(key(k)).await.unwrap().is_some()
    }

    fn tiers(&self) -> [TierStats; 3] {
        self.cache.stats().tiers.try_into().unwrap()
    }
}

async fn forget(tier: &SharedTier<Tagged<Bytes>>) {
    use larder_core::Tier as _;
    tier.clear().await.unwrap();
}

#[tokio::test]
async fn hits_misses_and_refills_are_told_of_each_tier() {
    let bench = Bench::new();
    bench.put("k").await;
    assert!(bench.get("k").await, "from the near one");
    forget(&bench.near).await;
    assert!(bench.get("k").await, "from the middle");
    forget(&bench.near).await;
    forget(&bench.middle).await;
    assert!(bench.get("k").await, "from the far one");
    assert!(!bench.get("absent").await);
    let tiers = bench.tiers();
    let paths = tiers.each_ref().map(|tier| tier.path.as_str());
    assert_eq!(paths, ["all.near", "all.below.middle", "all.below.far"]);
    assert_eq!(tiers.each_ref().map(|tier| tier.hits), [1, 1, 1]);
    assert_eq!(tiers.each_ref().map(|tier| tier.misses), [3, 2, 1]);
    assert_eq!(tiers.each_ref().map(|tier| tier.refills), [2, 1, 0]);
    assert_eq!(tiers.each_ref().map(|tier| tier.usage.map(|usage| usage.entries)), [Some(1); 3]);
    let stats = bench.cache.stats();
    assert_eq!((stats.hits, stats.misses), (3, 1));
}

#[tokio::test]
async fn a_batch_counts_every_key() {
    let bench = Bench::new();
    for k in ["a", "b", "c"] {
        bench.put(k).await;
    }
    forget(&bench.near).await;
    assert!(bench.get("a").await);
    let keys = ["a", "b", "c", "absent"].map(key);
    bench.cache.get_many(&keys).await.unwrap();
    let tiers = bench.tiers();
    assert_eq!(tiers.each_ref().map(|tier| tier.hits), [1, 3, 0]);
    // The first get, then three of the batch; of those the middle lacks one, and so does the far one.
    assert_eq!(tiers.each_ref().map(|tier| tier.misses), [4, 1, 1]);
    assert_eq!(tiers.each_ref().map(|tier| tier.refills), [3, 0, 0]);
}

#[tokio::test]
async fn stale_hits_are_told_of_the_tier_that_gave_them() {
    let bench = Bench::new();
    bench.put("k").await;
    bench.clock.advance(TTL / 2);
    assert!(bench.get("k").await);
    let tiers = bench.tiers();
    assert_eq!(tiers.each_ref().map(|tier| (tier.hits, tier.stale_hits)), [(1, 1), (0, 0), (0, 0)]);
    // The near one held it, if only stale: nothing below had a fresher one.
    assert_eq!(tiers.each_ref().map(|tier| tier.misses), [0, 0, 0]);
}

#[tokio::test]
async fn an_outage_shows_as_errors_debts_and_an_open_breaker() {
    let bench = Bench::new();
    bench.put("k").await;
    for op in [Op::Read, Op::Write, Op::Remove] {
        bench.far.fail(op);
    }
    bench.put("k").await;
    assert!(!bench.get("absent").await);
    assert!(!bench.get("absent").await);
    let [near, middle, far] = bench.tiers();
    assert_eq!(
        [&near, &middle].map(|tier| (tier.errors, tier.owed_keys, tier.guard)),
        [(0, 0, None); 2]
    );
    assert_eq!((far.errors, far.owed_keys, far.owes_all), (2, 1, false));
    let guard = far.guard.unwrap();
    assert_eq!((guard.state, guard.opened, guard.failures), (BreakerState::Open, 1, 2));
    assert_eq!(guard.refused, 1);
    assert!(guard.retry_in.is_some());
    bench.far.recover();
    bench.clock.advance(Duration::from_secs(2));
    bench.put("k").await;
    let [_, _, far] = bench.tiers();
    assert_eq!((far.owed_keys, far.guard.unwrap().state), (0, BreakerState::Closed));
}

#[tokio::test]
async fn a_debt_of_several_tiers_is_told_of_each() {
    let bench = Bench::new();
    bench.put("k").await;
    let dropped = {
        let held = bench.far.hold(Op::Write, crate::scripted::When::Before);
        let put = bench.put("k");
        let cut = tokio::time::timeout(Duration::from_millis(1), put).await;
        drop(held);
        cut
    };
    dropped.unwrap_err();
    let owed = bench.tiers().map(|tier| tier.owed_keys);
    assert_eq!(owed[1..], [1, 2], "the pair below owes, and in it the far one");
}

#[tokio::test]
async fn a_cache_of_one_tier_is_told_by_its_own_numbers() {
    let clock = ManualClock::default();
    let cache = Cache::builder(memory("only", &clock)).clock(clock.shared()).build();
    cache.put(key("k"), Bytes::from("v"), PutOptions::new()).await.unwrap();
    assert!(cache.get(key("k")).await.unwrap().is_some());
    assert!(cache.get(key("absent")).await.unwrap().is_none());
    let stats = cache.stats();
    let [only] = &stats.tiers[..] else { panic!("{stats:?}") };
    assert_eq!((only.path.as_str(), only.hits, only.misses), ("only", 1, 1));
}
