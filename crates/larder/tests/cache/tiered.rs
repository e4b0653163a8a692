//! Two tiers as one: nothing of a value is lost on any way through them.

use std::time::Duration;

use bytes::Bytes;
use larder::cache::{MemoryCache, Tiered, TieredBuilder};
use larder::compose::{
    AnyReadPolicy, AnyWritePolicy, LayerOutcome, OnLayerError, ParallelReadPolicy, RaceReadPolicy,
    RefillPolicy, SequentialReadPolicy, SequentialWritePolicy,
};
use larder_core::{
    CacheError, CacheValue, Clock as _, Condition, DeleteStatus, Durability, LayerState,
    ManualClock, SharedTier, Tier,
};

use crate::scripted::{Op, Scripted, data, key, text, version};

/// Stacks of tiers over the same kind of leaves: the top, and the leaves from near to far.
struct Stack {
    top: SharedTier<Bytes>,
    leaves: Vec<Scripted>,
    path_of_last: &'static str,
}

fn leaves<const N: usize>(clock: &ManualClock) -> [Scripted; N] {
    let labels = ["near", "middle", "far"];
    let labels = if N == 2 { [labels[0], labels[2], ""] } else { labels };
    std::array::from_fn(|at| Scripted::new(labels[at], clock))
}

fn two(clock: &ManualClock) -> (Scripted, Scripted, TieredBuilder<Scripted, Scripted>) {
    let [l1, l2] = leaves(clock);
    let builder = Tiered::builder(l1.clone(), l2.clone()).clock(clock.shared()).label("a");
    (l1, l2, builder)
}

/// Two and three tiers, static and behind handles, chosen at compile time and by config.
fn stacks(clock: &ManualClock) -> Vec<Stack> {
    let mut stacks = Vec::new();
    let (l1, l2, builder) = two(clock);
    let top = SharedTier::new(builder.build());
    stacks.push(Stack { top, leaves: vec![l1, l2], path_of_last: "a.far" });

    let [l1, l2, l3] = leaves(clock);
    let inner = Tiered::builder(l2.clone(), l3.clone()).clock(clock.shared()).label("b").build();
    let outer = Tiered::builder(l1.clone(), inner).clock(clock.shared()).label("a").build();
    let top = SharedTier::new(outer);
    stacks.push(Stack { top, leaves: vec![l1, l2, l3], path_of_last: "a.b.far" });

    let [l1, l2, l3] = leaves(clock);
    let config = |l1: SharedTier<Bytes>, l2: SharedTier<Bytes>, label: &str| {
        let read: AnyReadPolicy = "sequential".parse().unwrap();
        let write: AnyWritePolicy = "sequential".parse().unwrap();
        let builder = Tiered::builder(l1, l2).clock(clock.shared()).label(label);
        SharedTier::new(builder.read(read).write(write).build())
    };
    let inner = config(SharedTier::new(l2.clone()), SharedTier::new(l3.clone()), "b");
    let top = config(SharedTier::new(l1.clone()), inner, "a");
    stacks.push(Stack { top, leaves: vec![l1, l2, l3], path_of_last: "a.b.far" });
    stacks
}

/// A value with everything that can get lost.
fn full(clock: &ManualClock) -> CacheValue<Bytes> {
    text("v")
        .with_ttl(clock.now(), Duration::from_nanos(3_000_000_001))
        .with_stale_after(clock.now(), Duration::from_millis(500))
        .with_version(version(7))
}

#[tokio::test]
async fn a_write_reaches_every_tier_with_its_life_and_version() {
    let clock = ManualClock::default();
    for stack in stacks(&clock) {
        stack.top.write(key("k"), full(&clock), Condition::Always).await.unwrap();
        for leaf in &stack.leaves {
            assert_eq!(leaf.stored("k"), Some(full(&clock)), "{leaf:?}");
        }
    }
}

