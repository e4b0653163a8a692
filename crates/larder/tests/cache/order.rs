//! What is late never lands over what is newer.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use larder::cache::Tiered;
use larder::compose::{
    AnyWritePolicy, BoundedOffload, Drained, OffloadLimits, RaceLoserPolicy, RaceWritePolicy,
};
use larder_core::{Condition, LayerState, ManualClock, Tier};

use crate::scripted::{Op, Scripted, When, data, key, text, version};

type Pair = Arc<Tiered<Scripted, Scripted, larder::compose::SequentialReadPolicy, AnyWritePolicy>>;

struct Bench {
    l1: Scripted,
    l2: Scripted,
    tiered: Pair,
    offload: BoundedOffload,
}

impl Bench {
    fn new(write: impl Into<AnyWritePolicy>) -> Self {
        let clock = ManualClock::default();
        let [l1, l2] = ["l1", "l2"].map(|label| Scripted::new(label, &clock));
        let offload = BoundedOffload::new(OffloadLimits::new());
        let tiered = Tiered::builder(l1.clone(), l2.clone())
            .clock(clock.shared())
            .offload(offload.clone())
            .write(write.into())
            .build();
        Self { l1, l2, tiered: Arc::new(tiered), offload }
    }

    fn tolerant() -> Self {
        Self::new("optimistic-parallel".parse::<AnyWritePolicy>().unwrap())
    }

    async fn put(&self, value: &'static str, reading: u64) -> [LayerState; 2] {
        let value = text(value).with_version(version(reading));
        self.tiered.write(key("k"), value, Condition::Always).await.unwrap().layers.unwrap()
    }

    async fn drain(&self) {
        let within = std::time::Duration::from_secs(5);
        assert_eq!(self.offload.drain(within).await, Drained::Complete);
    }

    fn stored(&self) -> [Option<Bytes>; 2] {
        [&self.l1, &self.l2].map(|layer| layer.stored("k").map(|value| value.data))
    }

    /// A read that has the old value of L2 in hand and has not returned, and what ends it.
    async fn late_read(&self) -> (tokio::task::JoinHandle<Option<Bytes>>, impl Sized + use<>) {
        let held = self.l2.hold(Op::Read, When::After);
        let tiered = Arc::clone(&self.tiered);
        let read = tokio::spawn(async move { data(&*tiered, "k").await });
        while self.l2.reads() == 0 {
            tokio::task::yield_now().await;
        }
        (read, held)
    }
}

/// A memory layer over one that another process writes as well.
async fn shared_bench() -> Bench {
    let clock = ManualClock::default();
    let l1 = Scripted::new("l1", &clock);
    let l2 = Scripted::new("l2", &clock).shared();
    let offload = BoundedOffload::new(OffloadLimits::new());
    let tiered = Tiered::builder(l1.clone(), l2.clone())
        .clock(clock.shared())
        .offload(offload.clone())
        .write("optimistic-parallel".parse::<AnyWritePolicy>().unwrap())
        .build();
    let bench = Bench { l1, l2, tiered: Arc::new(tiered), offload };
    bench.put("old", 1).await;
    bench
}

#[tokio::test]
async fn forgetting_reaches_the_private_layer_and_leaves_the_shared_one() {
    let bench = shared_bench().await;
    bench.l2.plant("k", text("new").with_version(version(2))).await;
    assert_eq!(data(&*bench.tiered, "k").await, Some(Bytes::from("old")));
    bench.tiered.forget(key("k"), Condition::IfNewerThan(version(2))).await.unwrap();
    assert_eq!(bench.stored(), [None, Some(Bytes::from("new"))]);
    assert_eq!(data(&*bench.tiered, "k").await, Some(Bytes::from("new")));
    bench.tiered.forget_all().await.unwrap();
    assert_eq!(bench.stored(), [None, Some(Bytes::from("new"))]);
}

#[tokio::test]
async fn a_late_refill_never_brings_back_what_was_forgotten() {
    for all in [false, true] {
        let bench = shared_bench().await;
        bench.tiered.forget_all().await.unwrap();
        let (read, held) = bench.late_read().await;
        bench.l2.plant("k", text("new").with_version(version(2))).await;
        if all {
            bench.tiered.forget_all().await.unwrap();
        } else {
            bench.tiered.forget(key("k"), Condition::IfNewerThan(version(2))).await.unwrap();
        }
        drop(held);
        assert_eq!(read.await.unwrap(), Some(Bytes::from("old")), "it began before the change");
        assert_eq!(bench.stored(), [None, Some(Bytes::from("new"))]);
    }
}

