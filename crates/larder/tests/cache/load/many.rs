//! Many keys at once through the face.

use larder::cache::{Lookup, PutOptions, Tag};
use larder_core::{DeleteStatus, Key, KeyRef};

use super::{Bench, bytes, payload, red};
use crate::scripted::key;

fn entry(k: &str, value: &'static str) -> (Key, bytes::Bytes, PutOptions) {
    (key(k).to_key(), bytes(value), PutOptions::new().tags(red()))
}

async fn values(bench: &Bench, keys: &[&str]) -> Vec<Option<bytes::Bytes>> {
    let keys: Vec<KeyRef<'_>> = keys.iter().map(|k| key(k)).collect();
    let found = bench.cache.get_many(&keys).await.unwrap();
    found.into_iter().map(|found| found.hit().map(|hit| hit.value)).collect()
}

#[tokio::test]
async fn many_keys_take_one_call_to_the_far_tier() {
    let bench = Bench::new();
    let batch = vec![entry("a", "1"), entry("b", "2"), entry("c", "3")];
    let written = bench.cache.put_many(batch).await.unwrap();
    assert!(written.len() == 3 && written.iter().all(|status| status.applied));
    for k in ["a", "b"] {
        bench.forget_near(k).await;
    }
    let found = values(&bench, &["c", "missing", "b", "a", "b"]).await;
    let wanted = [Some("3"), None, Some("2"), Some("1"), Some("2")];
    assert_eq!(found, wanted.map(|value| value.map(bytes)));
    assert_eq!((bench.far.writes(), bench.far.reads()), (1, 1));
    let removed = bench.cache.remove_many(&[key("a"), key("missing")]).await.unwrap();
    assert_eq!(removed, [DeleteStatus::Deleted(2), DeleteStatus::Missing]);
    assert_eq!(bench.far.removes(), 1);
    assert_eq!(values(&bench, &["a", "b"]).await, [None, Some(bytes("2"))]);
    let stats = bench.stats();
    assert_eq!((stats.puts, stats.removes, stats.hits, stats.misses), (3, 1, 5, 2));
}

#[tokio::test]
async fn of_a_key_that_is_put_twice_the_last_value_stays() {
    let bench = Bench::new();
    let batch = vec![entry("a", "1"), entry("b", "2"), entry("a", "3")];
    let written = bench.cache.put_many(batch).await.unwrap();
    assert!(written.len() == 3 && written.iter().all(|status| status.applied));
    assert_eq!(values(&bench, &["a", "b"]).await, [Some(bytes("3")), Some(bytes("2"))]);
}

#[tokio::test]
async fn an_invalidated_value_is_none_among_many() {
    let bench = Bench::new();
    bench.cache.put_many(vec![entry("a", "1")]).await.unwrap();
    bench.put("plain", "2", PutOptions::new()).await;
    bench.cache.remove_tag(&Tag::new("red").unwrap());
    assert_eq!(values(&bench, &["a", "plain"]).await, [None, Some(bytes("2"))]);
}

#[tokio::test]
async fn a_negative_entry_is_told_apart_among_many() {
    let bench = Bench::new();
    drop(bench.ask("none").await);
    bench.loader.answer(0, larder::cache::Loaded::not_found()).await;
    let found = bench.cache.get_many(&[key("none"), key("missing")]).await.unwrap();
    assert!(matches!(&found[..], [Lookup::Absent(_), Lookup::Miss]));
}

#[tokio::test]
async fn a_put_or_remove_of_many_wins_over_loads_of_its_keys() {
    for removes in [false, true] {
        let bench = Bench::new();
        let asking = [bench.ask("a").await, bench.ask("b").await];
        if removes {
            bench.cache.remove_many(&[key("a"), key("b")]).await.unwrap();
        } else {
            bench.cache.put_many(vec![entry("a", "NEW"), entry("b", "NEW")]).await.unwrap();
        }
        for load in [0, 1] {
            bench.loader.answer(load, bytes("OLD")).await;
        }
        for caller in asking {
            assert_eq!(payload(caller.await.unwrap()), Some(bytes("OLD")));
        }
        let left = (!removes).then(|| bytes("NEW"));
        assert_eq!(values(&bench, &["a", "b"]).await, [left.clone(), left]);
    }
}
