use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use bytes::Bytes;
use larder::cache::MemoryCache;
use larder_core::{
    CacheError, Clock, Condition, DeleteStatus, Failure as _, ManualClock, Now, Tier, Timestamp,
    WriteStatus,
};

use crate::scripted::{data, key, text, version};

const MIB: u64 = 1 << 20;

fn cache(clock: &ManualClock) -> MemoryCache<Bytes> {
    MemoryCache::builder(64 * MIB).clock(clock.shared()).build()
}

#[tokio::test]
async fn an_expired_entry_is_a_miss_and_is_dropped() {
    let clock = ManualClock::default();
    let cache = cache(&clock);
    let value = text("v").with_ttl(clock.now(), Duration::from_millis(500));
    cache.write(key("k"), value, Condition::Always).await.unwrap();
    clock.advance(Duration::from_nanos(499_999_999));
    assert_eq!(data(&cache, "k").await, Some(Bytes::from("v")));
    assert_eq!(cache.usage().unwrap().entries, 1);
    clock.advance(Duration::from_nanos(1));
    assert_eq!(cache.read_now(key("k")), Now::Miss);
    assert_eq!(cache.usage().unwrap().entries, 0);
    assert_eq!(cache.usage().unwrap().bytes, 0);
}

#[tokio::test]
async fn a_stale_entry_is_kept_and_served() {
    let clock = ManualClock::default();
    let cache = cache(&clock);
    let value = text("v").with_stale_after(clock.now(), Duration::from_millis(1));
    cache.write(key("k"), value.clone(), Condition::Always).await.unwrap();
    clock.advance(Duration::from_secs(1));
    assert_eq!(cache.read(key("k")).await.unwrap().unwrap().value, value);
}

#[tokio::test]
async fn a_life_of_zero_or_in_the_past_removes() {
    let clock = ManualClock::default();
    let cache = cache(&clock);
    for life in [Duration::ZERO, Duration::from_millis(1)] {
        cache.write(key("k"), text("old"), Condition::Always).await.unwrap();
        let over = text("new").with_ttl(clock.now(), life);
        clock.advance(life);
        assert_eq!(
            cache.write(key("k"), over, Condition::Always).await.unwrap(),
            WriteStatus::WRITTEN
        );
        assert_eq!(data(&cache, "k").await, None);
    }
}

#[tokio::test]
async fn overwriting_without_a_life_clears_the_old_one() {
    let clock = ManualClock::default();
    let cache = cache(&clock);
    let short = text("old")
        .with_ttl(clock.now(), Duration::from_millis(500))
        .with_stale_after(clock.now(), Duration::from_millis(100));
    cache.write(key("k"), short, Condition::Always).await.unwrap();
    cache.write(key("k"), text("new"), Condition::Always).await.unwrap();
    clock.advance(Duration::from_hours(24));
    assert_eq!(cache.read(key("k")).await.unwrap().unwrap().value, text("new"));
}

#[tokio::test]
async fn conditions_are_decided_against_what_is_stored() {
    let cache = cache(&ManualClock::default());
    let put = async |value: &'static str, v: u64, condition| {
        let value = text(value).with_version(version(v));
        cache.write(key("k"), value, condition).await.unwrap().applied
    };
    assert!(put("two", 2, Condition::IfNewerThan(version(2))).await);
    assert!(!put("one", 1, Condition::IfNewerThan(version(1))).await);
    assert!(!put("again", 2, Condition::IfNewerThan(version(2))).await);
    assert!(!put("one", 1, Condition::IfVersionIs(None)).await);
    assert!(put("one", 1, Condition::IfVersionIs(Some(version(2)))).await);
    assert_eq!(data(&cache, "k").await, Some(Bytes::from("one")));
    let remove = async |condition| cache.remove(key("k"), condition).await.unwrap();
    assert_eq!(remove(Condition::IfVersionIs(Some(version(2)))).await, DeleteStatus::Missing);
    assert_eq!(remove(Condition::IfVersionIs(Some(version(1)))).await, DeleteStatus::Deleted(1));
    assert_eq!(remove(Condition::Always).await, DeleteStatus::Missing);
}

