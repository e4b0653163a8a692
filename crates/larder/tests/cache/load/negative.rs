//! Negative entries: that there is no value is remembered, in every tier.

use std::time::Duration;

use larder::cache::{LoadOptions, Loaded, Lookup, PutOptions, Tag};
use larder_core::Age;

use super::{Bench, bytes, payload, red};
use crate::scripted::key;

#[tokio::test]
async fn that_there_is_no_value_is_remembered_and_told_apart_from_a_miss() {
    let bench = Bench::new();
    assert_eq!(bench.cache.look_up(key("k")).await.unwrap(), Lookup::Miss);
    let asking = [bench.ask("k").await, bench.ask("k").await];
    bench.loader.answer(0, Loaded::not_found()).await;
    for caller in asking {
        assert_eq!(payload(caller.await.unwrap()), None);
    }
    for forget in [false, true] {
        if forget {
            bench.forget_near("k").await;
        }
        let found = bench.cache.look_up(key("k")).await.unwrap();
        assert!(matches!(&found, Lookup::Absent(absent) if absent.age == Age::Fresh), "{found:?}");
        assert_eq!(found.hit(), None);
        assert_eq!(bench.get("k").await, None);
        assert_eq!(bench.ask_now("k").await, None);
    }
    assert_eq!(bench.loader.calls(), 1);
    let stats = bench.stats();
    assert_eq!((stats.hits, stats.misses, stats.negative_hits), (0, 3, 6));
}

#[tokio::test]
async fn it_is_remembered_for_its_own_time() {
    let options =
        LoadOptions::new().ttl(Duration::from_hours(1)).negative_ttl(Duration::from_secs(2));
    let bench = Bench::with_options(options);
    for (answer, secs) in
        [(Loaded::not_found(), 2), (Loaded::not_found().ttl(Duration::from_secs(7)), 7)]
    {
        drop(bench.ask("k").await);
        let calls = bench.loader.calls();
        bench.loader.answer(calls - 1, answer).await;
        bench.clock.advance(Duration::from_millis(secs * 1_000 - 1));
        assert_eq!(bench.ask_now("k").await, None);
        bench.clock.advance(Duration::from_millis(1));
        assert_eq!(bench.cache.look_up(key("k")).await.unwrap(), Lookup::Miss);
        assert_eq!(bench.loader.calls(), calls);
    }
}

#[tokio::test]
async fn a_time_of_zero_remembers_nothing_and_still_removes_the_value() {
    let options =
        LoadOptions::new().negative_ttl(Duration::ZERO).soft_timeout(Duration::from_secs(9));
    let bench = Bench::with_options(options);
    bench.put_stale("k", "old").await;
    let asking = bench.ask("k").await;
    bench.loader.answer(0, Loaded::not_found()).await;
    assert_eq!(payload(asking.await.unwrap()), None);
    assert_eq!(bench.cache.look_up(key("k")).await.unwrap(), Lookup::Miss);
}

#[tokio::test]
async fn it_replaces_a_value_and_a_value_replaces_it() {
    let bench = Bench::new();
    bench.put_stale("k", "old").await;
    assert_eq!(bench.ask_now("k").await, Some(bytes("old")));
    bench.loader.answer(0, Loaded::not_found()).await;
    assert_eq!(bench.ask_now("k").await, None);
    bench.put("k", "new", PutOptions::new()).await;
    assert_eq!(bench.ask_now("k").await, Some(bytes("new")));
}

#[tokio::test]
async fn it_can_be_removed_and_invalidated_by_tag() {
    let bench = Bench::new();
    for by_tag in [false, true] {
        drop(bench.ask("k").await);
        let calls = bench.loader.calls();
        bench.loader.answer(calls - 1, Loaded::not_found().tags(red())).await;
        assert_eq!(bench.ask_now("k").await, None);
        if by_tag {
            bench.cache.remove_tag(&Tag::new("red").unwrap());
        } else {
            bench.cache.remove(key("k")).await.unwrap();
        }
        assert_eq!(bench.cache.look_up(key("k")).await.unwrap(), Lookup::Miss, "{by_tag}");
    }
}

#[tokio::test]
async fn a_stale_negative_entry_is_served_and_refreshed() {
    let bench = Bench::new();
    drop(bench.ask("k").await);
    let absent = Loaded::not_found().ttl(Duration::from_mins(1)).stale_after(Duration::ZERO);
    bench.loader.answer(0, absent).await;
    assert_eq!(bench.ask_now("k").await, None);
    assert_eq!(bench.loader.calls(), 2);
    bench.loader.answer(1, bytes("there now")).await;
    assert_eq!(bench.ask_now("k").await, Some(bytes("there now")));
}
