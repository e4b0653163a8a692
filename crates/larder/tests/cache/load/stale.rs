//! Stale values: served, refreshed once, and kept while the loader is down.

use std::time::Duration;

use larder::cache::{LoadError, LoadOptions, Loaded, PutOptions, Tagged, Tags};
use larder_core::{Age, BoxError, CacheValue, Clock as _, Condition, Tier as _, Version};

use super::{Bench, Broken, bytes, payload, settle};
use crate::scripted::{Op, key};

const MINUTE: Duration = Duration::from_mins(1);

#[tokio::test]
async fn a_stale_value_is_served_at_once_and_refreshed_once() {
    let bench = Bench::new();
    bench.put_stale("k", "old").await;
    for _ in 0..10 {
        let hit = bench.ask("k").await;
        assert!(hit.is_finished());
        let hit = hit.await.unwrap().unwrap().unwrap();
        assert_eq!((hit.value, hit.age), (bytes("old"), Age::Stale));
    }
    assert_eq!(bench.loader.calls(), 1);
    bench.loader.answer(0, bytes("new")).await;
    assert_eq!(bench.ask_now("k").await, Some(bytes("new")));
    bench.forget_near("k").await;
    assert_eq!(bench.get("k").await, Some(bytes("new")), "in every tier");
    let stats = bench.stats();
    assert_eq!((stats.stale_served, stats.refreshes, stats.loads), (10, 1, 1));
}

#[tokio::test]
async fn a_refreshed_value_reaches_every_tier_also_when_the_stale_one_came_from_the_far_one() {
    let bench = Bench::new();
    bench.put_stale("k", "old").await;
    bench.forget_near("k").await;
    assert_eq!(bench.ask_now("k").await, Some(bytes("old")));
    // A stale hit may fill the near tier, with its stale time.
    let near = bench.near.read(key("k")).await.unwrap().unwrap().value;
    assert_eq!(near.age(&bench.clock), Age::Stale);
    bench.loader.answer(0, bytes("new")).await;
    let near = bench.near.read(key("k")).await.unwrap().unwrap().value;
    assert_eq!(near.data.data, Some(bytes("new")));
    bench.forget_near("k").await;
    assert_eq!(bench.get("k").await, Some(bytes("new")));
}

#[tokio::test]
async fn a_loader_may_find_that_what_is_stale_still_holds_and_give_it_a_new_life() {
    let bench = Bench::new();
    bench.put_stale("k", "old").await;
    let cache = bench.cache.clone();
    let unchanged = move || async move {
        // With this a server is asked whether it has changed. A look-up waits for no load, this one included.
        let held = cache.get(key("k")).await?.ok_or("it is gone")?;
        Ok::<_, BoxError>(Loaded::new(held.value).stale_after(MINUTE))
    };
    let hit = bench.cache.get_or_load(key("k"), unchanged).await.unwrap().unwrap();
    assert_eq!((hit.value, hit.age), (bytes("old"), Age::Stale));
    settle().await;
    for forgets_near in [false, true] {
        if forgets_near {
            bench.forget_near("k").await;
        }
        let hit = bench.cache.get(key("k")).await.unwrap().unwrap();
        assert_eq!((hit.value, hit.age), (bytes("old"), Age::Fresh), "{forgets_near}");
    }
    assert_eq!(bench.stats().refreshes, 1);
}

#[tokio::test]
async fn while_a_refresh_runs_the_far_tier_is_left_alone() {
    let bench = Bench::new();
    bench.put_stale("k", "old").await;
    bench.ask_now("k").await;
    let reads = bench.far.reads();
    for _ in 0..10 {
        assert_eq!(bench.ask_now("k").await, Some(bytes("old")));
    }
    assert_eq!(bench.far.reads(), reads);
}

#[tokio::test]
async fn when_the_loader_fails_the_stale_value_is_served_and_the_next_try_backs_off() {
    let options = LoadOptions::new()
        .back_off(Duration::from_secs(1), Duration::from_secs(3))
        .soft_timeout(MINUTE);
    let bench = Bench::with_options(options);
    bench.put_stale("k", "old").await;
    let mut load = 0;
    for pause in [1, 2, 3, 3] {
        let waiting = bench.ask("k").await;
        assert!(!waiting.is_finished(), "it waits up to the soft timeout");
        bench.loader.fail(load, 1).await;
        load += 1;
        assert_eq!(payload(waiting.await.unwrap()), Some(bytes("old")));
        bench.clock.advance(Duration::from_millis(pause * 1_000 - 1));
        assert_eq!(bench.ask_now("k").await, Some(bytes("old")));
        assert_eq!(bench.loader.calls(), load, "within the pause of {pause} s");
        bench.clock.advance(Duration::from_millis(1));
    }
    let waiting = bench.ask("k").await;
    bench.loader.answer(load, bytes("new")).await;
    assert_eq!(payload(waiting.await.unwrap()), Some(bytes("new")));
    // A success ends it: the next failure begins with the first pause.
    bench.put_stale("k", "old").await;
    drop(bench.ask("k").await);
    bench.loader.fail(load + 1, 1).await;
    bench.clock.advance(Duration::from_secs(1));
    drop(bench.ask("k").await);
    assert_eq!(bench.loader.calls(), load + 3);
}

