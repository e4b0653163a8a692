//! A stale value in L1: who is asked, and whose value is returned.

use std::time::Duration;

use larder::compose::{
    CompositionLayer, CompositionReadPolicy, Degraded, OnLayerError, ParallelReadPolicy,
    RaceReadPolicy, SequentialReadPolicy,
};

use super::script::{L2_DOWN, Layer, Stage, Value, version};
use CompositionLayer::{L1, L2};

/// Reads through two layers that answer at once; gives the value, its source and L2's polls.
async fn read(
    stage: &Stage,
    policy: &impl CompositionReadPolicy,
    l1: Value,
    l2: Option<Value>,
) -> (&'static str, CompositionLayer, usize) {
    let (l1, l2) = (Layer::now(Ok(Some(l1))), Layer::now(Ok(l2)));
    let read = stage.read(policy, &l1, &l2).await.expect("both layers answer");
    assert_eq!(read.degraded, None);
    (read.value.expect("L1 hits").data, read.source, l2.polled())
}

async fn sequential(stage: &Stage, l1: Value, l2: Option<Value>) -> CompositionLayer {
    let (data, source, l2_polled) = read(stage, &SequentialReadPolicy, l1, l2).await;
    assert_eq!(l2_polled, 1, "L2 is asked when L1's value is stale");
    assert_eq!(data, if source == L1 { "near" } else { "far" });
    source
}

#[tokio::test]
async fn a_stale_l1_gives_way_to_a_fresh_l2() {
    let stage = Stage::new();
    assert_eq!(sequential(&stage, stage.stale("near"), Some(stage.fresh("far"))).await, L2);
}

#[tokio::test]
async fn a_stale_l1_stays_when_l2_is_stale_misses_or_has_expired() {
    let stage = Stage::new();
    for l2 in [Some(stage.stale("far")), None, Some(stage.expired("far"))] {
        assert_eq!(sequential(&stage, stage.stale("near"), l2.clone()).await, L1, "{l2:?}");
    }
}

#[tokio::test]
async fn a_stale_l1_is_returned_degraded_when_l2_fails() {
    for on_layer_error in [OnLayerError::Miss, OnLayerError::Fail] {
        let stage = Stage::failing(on_layer_error);
        let l1 = Layer::now(Ok(Some(stage.stale("near"))));
        let l2 = Layer::now(Err(L2_DOWN));
        let read = stage.read(&SequentialReadPolicy, &l1, &l2).await.expect("a stale value");
        assert_eq!(read.value.map(|value| value.data), Some("near"));
        assert_eq!(read.source, L1);
        assert_eq!(read.degraded, Some(Degraded { layer: L2, error: L2_DOWN }));
    }
}

#[tokio::test]
async fn the_newer_write_wins_whether_stale_or_not() {
    let stage = Stage::new();
    let near = |reading| stage.stale("near").with_version(version(reading));
    let fresh = |reading| stage.fresh("far").with_version(version(reading));
    let due = |reading| stage.stale("far").with_version(version(reading));
    assert_eq!(sequential(&stage, near(2), Some(fresh(1))).await, L1, "never back in time");
    assert_eq!(sequential(&stage, near(1), Some(due(2))).await, L2, "a newer write");
    assert_eq!(sequential(&stage, near(1), Some(fresh(2))).await, L2);
    assert_eq!(sequential(&stage, near(1), Some(fresh(1))).await, L2, "the same, refreshed");
    assert_eq!(sequential(&stage, near(1), Some(due(1))).await, L1);
}

#[tokio::test]
async fn a_stale_hit_wins_a_race() {
    let stage = Stage::new();
    let (data, source, l2_polled) =
        read(&stage, &RaceReadPolicy::default(), stage.stale("near"), Some(stage.fresh("far")))
            .await;
    assert_eq!((data, source, l2_polled), ("near", L1, 0));
}

#[tokio::test]
async fn parallel_compares_lives_and_not_staleness() {
    let stage = Stage::new();
    let longer = stage.stale("near").with_ttl(stage.now(), Duration::from_secs(200));
    let (_, source, _) = read(&stage, &ParallelReadPolicy, longer, Some(stage.fresh("far"))).await;
    assert_eq!(source, L1);
}

#[tokio::test(start_paused = true)]
async fn a_value_that_expires_while_the_other_layer_answers_is_no_hit() {
    let stage = Stage::new();
    let short = stage.fresh("near").with_ttl(stage.now(), Duration::from_millis(5));
    let (l1, l2) = (Layer::now(Ok(Some(short))), Layer::in_ms(Ok(None), 10));
    let reading = stage.read(&ParallelReadPolicy, &l1, &l2);
    let passing = async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        stage.clock.advance(Duration::from_millis(5));
    };
    let (read, ()) = tokio::join!(reading, passing);
    assert_eq!(read.expect("a miss").value, None);
}

#[test]
fn only_some_hits_at_hand_decide() {
    let decides = |policy: &dyn Fn(bool) -> bool| (policy(false), policy(true));
    assert_eq!(decides(&|stale| SequentialReadPolicy.l1_hit_decides(stale)), (true, false));
    assert_eq!(decides(&|stale| RaceReadPolicy::default().l1_hit_decides(stale)), (true, true));
    assert_eq!(decides(&|stale| ParallelReadPolicy.l1_hit_decides(stale)), (false, false));
}
