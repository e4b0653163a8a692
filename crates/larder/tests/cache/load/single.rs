//! One load for all who ask, whatever becomes of them and of it.

use std::error::Error as _;
use std::time::Duration;

use futures_util::FutureExt as _;
use larder::cache::{Cache, LoadError, LoadOptions, Loaded, Tag};
use larder::compose::{BoundedOffload, Drained, RefusedReason};
use larder_core::{Clock as _, Effect, Failure as _, ManualClock, Retry, SharedTier};

use super::{Bench, Broken, bytes, payload, records, red, settle};
use crate::scripted::{Op, Scripted, When, key};

#[tokio::test]
async fn what_was_loaded_is_cached_in_every_tier_and_not_loaded_again() {
    let bench = Bench::new();
    let asking = bench.ask("k").await;
    bench.loader.answer(0, bytes("v")).await;
    let hit = asking.await.unwrap().unwrap().unwrap();
    assert_eq!((hit.value, hit.source), (bytes("v"), None));
    assert_eq!(bench.ask_now("k").await, Some(bytes("v")));
    bench.forget_near("k").await;
    assert_eq!(bench.ask_now("k").await, Some(bytes("v")), "from the far tier");
    assert_eq!(bench.get("k").await, Some(bytes("v")));
    assert_eq!((bench.loader.calls(), bench.stats().loads, bench.stats().misses), (1, 1, 1));
    assert_eq!(bench.stats().hits, 3);
    bench.assert_nothing_left("k").await;
}

#[tokio::test]
async fn a_caller_who_looked_before_a_load_landed_does_not_load_again() {
    let bench = Bench::new();
    // Two look at the far tier before anything is loaded; the answer of one of them is late.
    let late = bench.far.hold(Op::Read, When::After);
    let slow = bench.ask("k").await;
    let quick = bench.ask("k").await;
    bench.loader.answer(0, bytes("v")).await;
    assert_eq!(payload(quick.await.unwrap()), Some(bytes("v")));
    drop(late);
    settle().await;
    assert_eq!(payload(slow.await.unwrap()), Some(bytes("v")));
    assert_eq!((bench.loader.calls(), bench.stats().loads), (1, 1));
}

#[tokio::test]
async fn a_caller_who_comes_while_the_value_is_written_does_not_load_again() {
    let bench = Bench::new();
    let held = bench.far.hold(Op::Write, When::Before);
    let first = bench.ask("k").await;
    bench.loader.answer(0, bytes("v")).await;
    bench.forget_near("k").await;
    let second = bench.ask("k").await;
    assert!(!first.is_finished() && !second.is_finished(), "cached when it returns");
    drop(held);
    for caller in [first, second] {
        assert_eq!(payload(caller.await.unwrap()), Some(bytes("v")));
    }
    assert_eq!(bench.loader.calls(), 1);
}

#[tokio::test]
async fn a_cancelled_caller_harms_nobody() {
    let bench = Bench::new();
    let leader = bench.ask("k").await;
    let mut waiters = Vec::new();
    for _ in 0..50 {
        waiters.push(bench.ask("k").await);
    }
    leader.abort();
    waiters.pop().unwrap().abort();
    settle().await;
    bench.loader.answer(0, bytes("v")).await;
    for waiter in waiters {
        assert_eq!(payload(waiter.await.unwrap()), Some(bytes("v")));
    }
    assert_eq!(bench.loader.calls(), 1);
    bench.assert_nothing_left("k").await;
}

#[tokio::test]
async fn a_load_that_everybody_has_left_is_cached_all_the_same() {
    let bench = Bench::new();
    let only = bench.ask("k").await;
    only.abort();
    settle().await;
    bench.loader.answer(0, bytes("v")).await;
    assert_eq!(bench.get("k").await, Some(bytes("v")));
}

#[tokio::test]
async fn a_panic_is_an_error_to_everybody_who_waits_and_the_next_call_loads_again() {
    let bench = Bench::new();
    let mut waiters = Vec::new();
    for _ in 0..50 {
        waiters.push(bench.ask("k").await);
    }
    drop(bench.loader.take(0));
    settle().await;
    for waiter in waiters {
        let error = waiter.await.unwrap().unwrap_err();
        assert!(matches!(error, LoadError::Panicked));
    }
    assert_eq!((bench.loader.calls(), bench.stats().load_errors), (1, 1));
    bench.assert_nothing_left("k").await;
}