#[tokio::test]
async fn an_expired_entry_blocks_no_condition() {
    let clock = ManualClock::default();
    let cache = cache(&clock);
    let newer =
        text("new").with_version(version(9)).with_ttl(clock.now(), Duration::from_millis(1));
    cache.write(key("k"), newer, Condition::Always).await.unwrap();
    clock.advance(Duration::from_millis(1));
    let condition = Condition::IfNewerThan(version(1));
    assert_eq!(cache.remove(key("k"), Condition::Always).await.unwrap(), DeleteStatus::Missing);
    let older = text("old").with_version(version(1));
    assert!(cache.write(key("k"), older, condition).await.unwrap().applied);
}

#[tokio::test]
async fn an_entry_that_does_not_fit_is_refused_and_the_old_one_stays() {
    let cache: MemoryCache<Bytes> = MemoryCache::builder(MIB).build();
    cache.write(key("k"), text("small"), Condition::Always).await.unwrap();
    let large = larder_core::CacheValue::new(Bytes::from(vec![0; 1 << 20]));
    let error = cache.write(key("k"), large.clone(), Condition::Always).await.unwrap_err();
    assert!(
        matches!(error, CacheError::TooLarge { bytes_max, .. } if bytes_max == cache.bytes_max())
    );
    assert_eq!(error.effect(), larder_core::Effect::NotApplied);
    assert_eq!(data(&cache, "k").await, Some(Bytes::from("small")));
    let batch = vec![(key("large").to_key(), large), (key("other").to_key(), text("v"))];
    cache.write_many(batch, Condition::Always).await.unwrap_err();
    assert_eq!(data(&cache, "other").await, Some(Bytes::from("v")));
}

#[tokio::test]
async fn the_bound_in_bytes_holds_and_the_largest_entry_fits() {
    let cache: MemoryCache<Bytes> = MemoryCache::builder(64 * MIB).build();
    let payload = Bytes::from(vec![0; 16 << 10]);
    for n in 0..10_000 {
        let k = format!("key-{n}");
        cache
            .write(key(&k), larder_core::CacheValue::new(payload.clone()), Condition::Always)
            .await
            .unwrap();
    }
    let usage = cache.usage().unwrap();
    assert!(usage.bytes <= 64 * MIB, "{usage:?}");
    assert!(usage.entries > 3_000, "{usage:?}");
    assert_eq!(usage.capacity, Some(64 * MIB));
    let room = usize::try_from(cache.bytes_max()).unwrap() - 1024;
    let largest = larder_core::CacheValue::new(Bytes::from(vec![0; room]));
    cache.write(key("largest"), largest, Condition::Always).await.unwrap();
    assert_eq!(data(&cache, "largest").await.map(|found| found.len()), Some(room));
}

#[tokio::test]
async fn a_cache_without_room_holds_nothing_and_does_not_fail_reads() {
    let cache: MemoryCache<Bytes> = MemoryCache::builder(0).build();
    assert!(cache.write(key("k"), text("v"), Condition::Always).await.is_err());
    assert_eq!(data(&cache, "k").await, None);
}

/// A clock that lets other threads run whenever it is asked: between a condition and its write.
#[derive(Debug)]
struct YieldingClock(ManualClock);

impl Clock for YieldingClock {
    fn now(&self) -> Timestamp {
        std::thread::yield_now();
        self.0.now()
    }

    fn instant(&self) -> Instant {
        self.0.instant()
    }
}

#[test]
fn of_many_conditional_writers_the_highest_version_stays() {
    let clock = ManualClock::default();
    let expire = clock.now().saturating_add(Duration::from_secs(1));
    let cache: MemoryCache<Bytes> =
        MemoryCache::builder(MIB).clock(Arc::new(YieldingClock(clock))).build();
    let stored = || match cache.read_now(key("k")) {
        Now::Hit(found) => found.value.version,
        Now::Miss | Now::Ask => None,
    };
    let (next, start) = (AtomicU64::new(0), Barrier::new(4));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let (cache, stored, next, start) = (&cache, &stored, &next, &start);
            scope.spawn(move || {
                start.wait();
                for _ in 0..1_000 {
                    let version = version(next.fetch_add(1, Ordering::SeqCst));
                    let mut value = text("v").with_version(version);
                    value.expire = Some(expire);
                    let write = cache.write(key("k"), value, Condition::IfNewerThan(version));
                    crate::model::block_on(async {
                        write.await.unwrap();
                    });
                    assert!(stored() >= Some(version), "an older write landed over a newer one");
                }
            });
        }
    });
    assert_eq!(stored(), Some(version(3_999)));
}