#[tokio::test]
async fn a_loader_that_panics_or_is_slow_leaves_the_stale_value_as_well() {
    let bench = Bench::with_options(LoadOptions::new().soft_timeout(MINUTE));
    bench.put_stale("k", "old").await;
    let waiting = bench.ask("k").await;
    drop(bench.loader.take(0));
    settle().await;
    assert_eq!(payload(waiting.await.unwrap()), Some(bytes("old")));
}

#[tokio::test]
async fn nothing_lives_past_its_expiry_however_broken_the_loader_is() {
    let bench = Bench::with_options(LoadOptions::new().soft_timeout(MINUTE));
    let options = PutOptions::new().ttl(Duration::from_secs(9)).stale_after(Duration::ZERO);
    bench.put("k", "old", options).await;
    let waiting = bench.ask("k").await;
    bench.clock.advance(Duration::from_secs(9));
    bench.loader.fail(0, 3).await;
    let error = waiting.await.unwrap().unwrap_err();
    assert_eq!(error.loader_error(), Some(&Broken(3)));
    // And with nothing left there is no pause: everybody who asks may try.
    let asking = bench.ask("k").await;
    assert_eq!(bench.loader.calls(), 2);
    bench.loader.answer(1, bytes("new")).await;
    assert_eq!(payload(asking.await.unwrap()), Some(bytes("new")));
}

#[tokio::test(start_paused = true)]
async fn after_the_soft_timeout_the_stale_value_is_served_and_the_load_goes_on() {
    let bench = Bench::with_options(LoadOptions::new().soft_timeout(Duration::from_millis(50)));
    bench.put_stale("k", "old").await;
    let waiting = bench.ask("k").await;
    tokio::time::advance(Duration::from_millis(49)).await;
    settle().await;
    assert!(!waiting.is_finished());
    tokio::time::advance(Duration::from_millis(2)).await;
    assert_eq!(payload(waiting.await.unwrap()), Some(bytes("old")));
    bench.loader.answer(0, bytes("new")).await;
    assert_eq!(bench.ask_now("k").await, Some(bytes("new")));
    assert_eq!(bench.loader.calls(), 1);
}

#[tokio::test]
async fn within_the_soft_timeout_a_caller_gets_the_fresh_value() {
    let bench = Bench::with_options(LoadOptions::new().soft_timeout(MINUTE));
    bench.put_stale("k", "old").await;
    let waiting = [bench.ask("k").await, bench.ask("k").await];
    bench.loader.answer(0, bytes("new")).await;
    for caller in waiting {
        assert_eq!(payload(caller.await.unwrap()), Some(bytes("new")));
    }
}

