//! What is put, removed or invalidated during a load wins over it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use larder::cache::{Cache, Loaded, PutOptions, Tag};
use larder_core::{ManualClock, SharedTier};
use tokio::task::JoinHandle;

use super::{Bench, Given, Loader, bytes, payload, records, red, settle};
use crate::scripted::{Op, Scripted, When, key};

/// The four ways to say that what is being loaded is out of date.
#[derive(Clone, Copy, Debug)]
enum Change {
    Remove,
    Put,
    RemoveTag,
    Clear,
}

const CHANGES: [Change; 4] = [Change::Remove, Change::Put, Change::RemoveTag, Change::Clear];

impl Change {
    async fn make(self, bench: &Bench) {
        match self {
            Self::Remove => drop(bench.cache.remove(key("k")).await.unwrap()),
            Self::Put => bench.put("k", "NEW", PutOptions::new()).await,
            Self::RemoveTag => bench.cache.remove_tag(&Tag::new("red").unwrap()),
            Self::Clear => bench.cache.clear().await.unwrap(),
        }
    }

    /// What the cache has when the change was made.
    fn leaves(self) -> Option<Bytes> {
        matches!(self, Self::Put).then(|| bytes("NEW"))
    }
}

fn old() -> Loaded<Bytes> {
    Loaded::new(bytes("OLD")).tags(red())
}

#[tokio::test]
async fn a_change_during_a_load_wins_and_the_value_goes_to_its_own_waiters() {
    for change in CHANGES {
        let bench = Bench::new();
        let asking = bench.ask("k").await;
        change.make(&bench).await;
        bench.loader.answer(0, old()).await;
        assert_eq!(payload(asking.await.unwrap()), Some(bytes("OLD")), "{change:?}");
        assert_eq!(bench.get("k").await, change.leaves(), "{change:?}");
        bench.forget_near("k").await;
        assert_eq!(bench.get("k").await, change.leaves(), "{change:?} in the far tier");
        assert_eq!(bench.stats().superseded_loads, 1, "{change:?}");
    }
}

#[tokio::test]
async fn who_asks_after_a_change_gets_nothing_that_was_loaded_before_it() {
    for change in [Change::Remove, Change::RemoveTag, Change::Clear] {
        let bench = Bench::new();
        let before = bench.ask("k").await;
        change.make(&bench).await;
        let after = bench.ask("k").await;
        bench.loader.answer(0, old()).await;
        assert_eq!(payload(before.await.unwrap()), Some(bytes("OLD")), "{change:?}");
        assert!(!after.is_finished(), "{change:?}");
        assert_eq!(bench.loader.calls(), 2, "{change:?}");
        bench.loader.answer(1, bytes("NEW")).await;
        assert_eq!(payload(after.await.unwrap()), Some(bytes("NEW")), "{change:?}");
        assert_eq!(bench.get("k").await, Some(bytes("NEW")), "{change:?}");
    }
}

#[tokio::test]
async fn a_put_is_there_for_who_asks_after_it_although_a_load_is_under_way() {
    let bench = Bench::new();
    let _before = bench.ask("k").await;
    bench.put("k", "NEW", PutOptions::new()).await;
    bench.forget_near("k").await;
    assert_eq!(bench.ask_now("k").await, Some(bytes("NEW")));
}

#[tokio::test]
async fn a_late_load_that_was_superseded_does_not_disturb_the_next_one() {
    let bench = Bench::new();
    let before = bench.ask("k").await;
    Change::Remove.make(&bench).await;
    let after = bench.ask("k").await;
    bench.loader.answer(1, bytes("NEW")).await;
    assert_eq!(payload(after.await.unwrap()), Some(bytes("NEW")));
    bench.loader.answer(0, old()).await;
    assert_eq!(payload(before.await.unwrap()), Some(bytes("OLD")));
    assert_eq!(bench.get("k").await, Some(bytes("NEW")));
    bench.assert_nothing_left("k").await;
}

#[tokio::test]
async fn a_change_waits_for_a_load_that_is_on_its_way_into_the_tiers() {
    for change in [Change::Remove, Change::Put, Change::Clear] {
        for when in [When::Before, When::After] {
            let bench = Arc::new(Bench::new());
            let held = bench.far.hold(Op::Write, when);
            let asking = bench.ask("k").await;
            bench.loader.answer(0, old()).await;
            let changing = {
                let bench = Arc::clone(&bench);
                tokio::spawn(async move { change.make(&bench).await })
            };
            settle().await;
            assert!(!changing.is_finished(), "{change:?} overtakes the load");
            drop(held);
            changing.await.unwrap();
            assert_eq!(payload(asking.await.unwrap()), Some(bytes("OLD")));
            assert_eq!(bench.get("k").await, change.leaves(), "{change:?} {when:?}");
            bench.forget_near("k").await;
            assert_eq!(bench.get("k").await, change.leaves(), "{change:?} {when:?}");
        }
    }
}

#[tokio::test]
async fn a_change_during_a_refresh_ends_the_stale_value_as_well() {
    for change in [Change::Remove, Change::Clear] {
        let bench = Bench::new();
        bench.put_stale("k", "STALE").await;
        assert_eq!(bench.ask_now("k").await, Some(bytes("STALE")));
        change.make(&bench).await;
        let after = bench.ask("k").await;
        assert!(!after.is_finished(), "{change:?}: it got the value that was removed");
        bench.loader.answer(0, old()).await;
        bench.loader.answer(1, bytes("NEW")).await;
        assert_eq!(payload(after.await.unwrap()), Some(bytes("NEW")), "{change:?}");
    }
}