#[tokio::test]
async fn a_hit_in_the_last_tier_fills_every_tier_above_it_with_the_same_life_and_version() {
    let clock = ManualClock::default();
    for stack in stacks(&clock) {
        let value = full(&clock);
        stack.leaves.last().unwrap().plant("k", value.clone()).await;
        let found = stack.top.read(key("k")).await.unwrap().unwrap();
        assert_eq!(found.value, value);
        assert_eq!(stack.top.describe(found.source), stack.path_of_last);
        for leaf in &stack.leaves {
            assert_eq!(leaf.stored("k"), Some(value.clone()), "{leaf:?}");
        }
        let again = stack.top.read(key("k")).await.unwrap().unwrap();
        assert_eq!(stack.top.describe(again.source), "a.near");
    }
}

#[tokio::test]
async fn lives_under_a_second_end_in_every_tier_and_none_clears_the_old_one() {
    let clock = ManualClock::default();
    for stack in stacks(&clock) {
        for (k, life) in [("half", Some(500)), ("one", Some(1)), ("zero", Some(0)), ("none", None)]
        {
            stack.top.write(key(k), full(&clock), Condition::Always).await.unwrap();
            let mut value = text("new");
            value.expire = life.map(|life| clock.now().saturating_add(Duration::from_millis(life)));
            stack.top.write(key(k), value, Condition::Always).await.unwrap();
        }
        for leaf in &stack.leaves {
            assert_eq!(leaf.stored("zero"), None);
            assert!(leaf.stored("one").is_some());
        }
        clock.advance(Duration::from_millis(600));
        for leaf in &stack.leaves {
            assert_eq!(["half", "one"].map(|k| leaf.stored(k)), [None, None]);
            assert_eq!(leaf.stored("none"), Some(text("new")));
        }
        clock.advance(Duration::from_hours(1));
        assert_eq!(stack.top.read(key("none")).await.unwrap().unwrap().value, text("new"));
    }
}

#[tokio::test]
async fn a_near_copy_never_outlives_the_far_one_nor_the_near_maximum() {
    let clock = ManualClock::default();
    for (cap, left) in [(60, 3), (1, 1)] {
        let (l1, l2, builder) = two(&clock);
        let tiered = builder.l1_ttl_max(Duration::from_secs(cap)).build();
        let value = text("v").with_ttl(clock.now(), Duration::from_secs(3));
        l2.plant("refilled", value.clone()).await;
        tiered.read(key("refilled")).await.unwrap();
        tiered.write(key("written"), value.clone(), Condition::Always).await.unwrap();
        let wanted = clock.now().saturating_add(Duration::from_secs(left));
        for k in ["refilled", "written"] {
            assert_eq!(l1.stored(k).unwrap().expire, Some(wanted));
            assert_eq!(l2.stored(k), Some(value.clone()));
        }
    }
    let (l1, _, builder) = two(&clock);
    let tiered = builder.l1_ttl_max(Duration::from_secs(1)).build();
    tiered.write(key("for ever"), text("v"), Condition::Always).await.unwrap();
    assert_eq!(
        l1.stored("for ever").unwrap().expire,
        Some(clock.now().saturating_add(Duration::from_secs(1)))
    );
}

#[tokio::test]
async fn without_refill_only_writes_reach_the_near_layer() {
    let clock = ManualClock::default();
    let (l1, l2, builder) = two(&clock);
    let tiered = builder.refill(RefillPolicy::Never).build();
    l2.plant("k", text("v")).await;
    assert_eq!(data(&tiered, "k").await, Some(Bytes::from("v")));
    assert_eq!(l1.stored("k"), None);
}

#[tokio::test]
async fn a_stale_far_hit_is_served_and_fills_the_near_layer_and_the_refreshed_value_reaches_both() {
    let clock = ManualClock::default();
    let (l1, l2, builder) = two(&clock);
    let tiered = builder.build();
    let stale = full(&clock);
    l2.plant("k", stale.clone()).await;
    clock.advance(Duration::from_secs(1));
    assert_eq!(tiered.read(key("k")).await.unwrap().unwrap().value, stale);
    assert_eq!(l1.stored("k"), Some(stale));
    let fresh = text("fresh").with_version(version(8));
    tiered.write(key("k"), fresh.clone(), Condition::Always).await.unwrap();
    assert_eq!([&l1, &l2].map(|layer| layer.stored("k")), [Some(fresh.clone()), Some(fresh)]);
}