#[tokio::test]
async fn a_loader_that_panics_before_it_is_a_future_is_an_error_as_well() {
    let bench = Bench::new();
    #[allow(unreachable_code, reason = "the type of the future")]
    let load = || {
        panic!("at once");
        async { Ok::<_, Broken>(bytes("v")) }
    };
    let error = bench.cache.get_or_load(key("k"), load).await.unwrap_err();
    assert!(matches!(error, LoadError::Panicked));
    bench.assert_nothing_left("k").await;
}

#[tokio::test]
async fn an_error_goes_to_everybody_who_waits_and_is_not_kept() {
    let bench = Bench::new();
    let mut waiters = Vec::new();
    for _ in 0..100 {
        waiters.push(bench.ask("k").await);
    }
    bench.loader.fail(0, 7).await;
    for waiter in waiters {
        let error = waiter.await.unwrap().unwrap_err();
        assert_eq!(error.loader_error(), Some(&Broken(7)));
        assert_eq!(error.source().and_then(|source| source.downcast_ref()), Some(&Broken(7)));
        assert_eq!((error.effect(), error.retry()), (Effect::NotApplied, Retry::Never));
        let chain = larder_core::error::chain(&error);
        assert_eq!(chain, "the loader failed: the database is down: 7");
    }
    assert_eq!(bench.loader.calls(), 1);
    bench.assert_nothing_left("k").await;
}

#[tokio::test]
async fn different_keys_are_loaded_at_the_same_time() {
    let bench = Bench::new();
    let [a, b] = [bench.ask("a").await, bench.ask("b").await];
    assert_eq!(bench.loader.calls(), 2);
    bench.loader.answer(1, bytes("b")).await;
    assert_eq!(payload(b.await.unwrap()), Some(bytes("b")));
    bench.loader.answer(0, bytes("a")).await;
    assert_eq!(payload(a.await.unwrap()), Some(bytes("a")));
}

#[tokio::test]
async fn a_value_that_is_not_to_be_cached_goes_to_those_who_wait() {
    let bench = Bench::new();
    let [one, two] = [bench.ask("k").await, bench.ask("k").await];
    bench.loader.answer(0, Loaded::uncached(bytes("half"))).await;
    for caller in [one, two] {
        let hit = caller.await.unwrap().unwrap().unwrap();
        assert_eq!((hit.value, hit.version, hit.expire), (bytes("half"), None, None));
    }
    assert_eq!(bench.get("k").await, None);
    assert_eq!(bench.far.writes(), 0);
    bench.assert_nothing_left("k").await;
}

#[tokio::test]
async fn the_value_decides_its_life_and_its_tags() {
    let options =
        LoadOptions::new().ttl(Duration::from_secs(9)).stale_after(Duration::from_secs(3));
    let bench = Bench::with_options(options);
    let [own, general] = [bench.ask("own").await, bench.ask("general").await];
    let loaded = Loaded::new(bytes("v")).ttl(Duration::from_secs(2)).tags(red());
    bench.loader.answer(0, loaded.stale_after(Duration::from_secs(1))).await;
    bench.loader.answer(1, bytes("v")).await;
    let now = bench.clock.now();
    let after = |secs| Some(now.saturating_add(Duration::from_secs(secs)));
    let hit = own.await.unwrap().unwrap().unwrap();
    assert_eq!((hit.expire, hit.stale, hit.tags), (after(2), after(1), red()));
    let hit = general.await.unwrap().unwrap().unwrap();
    assert_eq!((hit.expire, hit.stale), (after(9), after(3)));
    bench.cache.remove_tag(&Tag::new("red").unwrap());
    assert_eq!((bench.get("own").await, bench.get("general").await), (None, Some(bytes("v"))));
}

#[tokio::test]
async fn loads_at_a_time_have_a_bound() {
    let bench = Bench::with_loads_max(2);
    let _busy = [bench.ask("a").await, bench.ask("b").await];
    let error = bench.ask("c").await.await.unwrap().unwrap_err();
    assert!(matches!(error, LoadError::Refused(RefusedReason::Full)));
    assert_eq!(error.retry(), Retry::Later);
    // Who joins is not one more load.
    let joined = bench.ask("a").await;
    bench.loader.answer(0, bytes("v")).await;
    assert_eq!(payload(joined.await.unwrap()), Some(bytes("v")));
    bench.put_stale("c", "old").await;
    let _busy_again = bench.ask("d").await;
    assert_eq!(bench.ask_now("c").await, Some(bytes("old")), "rather than an error");
}

