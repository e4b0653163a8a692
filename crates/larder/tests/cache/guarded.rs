//! A tier that hangs or fails behind a guard, alone and below another one.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use larder::cache::{BreakerState, GuardError, GuardOptions, Guarded, Tiered};
use larder::compose::{AnyReadPolicy, AnyWritePolicy, RaceLoserPolicy, RaceWritePolicy};
use larder_core::{
    CacheError, CacheValue, Clock as _, Condition, Effect, Failure as _, LayerState, ManualClock,
    Retry, Tier,
};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::scripted::{Op, Scripted, When, data, key, text, version};

const READ: Duration = Duration::from_millis(50);
const WRITE: Duration = Duration::from_millis(200);
const PAUSE: Duration = Duration::from_secs(2);

type Guard = Arc<Guarded<Scripted>>;

fn options() -> GuardOptions {
    GuardOptions::new().read_limit(READ).write_limit(WRITE).pause(PAUSE).jitter_percent(0)
}

fn guarded(options: GuardOptions) -> (ManualClock, Scripted, Guard) {
    let clock = ManualClock::default();
    let inner = Scripted::new("far", &clock);
    let guard = Guarded::builder(inner.clone()).options(options).clock(clock.shared()).build();
    (clock, inner, Arc::new(guard))
}

/// Lets the next calls of a kind hang for as long as the answer lives.
fn hang(tier: &Scripted, op: Op, calls: usize) -> Vec<oneshot::Sender<()>> {
    (0..calls).map(|_| tier.hold(op, When::Before)).collect()
}

fn says(error: &CacheError) -> (Effect, Retry, GuardError) {
    let CacheError::Backend(backend) = error else { panic!("{error:?}") };
    let of_guard = backend.source().and_then(|source| source.downcast_ref::<GuardError>());
    (error.effect(), error.retry(), of_guard.unwrap().clone())
}

