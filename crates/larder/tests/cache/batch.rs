//! Many writes and removes in two tiers: one call to each, in the order of each key.

use std::sync::Arc;

use bytes::Bytes;
use larder::cache::{MemoryCache, Tiered};
use larder_core::{CacheValue, Condition, DeleteStatus, Key, LayerState, ManualClock, Tier};

use crate::scripted::{Op, Scripted, When, data, key, text, version};

struct Bench {
    l1: Scripted,
    l2: Scripted,
    tiered: Arc<Tiered<Scripted, Scripted>>,
}

impl Bench {
    fn new() -> Self {
        let clock = ManualClock::default();
        let [l1, l2] = ["l1", "l2"].map(|label| Scripted::new(label, &clock));
        let tiered = Tiered::builder(l1.clone(), l2.clone()).clock(clock.shared()).build();
        Self { l1, l2, tiered: Arc::new(tiered) }
    }

    fn stored(&self, k: &str) -> [Option<Bytes>; 2] {
        [&self.l1, &self.l2].map(|layer| layer.stored(k).map(|value| value.data))
    }
}

fn entries(pairs: &[(&'static str, &'static str)]) -> Vec<(Key, CacheValue<Bytes>)> {
    pairs.iter().map(|(k, value)| (key(k).to_key(), text(value))).collect()
}

fn both(value: &'static str) -> [Option<Bytes>; 2] {
    [Some(Bytes::from(value)), Some(Bytes::from(value))]
}