#[tokio::test]
async fn an_expired_or_stale_near_value_does_not_hide_a_fresh_far_one() {
    let clock = ManualClock::default();
    for read in ["sequential", "parallel"] {
        let (l1, l2, builder) = two(&clock);
        let tiered = builder.read(read.parse::<AnyReadPolicy>().unwrap()).build();
        l1.plant("expired", text("old").with_ttl(clock.now(), Duration::from_millis(900))).await;
        l1.plant("stale", text("old").with_stale_after(clock.now(), Duration::from_millis(900)))
            .await;
        clock.advance(Duration::from_secs(1));
        for k in ["expired", "stale"] {
            l2.plant(k, text("new").with_ttl(clock.now(), Duration::from_secs(100))).await;
        }
        assert_eq!(data(&tiered, "expired").await, Some(Bytes::from("new")));
        if read == "sequential" {
            assert_eq!(data(&tiered, "stale").await, Some(Bytes::from("new")));
        }
    }
}

#[tokio::test]
async fn the_newest_write_wins_whatever_lives_longer() {
    let clock = ManualClock::default();
    let (l1, l2, builder) = two(&clock);
    let tiered = builder.read(ParallelReadPolicy).build();
    l1.plant("k", text("old").with_version(version(1))).await;
    let newer =
        text("new").with_version(version(2)).with_ttl(clock.now(), Duration::from_millis(1));
    l2.plant("k", newer.clone()).await;
    assert_eq!(data(&tiered, "k").await, Some(Bytes::from("new")));
    assert_eq!(l1.stored("k"), Some(newer));
}

#[tokio::test]
async fn one_layer_down_means_the_same_under_every_read_policy() {
    let clock = ManualClock::default();
    for read in ["sequential", "race", "parallel"] {
        for meaning in [OnLayerError::Miss, OnLayerError::Fail] {
            for down in [1, 2] {
                let (l1, l2, builder) = two(&clock);
                let builder = builder.on_layer_error(meaning);
                let tiered = builder.read(read.parse::<AnyReadPolicy>().unwrap()).build();
                let (up, down) = if down == 1 { (&l2, &l1) } else { (&l1, &l2) };
                up.plant("held", text("v")).await;
                down.fail(Op::Read);
                let keys = [key("held"), key("absent")];
                let held = tiered.read(keys[0]).await.unwrap();
                assert_eq!(held.map(|found| found.value.data), Some(Bytes::from("v")));
                let (absent, both) = (tiered.read(keys[1]).await, tiered.read_many(&keys).await);
                match meaning {
                    OnLayerError::Miss => {
                        assert_eq!(absent.unwrap(), None);
                        let found: Vec<_> = both.unwrap().iter().map(Option::is_some).collect();
                        assert_eq!(found, [true, false]);
                    }
                    OnLayerError::Fail => assert!(absent.is_err() && both.is_err()),
                }
                up.fail(Op::Read);
                let error = tiered.read(keys[1]).await.unwrap_err();
                let chain = larder_core::error::chain(&error);
                assert_eq!(chain.matches("it is down").count(), 2, "{chain}");
                assert!(tiered.read_many(&keys).await.is_err());
            }
        }
    }
}

#[tokio::test]
async fn a_refill_that_fails_leaves_the_answer_alone() {
    let clock = ManualClock::default();
    let (l1, l2, builder) = two(&clock);
    let tiered = builder.build();
    l2.plant("k", text("v")).await;
    l1.fail(Op::Write);
    assert_eq!(data(&tiered, "k").await, Some(Bytes::from("v")));
}