#[tokio::test]
async fn forgetting_waits_for_a_refill_that_is_landing() {
    for all in [false, true] {
        let bench = shared_bench().await;
        bench.tiered.forget_all().await.unwrap();
        let held = bench.l1.hold(Op::Write, When::Before);
        let tiered = Arc::clone(&bench.tiered);
        let read = tokio::spawn(async move { data(&*tiered, "k").await });
        let writes = bench.l1.writes();
        while bench.l1.writes() == writes {
            tokio::task::yield_now().await;
        }
        let tiered = Arc::clone(&bench.tiered);
        let forget = tokio::spawn(async move {
            if all {
                tiered.forget_all().await.unwrap();
            } else {
                tiered.forget(key("k"), Condition::Always).await.unwrap();
            }
        });
        tokio::task::yield_now().await;
        drop(held);
        read.await.unwrap();
        forget.await.unwrap();
        assert_eq!(bench.l1.stored("k"), None);
    }
}

#[tokio::test]
async fn a_layer_that_cannot_forget_counts_as_not_holding_the_key() {
    for all in [false, true] {
        let bench = shared_bench().await;
        bench.l2.plant("k", text("new").with_version(version(2))).await;
        bench.l1.fail(Op::Forget);
        if all {
            bench.tiered.forget_all().await.unwrap();
        } else {
            bench.tiered.forget(key("k"), Condition::Always).await.unwrap();
        }
        assert_eq!(bench.l1.stored("k").unwrap().data, Bytes::from("old"));
        assert_eq!(data(&*bench.tiered, "k").await, Some(Bytes::from("new")));
    }
}

fn both(value: &'static str) -> [Option<Bytes>; 2] {
    [Some(Bytes::from(value)), Some(Bytes::from(value))]
}

#[tokio::test]
async fn a_late_refill_never_lands_over_a_newer_write() {
    let bench = Bench::tolerant();
    // Without versions: only the order can tell.
    bench.l2.plant("k", text("old")).await;
    let (read, held) = bench.late_read().await;
    bench.tiered.write(key("k"), text("new"), Condition::Always).await.unwrap();
    drop(held);
    assert_eq!(read.await.unwrap(), Some(Bytes::from("old")), "its reader began before the write");
    assert_eq!(bench.stored(), both("new"));
}

#[tokio::test]
async fn a_late_refill_never_brings_a_removed_value_back() {
    let bench = Bench::tolerant();
    bench.l2.plant("k", text("old").with_version(version(1))).await;
    let (read, held) = bench.late_read().await;
    bench.tiered.remove(key("k"), Condition::Always).await.unwrap();
    drop(held);
    read.await.unwrap();
    assert_eq!(bench.stored(), [None, None]);
    assert_eq!(data(&*bench.tiered, "k").await, None);
}

#[tokio::test]
async fn a_late_refill_never_lands_after_a_clear() {
    let bench = Bench::tolerant();
    bench.l2.plant("k", text("old")).await;
    let (read, held) = bench.late_read().await;
    bench.tiered.clear().await.unwrap();
    drop(held);
    read.await.unwrap();
    assert_eq!(bench.stored(), [None, None]);
}

#[tokio::test]
async fn a_refill_does_not_land_while_a_write_is_under_way() {
    let bench = Bench::tolerant();
    bench.l2.plant("k", text("old")).await;
    let held = bench.l2.hold(Op::Write, When::Before);
    let tiered = Arc::clone(&bench.tiered);
    let write = tokio::spawn(async move {
        tiered.write(key("k"), text("new"), Condition::Always).await.unwrap();
    });
    while bench.l2.writes() == 0 {
        tokio::task::yield_now().await;
    }
    // L1 has the new value; forget it, so that the read goes to L2, which still has the old one.
    bench.l1.remove(key("k"), Condition::Always).await.unwrap();
    assert_eq!(data(&*bench.tiered, "k").await, Some(Bytes::from("old")));
    assert_eq!(bench.l1.stored("k"), None);
    drop(held);
    write.await.unwrap();
    assert_eq!(bench.l2.stored("k").unwrap().data, Bytes::from("new"));
}

#[tokio::test]
async fn the_late_loser_of_a_race_never_lands_over_a_newer_write() {
    let bench = Bench::new(RaceWritePolicy { loser: RaceLoserPolicy::Offload });
    let held = bench.l2.hold(Op::Write, When::Before);
    assert_eq!(bench.put("first", 1).await, [LayerState::Done, LayerState::Background]);
    assert_eq!(bench.put("second", 2).await, [LayerState::Done, LayerState::Background]);
    drop(held);
    bench.drain().await;
    assert_eq!(bench.stored(), both("second"));
}