async fn settle() {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn many_writes_and_removes_are_one_call_to_each_layer() {
    let bench = Bench::new();
    let batch = entries(&[("c", "3"), ("a", "1"), ("b", "2")]);
    let written = bench.tiered.write_many(batch, Condition::Always).await.unwrap();
    assert!(written.iter().all(|status| status.applied));
    assert_eq!(written[2].layers, Some([LayerState::Done, LayerState::Done]));
    assert_eq!((bench.l1.writes(), bench.l2.writes()), (1, 1));
    assert_eq!(bench.stored("b"), both("2"));

    let keys = [key("a"), key("missing"), key("c")];
    let removed = bench.tiered.remove_many(&keys, Condition::Always).await.unwrap();
    let wanted = [DeleteStatus::Deleted(2), DeleteStatus::Missing, DeleteStatus::Deleted(2)];
    assert_eq!(removed, wanted);
    assert_eq!((bench.l1.removes(), bench.l2.removes()), (1, 1));
    assert_eq!((bench.stored("a"), bench.stored("b")), ([None, None], both("2")));
}

#[tokio::test]
async fn a_later_write_or_remove_of_one_of_its_keys_wins_over_a_batch_that_is_late() {
    for removes in [false, true] {
        let bench = Bench::new();
        let held = bench.l2.hold(Op::Write, When::Before);
        let tiered = Arc::clone(&bench.tiered);
        let batch = tokio::spawn(async move {
            tiered.write_many(entries(&[("a", "1"), ("b", "1")]), Condition::Always).await
        });
        settle().await;
        let tiered = Arc::clone(&bench.tiered);
        let later = tokio::spawn(async move {
            if removes {
                Tier::<Bytes>::remove(&*tiered, key("a"), Condition::Always).await.unwrap();
            } else {
                tiered.write(key("a"), text("2"), Condition::Always).await.unwrap();
            }
        });
        settle().await;
        assert!(!later.is_finished(), "it overtakes the batch");
        drop(held);
        assert!(batch.await.unwrap().is_ok());
        later.await.unwrap();
        assert_eq!(bench.stored("a"), if removes { [None, None] } else { both("2") });
        assert_eq!(bench.stored("b"), both("1"));
    }
}

#[tokio::test]
async fn a_batch_that_comes_late_does_not_land_over_a_later_write() {
    let bench = Bench::new();
    // The first batch waits for its turn at `a` in L2; of `b` something later lands meanwhile.
    let held = bench.l2.hold(Op::Write, When::Before);
    let write = |k: &'static str, value| {
        let tiered = Arc::clone(&bench.tiered);
        tokio::spawn(async move { tiered.write(key(k), text(value), Condition::Always).await })
    };
    let first = write("a", "0");
    settle().await;
    let tiered = Arc::clone(&bench.tiered);
    let batch = tokio::spawn(async move {
        tiered.write_many(entries(&[("b", "1"), ("a", "1")]), Condition::Always).await
    });
    settle().await;
    assert!(write("b", "2").await.unwrap().is_ok());
    assert_eq!(bench.stored("b"), both("2"));
    drop(held);
    assert!(first.await.unwrap().is_ok() && batch.await.unwrap().is_ok());
    assert_eq!((bench.stored("a"), bench.stored("b")), (both("1"), both("2")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn batches_over_the_same_keys_in_different_orders_all_end_and_agree() {
    let bench = Bench::new();
    let mut batches = tokio::task::JoinSet::new();
    for turn in 0..200 {
        let tiered = Arc::clone(&bench.tiered);
        let mut batch = entries(&[("a", "1"), ("b", "2"), ("c", "3")]);
        for (_, value) in &mut batch {
            value.data = Bytes::from(turn.to_string());
        }
        if turn % 2 == 0 {
            batch.reverse();
        }
        batches.spawn(async move { tiered.write_many(batch, Condition::Always).await });
    }
    while let Some(written) = batches.join_next().await {
        assert!(written.unwrap().is_ok());
    }
    for k in ["a", "b", "c"] {
        let [l1, l2] = bench.stored(k);
        assert!(l1.is_some() && l1 == l2, "the layers disagree about {k}");
    }
}

#[tokio::test]
async fn a_layer_that_missed_a_batch_counts_as_holding_none_of_its_keys() {
    for op in [Op::Write, Op::Remove] {
        let bench = Bench::new();
        let old = entries(&[("a", "old"), ("b", "old"), ("c", "old")]);
        bench.tiered.write_many(old, Condition::Always).await.unwrap();
        bench.l1.fail(op);
        let keys = [key("a"), key("b")];
        let wanted = if op == Op::Write {
            let new = entries(&[("a", "new"), ("b", "new")]);
            let written = bench.tiered.write_many(new, Condition::Always).await.unwrap();
            assert_eq!(written[1].layers, Some([LayerState::Failed, LayerState::Done]));
            Some(Bytes::from("new"))
        } else {
            let removed = bench.tiered.remove_many(&keys, Condition::Always).await.unwrap();
            assert_eq!(removed, [DeleteStatus::Deleted(1); 2]);
            None
        };
        bench.l1.recover();
        for k in ["a", "b"] {
            assert_eq!(data(&*bench.tiered, k).await, wanted, "{k}");
        }
        let reads = bench.l2.reads();
        assert_eq!(data(&*bench.tiered, "c").await, Some(Bytes::from("old")));
        assert_eq!(bench.l2.reads(), reads, "the others are not distrusted");
    }
}

#[tokio::test]
async fn a_batch_that_is_dropped_half_way_is_a_debt_of_each_of_its_keys() {
    let bench = Bench::new();
    let old = entries(&[("a", "old"), ("b", "old")]);
    bench.tiered.write_many(old, Condition::Always).await.unwrap();
    let _held = bench.l2.hold(Op::Remove, When::Before);
    let tiered = Arc::clone(&bench.tiered);
    let removing = tokio::spawn(async move {
        let keys = [key("a"), key("b")];
        Tier::<Bytes>::remove_many(&*tiered, &keys, Condition::Always).await
    });
    settle().await;
    removing.abort();
    settle().await;
    assert_eq!(bench.stored("a"), [None, Some(Bytes::from("old"))]);
    for k in ["a", "b"] {
        assert_eq!(data(&*bench.tiered, k).await, None, "a removed value came back");
    }
}

#[tokio::test]
async fn a_condition_on_many_is_decided_by_both_layers_for_each_key() {
    let bench = Bench::new();
    bench.l2.plant("a", text("newer").with_version(version(9))).await;
    let mut batch = entries(&[("a", "mine"), ("b", "mine")]);
    for (_, value) in &mut batch {
        value.version = Some(version(5));
    }
    let written = bench.tiered.write_many(batch, Condition::IfNewerThan(version(5))).await.unwrap();
    assert_eq!([written[0].applied, written[1].applied], [false, true]);
    assert_eq!(data(&*bench.tiered, "a").await, Some(Bytes::from("newer")));
    assert_eq!(data(&*bench.tiered, "b").await, Some(Bytes::from("mine")));
}

#[tokio::test]
async fn one_value_that_is_too_large_for_a_layer_costs_only_itself() {
    let clock = ManualClock::default();
    let near: MemoryCache<Bytes> = MemoryCache::builder(1 << 20).clock(clock.shared()).build();
    let far = Scripted::new("far", &clock);
    let tiered = Tiered::builder(near, far.clone()).clock(clock.shared()).build();
    let mut batch = entries(&[("small", "v"), ("large", "v"), ("other", "v")]);
    batch[1].1.data = Bytes::from(vec![0; 2 << 20]);
    tiered.write_many(batch, Condition::Always).await.unwrap();
    for k in ["small", "other"] {
        assert_eq!(data(&tiered, k).await, Some(Bytes::from("v")));
    }
    assert_eq!(far.reads(), 0, "the near layer has the small ones");
    assert_eq!(data(&tiered, "large").await.map(|value| value.len()), Some(2 << 20));
}

#[tokio::test]
async fn of_a_key_that_is_written_twice_the_last_value_stays() {
    let bench = Bench::new();
    let batch = entries(&[("a", "1"), ("b", "1"), ("a", "2")]);
    assert_eq!(bench.tiered.write_many(batch, Condition::Always).await.unwrap().len(), 3);
    assert_eq!((bench.stored("a"), bench.stored("b")), (both("2"), both("1")));
    let keys = [key("a"), key("a")];
    let removed = bench.tiered.remove_many(&keys, Condition::Always).await.unwrap();
    assert_eq!(removed, [DeleteStatus::Deleted(2), DeleteStatus::Missing]);
}

#[tokio::test]
async fn after_a_batch_that_failed_in_both_layers_neither_is_trusted() {
    let bench = Bench::new();
    let old = entries(&[("a", "old"), ("b", "old")]);
    bench.tiered.write_many(old, Condition::Always).await.unwrap();
    for layer in [&bench.l1, &bench.l2] {
        layer.fail(Op::Write);
    }
    let new = entries(&[("a", "new"), ("b", "new")]);
    assert!(bench.tiered.write_many(new, Condition::Always).await.is_err());
    for layer in [&bench.l1, &bench.l2] {
        layer.recover();
    }
    for k in ["a", "b"] {
        assert_eq!(data(&*bench.tiered, k).await, None, "nobody knows which value {k} has");
    }
}
