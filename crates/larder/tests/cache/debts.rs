//! What a layer has missed does not come back.

use std::time::Duration;

use bytes::Bytes;
use larder::cache::{Tiered, TieredBuilder};
use larder::compose::{DisabledOffload, RaceLoserPolicy, RaceWritePolicy};
use larder_core::{CacheValue, Clock as _, Condition, LayerState, ManualClock, Tier, Version};

use crate::scripted::{Op, Scripted, When, data, key, text, version};

fn two() -> (ManualClock, Scripted, Scripted, TieredBuilder<Scripted, Scripted>) {
    let clock = ManualClock::default();
    let [l1, l2] = ["l1", "l2"].map(|label| Scripted::new(label, &clock));
    let builder = Tiered::builder(l1.clone(), l2.clone()).clock(clock.shared());
    (clock, l1, l2, builder)
}

#[tokio::test]
async fn a_removed_value_does_not_return_from_a_layer_that_was_down() {
    let (_, l1, l2, builder) = two();
    let tiered = builder.build();
    tiered.write(key("k"), text("old"), Condition::Always).await.unwrap();
    l2.fail(Op::Remove);
    tiered.remove(key("k"), Condition::Always).await.unwrap();
    l2.recover();
    assert!(l2.stored("k").is_some());
    assert_eq!(data(&tiered, "k").await, None);
    assert_eq!(tiered.read_many(&[key("k")]).await.unwrap(), [None]);
    assert_eq!(l1.stored("k"), None, "and no read fills the near layer with it");
    tiered.remove(key("k"), Condition::Always).await.unwrap();
    l2.plant("k", text("by another process")).await;
    assert_eq!(data(&tiered, "k").await, Some(Bytes::from("by another process")));
}

#[tokio::test]
async fn a_debt_paid_during_a_read_of_many_does_not_vouch_for_what_was_read_before() {
    let (_, l1, _, builder) = two();
    let tiered = std::sync::Arc::new(builder.build());
    tiered.write(key("k"), text("old"), Condition::Always).await.unwrap();
    l1.fail(Op::Remove);
    tiered.remove(key("k"), Condition::Always).await.unwrap();
    l1.recover();
    let (reads, release) = (l1.reads(), l1.hold(Op::Read, When::After));
    let reader = {
        let tiered = std::sync::Arc::clone(&tiered);
        tokio::spawn(async move { tiered.read_many(&[key("k")]).await.unwrap() })
    };
    while l1.reads() == reads {
        tokio::task::yield_now().await;
    }
    tiered.write(key("k"), text("new"), Condition::Always).await.unwrap();
    drop(release);
    let found = reader.await.unwrap();
    let read = found[0].as_ref().map(|found| &found.value.data);
    assert_ne!(read, Some(&Bytes::from("old")), "it was removed before the read began");
}

#[tokio::test]
async fn an_old_value_does_not_return_from_a_far_layer_that_missed_a_write() {
    let (_, l1, l2, builder) = two();
    let tiered = builder.build();
    tiered.write(key("k"), text("old"), Condition::Always).await.unwrap();
    l2.fail(Op::Write);
    tiered.write(key("k"), text("new"), Condition::Always).await.unwrap();
    l2.recover();
    assert_eq!(data(&tiered, "k").await, Some(Bytes::from("new")));
    l1.remove(key("k"), Condition::Always).await.unwrap();
    assert_eq!(data(&tiered, "k").await, None);
}

#[tokio::test]
async fn a_near_layer_that_missed_a_write_is_filled_again_by_the_next_read() {
    let (_, l1, l2, builder) = two();
    let tiered = builder.build();
    let old = text("old").with_version(version(9));
    tiered.write(key("k"), old, Condition::Always).await.unwrap();
    l1.fail(Op::Write);
    let new = text("new").with_version(version(2));
    tiered.write(key("k"), new, Condition::Always).await.unwrap();
    assert_eq!(data(&tiered, "k").await, Some(Bytes::from("new")));
    l1.recover();
    // What the near layer has is of a higher version, and counts for nothing.
    assert_eq!(data(&tiered, "k").await, Some(Bytes::from("new")));
    assert_eq!(l1.stored("k").unwrap().data, Bytes::from("new"));
    l2.fail(Op::Read);
    assert_eq!(data(&tiered, "k").await, Some(Bytes::from("new")));
}