#[tokio::test]
async fn many_reads_ask_the_far_layer_once_for_what_the_near_one_lacks() {
    let clock = ManualClock::default();
    let (l1, l2, builder) = two(&clock);
    let tiered = builder.build();
    for k in ["a", "c"] {
        l2.plant(k, text("far")).await;
    }
    l1.plant("b", text("near")).await;
    let keys = ["a", "b", "c", "d"].map(key);
    let payloads = async || {
        let found = tiered.read_many(&keys).await.unwrap();
        found.into_iter().map(|found| found.map(|found| found.value.data)).collect::<Vec<_>>()
    };
    let wanted = [Some("far"), Some("near"), Some("far"), None].map(|text| text.map(Bytes::from));
    assert_eq!(payloads().await, wanted);
    assert_eq!((l1.reads(), l2.reads()), (1, 1));
    assert!(l1.stored("a").is_some() && l1.stored("c").is_some());
    let found = tiered.read_many(&keys[..3]).await.unwrap();
    assert!(found.iter().flatten().all(|found| tiered.describe(found.source) == "a.near"));
    assert_eq!(l2.reads(), 1);
}

#[tokio::test]
async fn many_reads_leave_a_stale_near_value_to_the_policy() {
    let clock = ManualClock::default();
    let (l1, l2, builder) = two(&clock);
    let tiered = builder.read(SequentialReadPolicy).build();
    l1.plant("k", text("old").with_stale_after(clock.now(), Duration::ZERO)).await;
    l2.plant("k", text("new")).await;
    let found = tiered.read_many(&[key("k")]).await.unwrap();
    assert_eq!(found[0].as_ref().unwrap().value.data, Bytes::from("new"));
}

#[tokio::test]
async fn a_stale_near_value_answers_for_a_far_layer_that_is_down() {
    let clock = ManualClock::default();
    for meaning in [OnLayerError::Miss, OnLayerError::Fail] {
        let (l1, l2, builder) = two(&clock);
        let tiered = builder.on_layer_error(meaning).build();
        l1.plant("k", text("stale").with_stale_after(clock.now(), Duration::ZERO)).await;
        l2.fail(Op::Read);
        let found = tiered.read_many(&[key("k")]).await.unwrap();
        assert_eq!(found[0].as_ref().unwrap().value.data, Bytes::from("stale"));
        assert_eq!(data(&tiered, "k").await, Some(Bytes::from("stale")));
    }
}

#[tokio::test]
async fn the_outcome_of_a_write_names_the_layer_that_failed() {
    let clock = ManualClock::default();
    let (l1, l2, builder) = two(&clock);
    let tiered = builder.build();
    let put = async || tiered.write(key("k"), text("v"), Condition::Always).await;
    assert_eq!(put().await.unwrap().layers, Some([LayerState::Done, LayerState::Done]));
    l2.fail(Op::Write);
    assert_eq!(put().await.unwrap().layers, Some([LayerState::Done, LayerState::Failed]));
    l1.fail(Op::Write);
    let error = put().await.unwrap_err();
    assert_eq!(larder_core::error::chain(&error).matches("it is down").count(), 2);
}

#[tokio::test]
async fn a_remove_counts_the_layers_and_names_the_one_that_failed() {
    let clock = ManualClock::default();
    let (l1, l2, builder) = two(&clock);
    let tiered = builder.build();
    let remove = async || tiered.remove(key("k"), Condition::Always).await.unwrap();
    assert_eq!(remove().await, DeleteStatus::Missing);
    l2.plant("k", text("v")).await;
    assert_eq!(remove().await, DeleteStatus::Deleted(1));
    tiered.write(key("k"), text("v"), Condition::Always).await.unwrap();
    assert_eq!(remove().await, DeleteStatus::Deleted(2));
    l2.fail(Op::Remove);
    l1.plant("k", text("v")).await;
    let outcome = tiered.remove_outcome::<Bytes>(key("k"), Condition::Always).await.unwrap();
    assert!(matches!(outcome.l2, LayerOutcome::Failed(_)));
    assert_eq!(outcome.deleted(), DeleteStatus::Deleted(1));

    let (_, l2, builder) = two(&clock);
    let strict = builder.write(SequentialWritePolicy).build();
    l2.fail(Op::Remove);
    assert!(strict.remove(key("k"), Condition::Always).await.is_err());
}