#[tokio::test]
async fn callers_who_wait_have_a_bound() {
    let bench = Bench::with(LoadOptions::new(), |builder| builder.waiters_max(2));
    let waiting = [bench.ask("k").await, bench.ask("k").await];
    let error = bench.ask("k").await.await.unwrap().unwrap_err();
    assert!(matches!(error, LoadError::TooManyWaiters { waiters_max: 2 }));
    bench.loader.answer(0, bytes("v")).await;
    for caller in waiting {
        assert_eq!(payload(caller.await.unwrap()), Some(bytes("v")));
    }
    assert_eq!(bench.ask_now("k").await, Some(bytes("v")), "a hit waits for nobody");
    let left = bench.ask("other").await;
    left.abort();
    settle().await;
    let _waiting = [bench.ask("other").await, bench.ask("other").await];
    assert_eq!(bench.stats().load_errors, 1, "who has left does not count");
}

#[tokio::test]
async fn a_load_that_is_cut_off_is_an_error_to_those_who_wait() {
    let bench = Bench::new();
    let asking = bench.ask("k").await;
    let drained = bench.offload.drain(Duration::ZERO).await;
    assert_eq!(drained, Drained::Aborted { tasks: 1 });
    let error = asking.await.unwrap().unwrap_err();
    assert!(matches!(error, LoadError::CutOff) && error.retry() == Retry::Later);
    let error = bench.ask("k").await.await.unwrap().unwrap_err();
    assert!(matches!(error, LoadError::Refused(RefusedReason::ShuttingDown)));
}

#[test]
fn outside_of_a_runtime_a_load_is_refused_and_what_is_here_is_served() {
    let bench = Bench::new();
    let ask = || {
        let given = bench.cache.get_or_load(key("k"), bench.loader.load());
        given.now_or_never().unwrap()
    };
    let error = ask().unwrap_err();
    assert!(matches!(error, LoadError::Refused(RefusedReason::NoRuntime)));
    assert_eq!(error.retry(), Retry::Never);
    bench.put_stale("k", "old").now_or_never().unwrap();
    assert_eq!(payload(ask()), Some(bytes("old")));
}

#[tokio::test]
async fn tiers_that_are_down_cost_a_load_and_not_an_error() {
    let bench = Bench::new();
    bench.far.fail(Op::Read);
    bench.far.fail(Op::Write);
    let asking = bench.ask("k").await;
    bench.loader.answer(0, bytes("v")).await;
    assert_eq!(payload(asking.await.unwrap()), Some(bytes("v")));
    assert_eq!(bench.ask_now("k").await, Some(bytes("v")), "the near tier has it");
}

#[tokio::test]
async fn a_cache_whose_only_tier_is_down_loads_for_everybody_who_asks() {
    let clock = ManualClock::default();
    let store = Scripted::new("far", &clock);
    let tier = SharedTier::new(records(&store, &clock));
    let cache = Cache::builder(tier).clock(clock.shared()).build();
    for op in [Op::Read, Op::Write] {
        store.fail(op);
    }
    for _ in 0..2 {
        let given = cache.get_or_load(key("k"), || async { Ok::<_, Broken>(bytes("v")) }).await;
        assert_eq!(payload(given), Some(bytes("v")));
    }
    assert_eq!((cache.stats().loads, cache.stats().errors), (2, 4));
}

#[tokio::test]
async fn an_offload_may_be_shared_by_several_caches() {
    let offload = BoundedOffload::default();
    let bench = |name: &'static str| {
        Bench::over_offload(offload.clone(), LoadOptions::new(), |builder| builder.name(name))
    };
    let [a, b] = [bench("a"), bench("b")];
    let asking = [a.ask("k").await, b.ask("k").await];
    a.loader.answer(0, bytes("a")).await;
    b.loader.answer(0, bytes("b")).await;
    let [one, two] = asking;
    assert_eq!(payload(one.await.unwrap()), Some(bytes("a")));
    assert_eq!(payload(two.await.unwrap()), Some(bytes("b")));
}
