use std::time::Duration;

use bytes::Bytes;
use larder::cache::{
    Cache, Encoded, MemoryCache, NoCompression, PutOptions, RawCodec, Schema, Tag, TagError,
    Tagged, TaggedCodec, Tags, Tiered,
};
use larder::compose::{CompositionLayer, Lifetime};
use larder_core::{
    Age, CacheValue, Clock as _, Condition, DeleteStatus, ManualClock, SharedTier, Tier, Version,
};

use crate::scripted::key;

struct Bench {
    clock: ManualClock,
    near: SharedTier<Tagged<Bytes>>,
    /// The far tier as another process sees it.
    far: SharedTier<Tagged<Bytes>>,
    cache: Cache<Bytes>,
}

impl Bench {
    /// A cache over a typed memory tier and records in a store of bytes.
    fn new() -> Self {
        Self::with_tags_max(1_000)
    }

    fn with_tags_max(tags_max: usize) -> Self {
        let clock = ManualClock::default();
        let near = MemoryCache::builder(8 << 20).clock(clock.shared()).label("near").build();
        let store = MemoryCache::builder(8 << 20).clock(clock.shared()).label("far").build();
        let schema = Schema::new("test", "bytes", 1).unwrap();
        let far = Encoded::new(store, TaggedCodec(RawCodec), NoCompression, schema);
        let near = SharedTier::new(near);
        let far = SharedTier::new(far.with_clock(clock.shared()));
        let tiered = Tiered::builder(near.clone(), far.clone()).clock(clock.shared()).label("a");
        let cache = Cache::builder(SharedTier::new(tiered.build()))
            .clock(clock.shared())
            .tags_max(tags_max)
            .build();
        Self { clock, near, far, cache }
    }

    async fn put(&self, k: &str, value: &'static str, list: &str) {
        let options = PutOptions::new().tags(Tags::from_list(list).unwrap());
        let status = self.cache.put(key(k), Bytes::from(value), options).await.unwrap();
        assert!(status.applied);
    }

    async fn get(&self, k: &str) -> Option<Bytes> {
        self.cache.get(key(k)).await.unwrap().map(|hit| hit.value)
    }

    async fn forget_near(&self, k: &str) {
        self.near.remove(key(k), Condition::Always).await.unwrap();
    }

    /// What another process with a clock `ahead` of this one writes to the far tier.
    async fn foreign(&self, k: &str, value: &'static str, list: &str, ahead: Duration) {
        let millis = self.clock.now().saturating_add(ahead).as_millis();
        let tags = Tags::from_list(list).unwrap();
        let value = CacheValue::new(Tagged::new(Bytes::from(value), tags))
            .with_version(Version::from_parts(millis << 16, 77));
        self.far.write(key(k), value, Condition::Always).await.unwrap();
    }
}

fn tag(text: &str) -> Tag {
    Tag::new(text).unwrap()
}

#[tokio::test]
async fn a_hit_tells_its_age_its_life_and_where_it_came_from() {
    let bench = Bench::new();
    let options = PutOptions::new()
        .ttl(Duration::from_millis(900))
        .stale_after(Duration::from_millis(300))
        .tags(Tags::from_list("b, a").unwrap());
    bench.cache.put(key("k"), Bytes::from("v"), options).await.unwrap();
    bench.clock.advance(Duration::from_millis(299));
    let hit = bench.cache.get(key("k")).await.unwrap().unwrap();
    assert_eq!((hit.age, hit.layer()), (Age::Fresh, Some(CompositionLayer::L1)));
    assert_eq!(hit.lifetime(bench.clock.now()), Lifetime::RemainingFor(Duration::from_millis(601)));
    assert_eq!(hit.tags.iter().map(Tag::as_str).collect::<Vec<_>>(), ["a", "b"]);
    bench.clock.advance(Duration::from_millis(1));
    bench.forget_near("k").await;
    let hit = bench.cache.get(key("k")).await.unwrap().unwrap();
    assert_eq!((hit.age, hit.layer()), (Age::Stale, Some(CompositionLayer::L2)));
    assert_eq!(bench.cache.describe(hit.source.unwrap()), "a.far");
    bench.clock.advance(Duration::from_millis(600));
    assert_eq!(bench.get("k").await, None);
    let stats = bench.cache.stats();
    assert_eq!((stats.hits, stats.stale_hits, stats.misses, stats.puts), (2, 1, 1, 1));
}

#[tokio::test]
async fn a_life_of_zero_removes_and_a_default_life_counts() {
    let bench = Bench::new();
    bench.put("k", "v", "").await;
    let zero = PutOptions::new().ttl(Duration::ZERO);
    bench.cache.put(key("k"), Bytes::from("gone"), zero).await.unwrap();
    assert_eq!(bench.get("k").await, None);

    let tier = MemoryCache::builder(1 << 20).clock(bench.clock.shared()).build();
    let cache: Cache<Bytes> = Cache::builder(SharedTier::new(tier))
        .clock(bench.clock.shared())
        .default_ttl(Duration::from_millis(5))
        .build();
    cache.put(key("k"), Bytes::from("v"), PutOptions::new()).await.unwrap();
    assert!(cache.get(key("k")).await.unwrap().is_some());
    bench.clock.advance(Duration::from_millis(5));
    assert!(cache.get(key("k")).await.unwrap().is_none());
}