#[tokio::test]
async fn what_an_owing_layer_holds_decides_no_condition() {
    let (_, _, l2, builder) = two();
    let tiered = builder.build();
    let high = text("old").with_version(version(9));
    tiered.write(key("k"), high, Condition::Always).await.unwrap();
    l2.fail(Op::Remove);
    tiered.remove(key("k"), Condition::Always).await.unwrap();
    l2.recover();
    let condition = Condition::IfNewerThan(version(3));
    let low = text("new").with_version(version(3));
    assert!(tiered.write(key("k"), low, condition).await.unwrap().applied);
    assert_eq!(l2.stored("k").unwrap().data, Bytes::from("new"));
}

#[tokio::test]
async fn the_loser_of_a_race_that_is_dropped_or_refused_is_not_served() {
    for loser in [RaceLoserPolicy::Drop, RaceLoserPolicy::Offload] {
        let (_, l1, l2, builder) = two();
        let builder = builder.offload(DisabledOffload::new());
        let tiered = builder.write(RaceWritePolicy { loser }).build();
        tiered.write(key("k"), text("old"), Condition::Always).await.unwrap();
        let _held = l2.hold(Op::Write, When::Before);
        let status = tiered.write(key("k"), text("new"), Condition::Always).await.unwrap();
        assert_eq!(status.layers, Some([LayerState::Done, LayerState::NotTried]));
        l1.remove(key("k"), Condition::Always).await.unwrap();
        assert_eq!(l2.stored("k").unwrap().data, Bytes::from("old"));
        assert_eq!(data(&tiered, "k").await, None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_missed_a_clear_counts_as_empty_until_it_was_cleared() {
    let (clock, _, l2, builder) = two();
    let tiered = builder.build();
    for k in ["a", "b"] {
        tiered.write(key(k), text("old"), Condition::Always).await.unwrap();
    }
    l2.fail(Op::Remove);
    assert!(tiered.clear().await.is_err());
    assert_eq!(data(&tiered, "a").await, None);
    l2.recover();
    assert_eq!(data(&tiered, "b").await, None);
    clock.advance(Duration::from_secs(1));
    settled(&tiered).await;
    assert_eq!(l2.stored("b"), None, "cleared by nobody's call");
    l2.plant("c", text("by another process")).await;
    assert_eq!(data(&tiered, "c").await, Some(Bytes::from("by another process")));
}

#[tokio::test]
async fn a_write_that_is_under_way_during_a_clear_is_not_served_after_it() {
    let (_, _, l2, builder) = two();
    let tiered = std::sync::Arc::new(builder.build());
    let held = l2.hold(Op::Write, When::Before);
    let writer = std::sync::Arc::clone(&tiered);
    let write = tokio::spawn(async move {
        writer.write(key("k"), text("late"), Condition::Always).await.unwrap();
    });
    while l2.writes() == 0 {
        tokio::task::yield_now().await;
    }
    tiered.clear().await.unwrap();
    drop(held);
    write.await.unwrap();
    assert_eq!(data(&*tiered, "k").await, None);
}

/// Waits until nothing is owed any more.
async fn settled(tiered: &Tiered<Scripted, Scripted>) {
    for _ in 0..10_000 {
        if tiered.debts().iter().all(|debts| debts.owed == 0 && !debts.whole) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("debts are not paid: {:?}", tiered.debts());
}

fn newer(reading: u64) -> Condition {
    Condition::IfNewerThan(version(reading))
}

#[tokio::test(start_paused = true)]
async fn a_missed_write_reaches_the_far_layer_when_it_answers_again() {
    let (_, _, l2, builder) = two();
    let tiered = builder.build();
    l2.fail(Op::Write);
    l2.fail(Op::Remove);
    for reading in [3, 5] {
        let value = text("new").with_version(version(reading));
        tiered.write(key("k"), value, newer(reading)).await.unwrap();
    }
    let writes = l2.writes();
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert!(l2.writes() - writes < 25, "a layer that is down is left alone: {}", l2.writes());
    assert_eq!((tiered.debts()[1].owed, tiered.debts()[1].made), (1, 1));
    l2.recover();
    settled(&tiered).await;
    assert_eq!(l2.stored("k"), Some(text("new").with_version(version(5))));
    assert_eq!(tiered.debts()[1].paid, 1);
}

#[tokio::test(start_paused = true)]
async fn a_missed_remove_reaches_the_layer_by_nobodys_call() {
    let (_, _, l2, builder) = two();
    let tiered = builder.build();
    tiered.write(key("k"), text("old"), Condition::Always).await.unwrap();
    l2.fail(Op::Remove);
    tiered.remove(key("k"), Condition::Always).await.unwrap();
    l2.recover();
    settled(&tiered).await;
    assert_eq!(l2.stored("k"), None);
}

#[tokio::test(start_paused = true)]
async fn a_payment_never_replaces_what_another_process_has_written_since() {
    let (_, l1, l2, builder) = two();
    let tiered = builder.build();
    l2.fail(Op::Write);
    for k in ["held", "gone"] {
        tiered.write(key(k), text("mine").with_version(version(5)), newer(5)).await.unwrap();
    }
    l1.remove(key("gone"), Condition::Always).await.unwrap();
    let theirs = text("theirs").with_version(version(9));
    for k in ["held", "gone"] {
        l2.plant(k, theirs.clone()).await;
    }
    l2.recover();
    settled(&tiered).await;
    for k in ["held", "gone"] {
        assert_eq!(l2.stored(k), Some(theirs.clone()), "{k}");
        assert_eq!(data(&tiered, k).await, Some(Bytes::from("theirs")), "{k}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_near_layer_has_lost_is_removed_from_the_far_one_if_it_is_older() {
    let (_, l1, l2, builder) = two();
    let tiered = builder.build();
    let old = text("old").with_version(version(1));
    tiered.write(key("k"), old, newer(1)).await.unwrap();
    l2.fail(Op::Write);
    tiered.write(key("k"), text("new").with_version(version(2)), newer(2)).await.unwrap();
    l1.remove(key("k"), Condition::Always).await.unwrap();
    l2.recover();
    settled(&tiered).await;
    assert_eq!(l2.stored("k"), None, "the old value was replaced");
}

#[tokio::test(start_paused = true)]
async fn a_write_during_a_payment_wins() {
    let (_, _, l2, builder) = two();
    let tiered = std::sync::Arc::new(builder.build());
    l2.fail(Op::Write);
    tiered.write(key("k"), text("missed").with_version(version(2)), newer(2)).await.unwrap();
    let held = l2.hold(Op::Write, When::Before);
    let before = l2.writes();
    l2.recover();
    while l2.writes() == before {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // The payment is under way.
    let writer = std::sync::Arc::clone(&tiered);
    let write = tokio::spawn(async move {
        writer.write(key("k"), text("newest").with_version(version(3)), newer(3)).await.unwrap()
    });
    tokio::task::yield_now().await;
    drop(held);
    assert!(write.await.unwrap().applied);
    settled(&tiered).await;
    assert_eq!(l2.stored("k"), Some(text("newest").with_version(version(3))));
    assert_eq!(data(&*tiered, "k").await, Some(Bytes::from("newest")));
}

/// What a process that writes at this moment puts.
fn written_at(clock: &ManualClock, value: &'static str) -> CacheValue<Bytes> {
    text(value).with_version(Version::from_parts(clock.now().as_millis() << 16, 2))
}

#[tokio::test(start_paused = true)]
async fn a_remove_that_is_paid_takes_what_is_older_and_not_what_was_written_since() {
    let (clock, _, l2, builder) = two();
    let tiered = builder.build();
    let keys = ["old", "plain", "since", "conditional", "future"];
    let absurd = clock.now().saturating_add(Duration::from_hours(2)).as_millis() << 16;
    l2.plant("old", written_at(&clock, "old")).await;
    l2.plant("plain", text("without a version")).await;
    l2.plant("future", text("old").with_version(Version::from_parts(absurd, 2))).await;
    l2.fail(Op::Remove);
    for k in keys {
        let condition = if k == "conditional" { newer(5) } else { Condition::Always };
        tiered.remove(key(k), condition).await.unwrap();
    }
    clock.advance(Duration::from_mins(2));
    let since = written_at(&clock, "since");
    l2.plant("since", since.clone()).await;
    l2.plant("conditional", text("newer").with_version(version(6))).await;
    l2.recover();
    settled(&tiered).await;
    for k in ["old", "plain", "future"] {
        assert_eq!(l2.stored(k), None, "{k}");
    }
    assert_eq!(l2.stored("since"), Some(since));
    assert_eq!(l2.stored("conditional"), Some(text("newer").with_version(version(6))));
}

#[tokio::test(start_paused = true)]
async fn a_removed_value_does_not_return_when_a_write_after_it_is_missed_too() {
    let (_, _, l2, builder) = two();
    let tiered = builder.build();
    // Its writer's clock was ahead.
    tiered.write(key("k"), text("old").with_version(version(9)), newer(9)).await.unwrap();
    l2.fail(Op::Remove);
    l2.fail(Op::Write);
    tiered.remove(key("k"), Condition::Always).await.unwrap();
    let new = text("new").with_version(version(3));
    assert!(tiered.write(key("k"), new.clone(), newer(3)).await.unwrap().applied);
    l2.recover();
    settled(&tiered).await;
    assert_eq!(l2.stored("k"), Some(new));
    assert_eq!(data(&tiered, "k").await, Some(Bytes::from("new")));
}

#[tokio::test(start_paused = true)]
async fn a_write_to_a_layer_that_owes_spares_what_another_process_has_written_since() {
    let (_, _, l2, builder) = two();
    // Nobody pays: the write comes first.
    let tiered = builder.offload(DisabledOffload::new()).build();
    l2.fail(Op::Write);
    tiered.write(key("k"), text("mine").with_version(version(5)), newer(5)).await.unwrap();
    l2.recover();
    let theirs = text("theirs").with_version(version(9));
    l2.plant("k", theirs.clone()).await;
    let late = text("late").with_version(version(7));
    assert!(!tiered.write(key("k"), late, newer(7)).await.unwrap().applied);
    assert_eq!(l2.stored("k"), Some(theirs));
    let last = text("last").with_version(version(11));
    assert!(tiered.write(key("k"), last.clone(), newer(11)).await.unwrap().applied);
    assert_eq!(l2.stored("k"), Some(last));
}

#[tokio::test(start_paused = true)]
async fn a_near_layer_that_took_an_older_write_than_the_far_one_has_gives_it_up() {
    let (_, l1, l2, builder) = two();
    let tiered = builder.build();
    let theirs = text("theirs").with_version(version(9));
    l2.plant("k", theirs.clone()).await;
    let mine = text("mine").with_version(version(5));
    assert!(!tiered.write(key("k"), mine, newer(5)).await.unwrap().applied);
    assert_eq!(l1.stored("k").unwrap().data, Bytes::from("mine"));
    settled(&tiered).await;
    assert_eq!(l1.stored("k"), None);
    assert_eq!(data(&tiered, "k").await, Some(Bytes::from("theirs")));
}