#[tokio::test]
async fn a_condition_that_a_layer_cannot_decide_is_refused_before_anything_is_written() {
    let clock = ManualClock::default();
    let [l1, l2] = leaves(&clock);
    let tiered = Tiered::builder(l1.clone(), l2.without_conditions()).build();
    for condition in [Condition::IfNewerThan(version(1)), Condition::IfVersionIs(None)] {
        let error = tiered.write(key("k"), text("v"), condition).await.unwrap_err();
        assert!(matches!(error, CacheError::ConditionUnsupported));
        assert!(tiered.remove(key("k"), condition).await.is_err());
    }
    assert_eq!(l1.writes(), 0);
}

#[tokio::test]
async fn a_newer_far_value_wins_against_a_conditional_write_that_the_near_layer_took() {
    let clock = ManualClock::default();
    let (l1, l2, builder) = two(&clock);
    let tiered = builder.build();
    l2.plant("k", text("newer").with_version(version(9))).await;
    let value = text("older").with_version(version(5));
    let status = tiered.write(key("k"), value, Condition::IfNewerThan(version(5))).await.unwrap();
    assert!(!status.applied);
    assert_eq!(data(&tiered, "k").await, Some(Bytes::from("newer")));
    assert_eq!(l1.stored("k").unwrap().data, Bytes::from("newer"), "and the near layer is filled");
}

#[tokio::test]
async fn durability_follows_the_write_policy() {
    let clock = ManualClock::default();
    let layers = || {
        let [l1, l2] = leaves(&clock);
        Tiered::builder(l1, l2.surviving(Durability::Machine))
    };

    let tolerant = layers().build();
    assert_eq!(Tier::<Bytes>::durability(&tolerant), Durability::Process);
    let strict = layers().write(SequentialWritePolicy).build();
    assert_eq!(Tier::<Bytes>::durability(&strict), Durability::Machine);
}

#[tokio::test]
async fn the_usage_is_that_of_both_layers() {
    let near: MemoryCache<Bytes> = MemoryCache::builder(1 << 20).build();
    let far: MemoryCache<Bytes> = MemoryCache::builder(2 << 20).build();
    let tiered = Tiered::builder(near, far).build();
    tiered.write(key("k"), text("v"), Condition::Always).await.unwrap();
    let usage = Tier::<Bytes>::usage(&tiered).unwrap();
    assert_eq!((usage.entries, usage.capacity), (1, Some(3 << 20)));
    tiered.clear().await.unwrap();
    assert_eq!(Tier::<Bytes>::usage(&tiered).unwrap().entries, 0);
    assert_eq!(data(&tiered, "k").await, None);
}

#[tokio::test]
async fn a_value_that_no_layer_takes_is_too_large_and_the_old_one_stays() {
    let layer = || MemoryCache::<Bytes>::builder(1 << 20).build();
    let tiered = Tiered::builder(layer(), layer()).build();
    tiered.write(key("k"), text("small"), Condition::Always).await.unwrap();
    let large = CacheValue::new(Bytes::from(vec![0; 2 << 20]));
    let error = tiered.write(key("k"), large, Condition::Always).await.unwrap_err();
    assert!(matches!(error, CacheError::TooLarge { .. }));
    assert_eq!(data(&tiered, "k").await, Some(Bytes::from("small")));
}

#[tokio::test]
async fn a_near_hit_in_memory_never_asks_the_far_layer_under_race() {
    let clock = ManualClock::default();
    let [_, l2] = leaves(&clock);
    let near: MemoryCache<Bytes> = MemoryCache::builder(1 << 20).build();
    let tiered = Tiered::builder(near, l2.clone()).read(RaceReadPolicy::default()).build();
    tiered.write(key("k"), text("v"), Condition::Always).await.unwrap();
    for _ in 0..100 {
        assert!(data(&tiered, "k").await.is_some());
    }
    assert_eq!(l2.reads(), 0);
}