async fn trip(inner: &Scripted, guard: &Guard) {
    inner.fail(Op::Read);
    while guard.stats().state == BreakerState::Closed {
        guard.read(key("trip")).await.unwrap_err();
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_without_an_answer_ends_at_its_limit_and_says_what_it_may_have_done() {
    let (_, inner, guard) = guarded(options().failure_percent(101));
    let _held = [Op::Read, Op::Write, Op::Remove].map(|op| hang(&inner, op, 2));
    let tier: Arc<str> = "far".into();
    let late = |limit| GuardError::TimedOut { tier: Arc::clone(&tier), limit };

    let (keys, entries) = ([key("k")], vec![(key("k").to_key(), text("v"))]);
    let always = Condition::Always;
    let start = Instant::now();
    let read = says(&guard.read(key("k")).await.unwrap_err());
    let read_many = says(&guard.read_many(&keys).await.unwrap_err());
    assert_eq!(start.elapsed(), 2 * READ);
    let write = says(&guard.write(key("k"), text("v"), always).await.unwrap_err());
    let write_many = says(&guard.write_many(entries, always).await.unwrap_err());
    let remove = says(&guard.remove(key("k"), always).await.unwrap_err());
    let remove_many = says(&guard.remove_many(&keys, always).await.unwrap_err());
    assert_eq!(start.elapsed(), 2 * READ + 4 * WRITE);
    for read in [read, read_many] {
        assert_eq!(read, (Effect::NotApplied, Retry::Later, late(READ)));
    }
    for change in [write, write_many, remove, remove_many] {
        assert_eq!(change, (Effect::Unknown, Retry::Later, late(WRITE)));
    }
    let _held = hang(&inner, Op::Remove, 1);
    let clear = says(&guard.clear().await.unwrap_err());
    assert_eq!((clear.0, clear.2), (Effect::Unknown, late(GuardOptions::new().clear_limit)));
    assert_eq!((guard.stats().timeouts, guard.stats().failures), (7, 7));
    assert_eq!(inner.stored("k"), None, "what was cut off does not go on");
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_hangs_is_left_alone_and_tried_again_after_a_pause() {
    let (clock, inner, guard) = guarded(options());
    let held = hang(&inner, Op::Read, 100);
    for _ in 0..5 {
        guard.read(key("k")).await.unwrap_err();
    }
    let (asked, start) = (inner.reads(), Instant::now());
    let tier: Arc<str> = "far".into();
    for _ in 0..10 {
        clock.advance(Duration::from_millis(100));
        let refused = says(&guard.write(key("k"), text("v"), Condition::Always).await.unwrap_err());
        let retry_in = guard.stats().retry_in.unwrap();
        let open = GuardError::Open { tier: Arc::clone(&tier), retry_in };
        assert_eq!(refused, (Effect::NotApplied, Retry::Later, open));
    }
    assert_eq!((start.elapsed(), inner.reads(), inner.writes()), (Duration::ZERO, asked, 0));
    let stats = guard.stats();
    assert_eq!((stats.state, stats.opened, stats.refused), (BreakerState::Open, 1, 10));
    assert_eq!(stats.retry_in, Some(PAUSE / 2));

    clock.advance(PAUSE / 2);
    assert_eq!(guard.stats().state, BreakerState::HalfOpen);
    let probe = guard.read(key("k"));
    let beside = async {
        tokio::task::yield_now().await;
        says(&guard.read(key("k")).await.unwrap_err()).2
    };
    let (probe, beside) = tokio::join!(probe, beside);
    assert_eq!(
        says(&probe.unwrap_err()).2,
        GuardError::TimedOut { tier: Arc::clone(&tier), limit: READ }
    );
    assert_eq!(beside, GuardError::Probing { tier });
    assert_eq!((inner.reads(), guard.stats().opened), (asked + 1, 1));
    assert_eq!(guard.stats().retry_in, Some(2 * PAUSE));

    drop(held);
    clock.advance(2 * PAUSE);
    assert_eq!(data(&*guard, "k").await, None);
    assert_eq!(guard.stats().state, BreakerState::Closed);
    assert!(guard.write(key("k"), text("v"), Condition::Always).await.unwrap().applied);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_its_caller_drops_leaves_its_place_to_the_next() {
    let (clock, inner, guard) = guarded(options());
    trip(&inner, &guard).await;
    inner.recover();
    clock.advance(PAUSE);
    let held = hang(&inner, Op::Read, 1);
    assert!(tokio::time::timeout(READ / 2, guard.read(key("k"))).await.is_err());
    drop(held);
    assert_eq!(data(&*guard, "k").await, None);
    assert_eq!(guard.stats().state, BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_clear_does_not_find_out_whether_a_tier_works_again() {
    let (clock, inner, guard) = guarded(options());
    trip(&inner, &guard).await;
    inner.recover();
    inner.plant("k", text("v")).await;
    clock.advance(PAUSE);
    let refused = says(&guard.clear().await.unwrap_err());
    let open = GuardError::Open { tier: "far".into(), retry_in: Duration::ZERO };
    assert_eq!(refused, (Effect::NotApplied, Retry::Later, open));
    assert_eq!(guard.stats().state, BreakerState::HalfOpen);
    assert_eq!(data(&*guard, "k").await, Some(Bytes::from("v")));
    guard.clear().await.unwrap();
    assert_eq!(inner.stored("k"), None);
}

#[tokio::test]
async fn misses_lost_races_and_mistakes_of_callers_open_nothing() {
    let clock = ManualClock::default();
    let small = larder::cache::MemoryCache::builder(1 << 10).clock(clock.shared()).build();
    let guard = Guarded::builder(small).options(options().failures_min(1).failure_percent(0));
    let guard = guard.clock(clock.shared()).build();
    for _ in 0..20 {
        let large = CacheValue::new(Bytes::from(vec![0; 4 << 10]));
        let refused = guard.write(key("k"), large, Condition::Always).await.unwrap_err();
        assert!(matches!(refused, CacheError::TooLarge { .. }));
        assert_eq!(data(&guard, "absent").await, None);
        let newer = Condition::IfVersionIs(Some(version(9)));
        assert!(!guard.write(key("k"), text("v"), newer).await.unwrap().applied);
    }
    assert_eq!((guard.stats().state, guard.stats().failures), (BreakerState::Closed, 0));
}

fn two() -> (ManualClock, Scripted, Scripted, Guard) {
    let (clock, far, guard) = guarded(options());
    let near = Scripted::new("near", &clock);
    (clock, near, far, guard)
}

#[tokio::test(start_paused = true)]
async fn a_read_of_two_tiers_ends_within_the_limit_of_a_far_one_that_hangs() {
    for policy in ["sequential", "race", "parallel"] {
        let (clock, near, far, guard) = two();
        let read: AnyReadPolicy = policy.parse().unwrap();
        let tiered = Tiered::builder(near, guard).read(read).clock(clock.shared()).build();
        let _held = hang(&far, Op::Read, 2);
        let start = Instant::now();
        assert_eq!(data(&tiered, "k").await, None, "{policy}");
        assert_eq!(tiered.read_many(&[key("k")]).await.unwrap(), [None], "{policy}");
        assert_eq!(start.elapsed(), 2 * READ, "{policy}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_far_tier_that_hangs_does_not_hold_a_key() {
    let race: AnyWritePolicy = RaceWritePolicy { loser: RaceLoserPolicy::Offload }.into();
    for (policy, limit) in [(AnyWritePolicy::default(), 3 * WRITE), (race, 3 * WRITE)] {
        let (clock, near, far, guard) = two();
        let tiered = Tiered::builder(near.clone(), Arc::clone(&guard)).write(policy);
        let tiered = tiered.clock(clock.shared()).build();
        let _held = [hang(&far, Op::Write, 2), hang(&far, Op::Remove, 1)];
        let start = Instant::now();
        for value in ["first", "second"] {
            let written = tiered.write(key("k"), text(value), Condition::Always).await.unwrap();
            assert_eq!(written.layers.unwrap()[0], LayerState::Done);
        }
        tiered.remove(key("k"), Condition::Always).await.unwrap();
        assert!(start.elapsed() <= limit, "{:?}", start.elapsed());
        // The third has its turn in the far tier, and is confirmed by it.
        let written = tiered.write(key("k"), text("third"), Condition::Always).await.unwrap();
        assert!(written.applied);
        while far.stored("k").is_none() {
            assert!(start.elapsed() <= limit, "{:?}", start.elapsed());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(far.stored("k").unwrap().data, Bytes::from("third"));
        assert_eq!(near.stored("k").unwrap().data, Bytes::from("third"));
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_removed_while_the_breaker_was_open_does_not_return_when_it_closes() {
    let (clock, near, far, guard) = two();
    let tiered = Tiered::builder(near.clone(), Arc::clone(&guard)).clock(clock.shared()).build();
    for k in ["removed", "replaced"] {
        tiered.write(key(k), text("old"), Condition::Always).await.unwrap();
    }
    trip(&far, &guard).await;
    far.recover();
    tiered.remove(key("removed"), Condition::Always).await.unwrap();
    let written = tiered.write(key("replaced"), text("new"), Condition::Always).await.unwrap();
    assert_eq!(written.layers, Some([LayerState::Done, LayerState::Failed]));
    near.remove(key("replaced"), Condition::Always).await.unwrap();
    // An outage of the layer: nothing is found, and nobody else is told that there is nothing.
    assert_eq!(data(&tiered, "removed").await, None);

    clock.advance(PAUSE);
    assert_eq!(data(&tiered, "another").await, None);
    assert_eq!(guard.stats().state, BreakerState::Closed);
    for k in ["removed", "replaced"] {
        assert_eq!(far.stored(k).unwrap().data, Bytes::from("old"));
        assert_eq!(data(&tiered, k).await, None, "what the far tier has missed is owed");
        tiered.write(key(k), text("newer"), Condition::Always).await.unwrap();
        near.remove(key(k), Condition::Always).await.unwrap();
        assert_eq!(data(&tiered, k).await, Some(Bytes::from("newer")), "and paid by a change");
    }
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_is_an_outage_and_no_miss() {
    use larder::compose::OnLayerError;
    let (clock, near, far, guard) = two();
    let tiered = Tiered::builder(near, Arc::clone(&guard)).on_layer_error(OnLayerError::Fail);
    let tiered = tiered.clock(clock.shared()).build();
    far.plant("k", text("v").with_ttl(clock.now(), Duration::from_hours(1))).await;
    trip(&far, &guard).await;
    let reads = far.reads();
    let error = tiered.read(key("k")).await.unwrap_err();
    assert_eq!((error.effect(), error.retry()), (Effect::NotApplied, Retry::Later));
    assert!(tiered.read_many(&[key("k")]).await.is_err());
    assert_eq!(far.reads(), reads);
}