#[tokio::test(start_paused = true)]
async fn after_the_hard_timeout_the_loader_is_dropped_and_the_next_call_loads_again() {
    let bench = Bench::with_options(LoadOptions::new().hard_timeout(Duration::from_millis(80)));
    let waiting = [bench.ask("k").await, bench.ask("k").await];
    tokio::time::advance(Duration::from_millis(81)).await;
    settle().await;
    for caller in waiting {
        let error = caller.await.unwrap().unwrap_err();
        let wanted = Duration::from_millis(80);
        assert!(matches!(error, LoadError::TimedOut { after } if after == wanted));
    }
    assert!(bench.loader.take(0).is_closed(), "the loader goes on");
    bench.assert_nothing_left("k").await;
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_joins_waits_by_its_own_timeout() {
    let bench = Bench::new();
    let patient = bench.ask("k").await;
    let hasty = LoadOptions::new().hard_timeout(Duration::from_millis(10));
    let error = bench.cache.get_or_load_with(key("k"), &hasty, bench.loader.load()).await;
    assert!(matches!(error.unwrap_err(), LoadError::TimedOut { .. }));
    bench.loader.answer(0, bytes("v")).await;
    assert_eq!(payload(patient.await.unwrap()), Some(bytes("v")));
}

#[tokio::test(start_paused = true)]
async fn a_value_that_is_loaded_and_not_yet_written_is_served_after_the_timeout() {
    let bench = Bench::with_options(LoadOptions::new().hard_timeout(Duration::from_millis(80)));
    let _held = bench.far.hold(Op::Write, crate::scripted::When::Before);
    let waiting = bench.ask("k").await;
    bench.loader.answer(0, bytes("v")).await;
    assert!(!waiting.is_finished());
    tokio::time::advance(Duration::from_millis(81)).await;
    assert_eq!(payload(waiting.await.unwrap()), Some(bytes("v")));
}

#[tokio::test]
async fn an_eager_refresh_starts_after_its_part_of_the_life_and_nobody_waits_for_it() {
    let options = LoadOptions::new()
        .ttl(Duration::from_secs(100))
        .eager_refresh_percent(80)
        .soft_timeout(MINUTE);
    let bench = Bench::with_options(options);
    drop(bench.ask("k").await);
    bench.loader.answer(0, bytes("old")).await;
    bench.clock.advance(Duration::from_millis(79_999));
    assert_eq!(bench.ask_now("k").await, Some(bytes("old")));
    assert_eq!(bench.loader.calls(), 1);
    bench.clock.advance(Duration::from_millis(2));
    for _ in 0..5 {
        assert_eq!(bench.ask_now("k").await, Some(bytes("old")));
    }
    assert_eq!(bench.loader.calls(), 2, "once");
    bench.loader.fail(1, 1).await;
    assert_eq!(bench.ask_now("k").await, Some(bytes("old")));
    assert_eq!(bench.loader.calls(), 2, "it backs off");
    bench.clock.advance(Duration::from_secs(1));
    assert_eq!(bench.ask_now("k").await, Some(bytes("old")));
    bench.loader.answer(2, bytes("new")).await;
    assert_eq!(bench.ask_now("k").await, Some(bytes("new")));
    assert_eq!((bench.loader.calls(), bench.stats().stale_served), (3, 0));
}

#[tokio::test]
async fn an_eager_refresh_goes_by_the_stale_time_when_there_is_one() {
    let options = LoadOptions::new()
        .ttl(Duration::from_secs(100))
        .stale_after(Duration::from_secs(10))
        .eager_refresh_percent(50);
    let bench = Bench::with_options(options);
    drop(bench.ask("k").await);
    bench.loader.answer(0, bytes("old")).await;
    bench.clock.advance(Duration::from_millis(5_001));
    assert_eq!(bench.ask_now("k").await, Some(bytes("old")));
    assert_eq!(bench.loader.calls(), 2);
}

#[tokio::test]
async fn lives_are_shortened_at_random_and_the_same_seed_gives_the_same_lives() {
    let lives = async |seed| {
        let options = LoadOptions::new().ttl(MINUTE).stale_after(MINUTE / 2).jitter_percent(25);
        let bench = Bench::with(options, |builder| builder.seed(seed));
        let mut lives = Vec::new();
        for k in ["a", "b", "c", "d"] {
            let asking = bench.ask(k).await;
            bench.loader.answer(lives.len(), bytes("v")).await;
            let hit = asking.await.unwrap().unwrap().unwrap();
            let now = bench.clock.now();
            let life = |end: Option<larder_core::Timestamp>| end.unwrap().since(now);
            assert!(life(hit.expire) <= MINUTE && life(hit.expire) >= MINUTE * 3 / 4);
            // Both by the same part.
            let halves = life(hit.stale) * 2;
            assert!(halves.abs_diff(life(hit.expire)) < Duration::from_micros(1));
            lives.push(life(hit.expire));
        }
        lives
    };
    let first = lives(7).await;
    assert_eq!(first, lives(7).await);
    assert_ne!(first, lives(8).await);
    assert!(first.windows(2).any(|pair| pair[0] != pair[1]));
}

#[tokio::test]
async fn a_refresh_that_says_do_not_cache_leaves_the_stale_value() {
    let bench = Bench::with_options(LoadOptions::new().soft_timeout(MINUTE));
    bench.put_stale("k", "old").await;
    let waiting = bench.ask("k").await;
    bench.loader.answer(0, Loaded::uncached(bytes("half"))).await;
    assert_eq!(payload(waiting.await.unwrap()), Some(bytes("half")));
    assert_eq!(bench.get("k").await, Some(bytes("old")));
}

#[tokio::test]
async fn a_refresh_with_a_life_of_zero_removes_the_stale_value() {
    let bench = Bench::with_options(LoadOptions::new().soft_timeout(MINUTE));
    bench.put_stale("k", "old").await;
    let waiting = bench.ask("k").await;
    bench.loader.answer(0, Loaded::new(bytes("new")).ttl(Duration::ZERO)).await;
    assert_eq!(payload(waiting.await.unwrap()), Some(bytes("new")));
    assert_eq!(bench.get("k").await, None);
}

#[tokio::test]
async fn a_panic_in_a_refresh_does_not_end_refreshing() {
    let bench = Bench::new();
    bench.put_stale("k", "old").await;
    bench.ask_now("k").await;
    drop(bench.loader.take(0));
    settle().await;
    bench.clock.advance(Duration::from_secs(1));
    bench.ask_now("k").await;
    bench.loader.answer(1, bytes("new")).await;
    assert_eq!(bench.ask_now("k").await, Some(bytes("new")));
}

#[tokio::test]
async fn a_stale_value_of_a_clock_far_ahead_can_be_refreshed() {
    let bench = Bench::new();
    let version = bench.clock.now().saturating_add(Duration::from_hours(10)).as_millis() << 16;
    let stale = CacheValue::new(Tagged::new(bytes("old"), Tags::NONE))
        .with_stale_after(bench.clock.now(), Duration::ZERO)
        .with_version(Version::from_parts(version, 77));
    let far = super::records(&bench.far, &bench.clock);
    far.write(key("k"), stale, Condition::Always).await.unwrap();
    assert_eq!(bench.ask_now("k").await, Some(bytes("old")));
    bench.loader.answer(0, bytes("new")).await;
    bench.forget_near("k").await;
    assert_eq!(bench.get("k").await, Some(bytes("new")));
}