#[tokio::test]
async fn a_stale_value_whose_tag_was_removed_during_its_refresh_is_not_served() {
    let bench = Bench::new();
    let stale = PutOptions::new().stale_after(Duration::ZERO).tags(red());
    bench.put("k", "STALE", stale).await;
    assert_eq!(bench.ask_now("k").await, Some(bytes("STALE")));
    bench.cache.remove_tag(&Tag::new("red").unwrap());
    let after = bench.ask("k").await;
    assert!(!after.is_finished(), "it got the value that was invalidated");
    // What is loaded is not red any more, so it will do.
    bench.loader.answer(0, bytes("NEW")).await;
    assert_eq!(payload(after.await.unwrap()), Some(bytes("NEW")));
}

#[tokio::test]
async fn a_stale_value_that_was_found_before_a_put_is_not_served_after_it() {
    let bench = Bench::new();
    bench.put_stale("k", "STALE").await;
    bench.forget_near("k").await;
    // The look-up has the stale value in hand while the put is made.
    let late = bench.far.hold(Op::Read, When::After);
    let asking = bench.ask("k").await;
    bench.put_stale("k", "NEWER").await;
    drop(late);
    settle().await;
    // The one who began before may get either; from now on it is the newer one.
    assert!(asking.is_finished());
    bench.forget_near("k").await;
    let held = bench.far.hold(Op::Read, When::Before);
    let next = bench.ask("k").await;
    drop(held);
    assert_ne!(payload(next.await.unwrap()), Some(bytes("STALE")));
}

#[tokio::test]
async fn a_load_that_began_during_a_remove_serves_nothing_from_before_it() {
    let bench = Arc::new(Bench::new());
    bench.put_stale("k", "STALE").await;
    let held = bench.far.hold(Op::Remove, When::Before);
    let removing = {
        let bench = Arc::clone(&bench);
        tokio::spawn(async move { bench.cache.remove(key("k")).await.unwrap() })
    };
    settle().await;
    let during = bench.ask("k").await;
    drop(held);
    removing.await.unwrap();
    let after = bench.ask("k").await;
    assert!(!after.is_finished(), "it got the value that was removed");
    drop(during);
}

#[tokio::test]
async fn a_remove_that_is_dropped_half_way_leaves_no_load_to_join() {
    let bench = Arc::new(Bench::new());
    bench.put_stale("k", "STALE").await;
    let _held = bench.far.hold(Op::Remove, When::Before);
    let removing = {
        let bench = Arc::clone(&bench);
        tokio::spawn(async move { bench.cache.remove(key("k")).await.unwrap() })
    };
    settle().await;
    let _during = bench.ask("k").await;
    let calls = bench.loader.calls();
    removing.abort();
    settle().await;
    let _after = bench.ask("k").await;
    assert_eq!(bench.loader.calls(), calls + 1);
}

#[tokio::test]
async fn a_newer_value_of_another_process_stays() {
    let bench = Bench::new();
    let asking = bench.ask("k").await;
    bench.clock.advance(Duration::from_millis(5));
    // Another process, over the same far tier.
    let tier = SharedTier::new(records(&bench.far, &bench.clock));
    let process = Cache::builder(tier).clock(bench.clock.shared()).build();
    process.put(key("k"), bytes("THEIRS"), PutOptions::new()).await.unwrap();
    bench.loader.answer(0, bytes("OURS")).await;
    assert_eq!(payload(asking.await.unwrap()), Some(bytes("OURS")));
    assert_eq!(bench.get("k").await, Some(bytes("THEIRS")));
    assert_eq!(bench.stats().superseded_loads, 1);
}

/// A cache over one plain tier, which has no order of its own and decides no conditions.
fn plain() -> (Scripted, Cache<Bytes>, Loader) {
    let clock = ManualClock::default();
    let store = Scripted::new("plain", &clock).without_conditions();
    let tier = SharedTier::new(records(&store, &clock));
    let cache = Cache::builder(tier).clock(clock.shared()).build();
    (store, cache, Loader::default())
}

fn ask(cache: &Cache<Bytes>, loader: &Loader) -> JoinHandle<Given> {
    let (cache, load) = (cache.clone(), loader.load());
    tokio::spawn(async move { cache.get_or_load(key("k"), load).await })
}

fn remove(cache: &Cache<Bytes>) -> JoinHandle<()> {
    let cache = cache.clone();
    tokio::spawn(async move { drop(cache.remove(key("k")).await) })
}

#[tokio::test]
async fn every_change_waits_for_a_load_that_is_landing_in_a_tier_without_order() {
    let (store, cache, loader) = plain();
    let held = store.hold(Op::Write, When::Before);
    let _asking = ask(&cache, &loader);
    settle().await;
    loader.answer(0, old()).await;
    let removing = [remove(&cache), remove(&cache)];
    settle().await;
    assert!(removing.iter().all(|removing| !removing.is_finished()), "it overtakes the load");
    drop(held);
    for removing in removing {
        removing.await.unwrap();
    }
    assert!(cache.get(key("k")).await.unwrap().is_none());
}

#[tokio::test]
async fn a_later_load_waits_for_one_that_is_landing_in_a_tier_without_order() {
    let (store, cache, loader) = plain();
    let held = store.hold(Op::Write, When::Before);
    let _asking = ask(&cache, &loader);
    settle().await;
    loader.answer(0, old()).await;
    // It takes the first load out of the way of later callers, and goes.
    let removing = remove(&cache);
    settle().await;
    removing.abort();
    settle().await;
    let later = ask(&cache, &loader);
    settle().await;
    loader.answer(1, bytes("NEW")).await;
    drop(held);
    settle().await;
    assert_eq!(payload(later.await.unwrap()), Some(bytes("NEW")));
    let left = cache.get(key("k")).await.unwrap().map(|hit| hit.value);
    assert_eq!(left, Some(bytes("NEW")));
}