#[tokio::test]
async fn removing_a_tag_invalidates_what_was_put_with_it_in_every_layer() {
    let bench = Bench::new();
    bench.put("one", "v", "red, round").await;
    bench.put("two", "v", "red").await;
    bench.put("other", "v", "blue").await;
    bench.put("plain", "v", "").await;
    bench.forget_near("two").await;
    bench.cache.remove_tag(&tag("red"));
    assert_eq!([bench.get("one").await, bench.get("two").await], [None, None]);
    assert!(bench.get("other").await.is_some() && bench.get("plain").await.is_some());
    assert_eq!(bench.far.read(key("two")).await.unwrap(), None, "and it is removed");
    bench.put("one", "again", "red").await;
    assert_eq!(bench.get("one").await, Some(Bytes::from("again")));
    bench.forget_near("one").await;
    assert_eq!(bench.get("one").await, Some(Bytes::from("again")));
}

#[tokio::test]
async fn a_value_that_a_refill_brings_back_is_invalid_as_well() {
    let bench = Bench::new();
    bench.put("k", "v", "red").await;
    let record = bench.far.read(key("k")).await.unwrap().unwrap().value;
    bench.cache.remove_tag(&tag("red"));
    assert_eq!(bench.get("k").await, None);
    // A copy that arrives late, as from a replica that lags.
    bench.far.write(key("k"), record, Condition::Always).await.unwrap();
    assert_eq!(bench.get("k").await, None);
    assert_eq!(bench.cache.stats().invalidated, 2);
}

#[tokio::test]
async fn an_invalid_near_copy_does_not_hide_a_valid_far_value() {
    let bench = Bench::new();
    bench.put("k", "old", "red").await;
    bench.cache.remove_tag(&tag("red"));
    bench.clock.advance(Duration::from_millis(1));
    bench.foreign("k", "new", "red", Duration::ZERO).await;
    assert_eq!(bench.get("k").await, Some(Bytes::from("new")));
}

#[tokio::test]
async fn beyond_the_bound_of_tags_too_much_dies_and_never_too_little() {
    let bench = Bench::with_tags_max(2);
    bench.put("k1", "v", "t1").await;
    bench.put("never", "v", "t9").await;
    for n in 1..=4 {
        bench.cache.remove_tag(&tag(&format!("t{n}")));
    }
    assert_eq!(bench.get("k1").await, None);
    assert_eq!(bench.get("never").await, None, "the price of the bound");
    bench.put("never", "v", "t9").await;
    assert!(bench.get("never").await.is_some());
}

#[tokio::test]
async fn tagged_values_from_before_a_restart_are_not_trusted_and_plain_ones_are() {
    let bench = Bench::new();
    bench.put("tagged", "v", "red").await;
    bench.put("plain", "v", "").await;
    bench.clock.advance(Duration::from_millis(1));
    let restarted: Cache<Bytes> =
        Cache::builder(bench.far.clone()).clock(bench.clock.shared()).build();
    assert!(restarted.get(key("tagged")).await.unwrap().is_none());
    assert!(restarted.get(key("plain")).await.unwrap().is_some());
}

#[tokio::test]
async fn a_clear_invalidates_everything_and_what_is_put_later_lives() {
    let bench = Bench::new();
    bench.put("k", "v", "").await;
    let record = bench.far.read(key("k")).await.unwrap().unwrap().value;
    bench.cache.clear().await.unwrap();
    assert_eq!(bench.get("k").await, None);
    bench.far.write(key("k"), record, Condition::Always).await.unwrap();
    assert_eq!(bench.get("k").await, None, "also when a copy arrives late");
    bench.put("k", "new", "").await;
    assert_eq!(bench.get("k").await, Some(Bytes::from("new")));
}

#[tokio::test]
async fn a_put_wins_against_what_a_process_with_a_faster_clock_has_written() {
    let bench = Bench::new();
    // Within what is merged, and so far ahead that it is not.
    for ahead in [Duration::from_secs(10), Duration::from_hours(10)] {
        bench.foreign("k", "foreign", "", ahead).await;
        bench.forget_near("k").await;
        bench.put("k", "ours", "").await;
        assert_eq!(bench.get("k").await, Some(Bytes::from("ours")));
        bench.forget_near("k").await;
        assert_eq!(bench.get("k").await, Some(Bytes::from("ours")));
    }
}

#[tokio::test]
async fn a_version_far_in_the_future_escapes_no_tag() {
    let bench = Bench::new();
    bench.foreign("k", "v", "red", Duration::from_hours(10)).await;
    bench.cache.remove_tag(&tag("red"));
    assert_eq!(bench.get("k").await, None);
}

#[tokio::test]
async fn a_removed_key_is_gone_and_removing_it_again_is_harmless() {
    let bench = Bench::new();
    bench.put("k", "v", "").await;
    assert_eq!(bench.cache.remove(key("k")).await.unwrap(), DeleteStatus::Deleted(2));
    assert_eq!(bench.cache.remove(key("k")).await.unwrap(), DeleteStatus::Missing);
    assert_eq!(bench.get("k").await, None);
    assert_eq!(bench.cache.stats().removes, 1);
}

#[test]
fn bad_tags_are_named() {
    assert_eq!(Tag::new(""), Err(TagError::Empty));
    assert_eq!(Tag::new(&"t".repeat(129)), Err(TagError::TooLong { len: 129 }));
    assert_eq!(Tag::new("a,b"), Err(TagError::Character { at: 1 }));
    assert_eq!(Tags::from_list("a,,b"), Err(TagError::Empty));
    assert_eq!(Tags::from_list(" "), Ok(Tags::NONE));
    let many = (0..33).map(|n| Tag::new(&format!("t{n}")).unwrap());
    assert_eq!(Tags::new(many), Err(TagError::TooMany { count: 33 }));
    assert_eq!(Tags::from_list("b, a, b"), Tags::from_list("a,b"));
}