#[tokio::test]
async fn the_late_loser_of_a_race_never_brings_a_removed_value_back() {
    let bench = Bench::new(RaceWritePolicy { loser: RaceLoserPolicy::Offload });
    let held = bench.l2.hold(Op::Write, When::Before);
    bench.put("first", 1).await;
    let tiered = Arc::clone(&bench.tiered);
    let remove = tokio::spawn(async move { tiered.remove(key("k"), Condition::Always).await });
    tokio::task::yield_now().await;
    drop(held);
    remove.await.unwrap().unwrap();
    bench.drain().await;
    assert_eq!(bench.stored(), [None, None]);
}

#[tokio::test]
async fn while_the_loser_is_under_way_its_layer_counts_as_empty() {
    let bench = Bench::new(RaceWritePolicy { loser: RaceLoserPolicy::Offload });
    bench.put("old", 1).await;
    let held = bench.l1.hold(Op::Write, When::Before);
    assert_eq!(bench.put("new", 2).await, [LayerState::Background, LayerState::Done]);
    assert_eq!(bench.stored(), [Some(Bytes::from("old")), Some(Bytes::from("new"))]);
    assert_eq!(data(&*bench.tiered, "k").await, Some(Bytes::from("new")));
    drop(held);
    bench.drain().await;
    bench.l2.fail(Op::Read);
    assert_eq!(data(&*bench.tiered, "k").await, Some(Bytes::from("new")), "L1 counts again");
}

#[tokio::test]
async fn two_writers_leave_the_same_value_in_both_layers() {
    let bench = Bench::tolerant();
    let held = bench.l2.hold(Op::Write, When::Before);
    let writer = |value: &'static str| {
        let tiered = Arc::clone(&bench.tiered);
        tokio::spawn(async move { tiered.write(key("k"), text(value), Condition::Always).await })
    };
    let first = writer("first");
    while bench.l2.writes() == 0 {
        tokio::task::yield_now().await;
    }
    let second = writer("second");
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.l1.stored("k").unwrap().data, Bytes::from("second"));
    drop(held);
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    assert_eq!(bench.stored(), both("second"));
}

#[tokio::test]
async fn a_cancelled_write_leaves_no_layer_that_disagrees_with_the_other() {
    let bench = Bench::tolerant();
    bench.put("old", 1).await;
    let held = bench.l2.hold(Op::Write, When::Before);
    {
        let mut write = pin!(bench.put("new", 2));
        poll_fn(|context| {
            assert!(write.as_mut().poll(context).is_pending());
            Poll::Ready(())
        })
        .await;
    }
    drop(held);
    assert_eq!(bench.stored(), [Some(Bytes::from("new")), Some(Bytes::from("old"))]);
    // L1 forgets, as caches do: the old value must not show again.
    bench.l1.remove(key("k"), Condition::Always).await.unwrap();
    assert_eq!(data(&*bench.tiered, "k").await, None);
    bench.put("newer", 3).await;
    bench.l1.remove(key("k"), Condition::Always).await.unwrap();
    assert_eq!(data(&*bench.tiered, "k").await, Some(Bytes::from("newer")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_and_writers_at_once_end_with_two_layers_that_agree() {
    for write in ["optimistic-parallel", "race", "sequential"] {
        let bench = Arc::new(Bench::new(write.parse::<AnyWritePolicy>().unwrap()));
        let tasks: Vec<_> = (0..8_u32)
            .map(|task| {
                let bench = Arc::clone(&bench);
                tokio::spawn(async move {
                    for n in 0..500_u32 {
                        match (task + n) % 4 {
                            0 => drop(bench.put("a", 1).await),
                            1 => drop(bench.put("b", 2).await),
                            2 => drop(bench.tiered.remove(key("k"), Condition::Always).await),
                            _ => drop(data(&*bench.tiered, "k").await),
                        }
                        bench
                            .l1
                            .remove(key("k"), Condition::IfVersionIs(Some(version(2))))
                            .await
                            .unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        bench.drain().await;
        let [l1, l2] = bench.stored();
        // L1 may have been made to forget; what it does hold is what L2 holds.
        assert!(l1.is_none() || l1 == l2, "{write}: {l1:?} {l2:?}");
    }
}
