//! What is special about races: who is polled, and what becomes of the loser.

use std::time::Duration;

use larder::compose::{
    CompositionLayer, DisabledOffload, LayerOutcome, OptimisticParallelWritePolicy, Outcome,
    RaceLoserPolicy, RaceReadPolicy, RaceWritePolicy,
};
use larder::compose::{CompositionWritePolicy as _, Observer, WriteRequest};

use super::script::{L2_DOWN, Layer, Oops, Stage};
use CompositionLayer::{L1, L2};

const DONE: LayerOutcome<Oops> = LayerOutcome::Done(());

#[tokio::test(start_paused = true)]
async fn a_race_write_polls_both_layers_before_it_returns() {
    for loser in [RaceLoserPolicy::Offload, RaceLoserPolicy::Drop] {
        let stage = Stage::new();
        let (near, far) = (Layer::now(Ok(())), Layer::in_ms(Ok(()), 10));
        let policy = RaceWritePolicy { loser };
        let wrote = stage.write(&policy, &near, &far).await;
        // No await since: what was polled was polled by the policy.
        assert_eq!((near.polled(), far.polled()), (1, 1), "{loser:?}");
        assert!(wrote.is_ok());
    }
}

#[tokio::test]
async fn a_race_write_of_two_layers_in_memory_reaches_both() {
    for loser in [RaceLoserPolicy::Offload, RaceLoserPolicy::Drop] {
        let stage = Stage::refusing();
        let (near, far) = (Layer::now(Ok(())), Layer::now(Ok(())));
        let outcome = stage.write(&RaceWritePolicy { loser }, &near, &far).await.expect("both");
        assert_eq!(outcome, Outcome { l1: DONE, l2: DONE });
        assert_eq!(far.finished(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_background_call_is_not_tried() {
    let (near, far) = (Layer::now(Ok(())), Layer::in_ms(Ok(()), 10));
    let expected = Outcome { l1: DONE, l2: LayerOutcome::NotTried };

    let full = Stage::refusing();
    let outcome = full.write(&RaceWritePolicy::default(), &near, &far).await.expect("L1 has it");
    assert_eq!(outcome, expected);

    let draining = Stage::new();
    let _ = draining.offload.drain(Duration::ZERO).await;
    let outcome = draining.write(&RaceWritePolicy::default(), &near, &far).await.expect("L1");
    assert_eq!(outcome, expected);

    let request = WriteRequest {
        key: "key",
        counted: larder::compose::Counted::Both,
        offload: &DisabledOffload::new(),
        observer: &Observer::new("disabled"),
    };
    let outcome = RaceWritePolicy::default().execute_with(request, &near, &far).await.expect("L1");
    assert_eq!(outcome, expected);

    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((far.finished(), far.cut_off()), (0, 3), "nothing goes on in secret");
}

#[tokio::test(start_paused = true)]
async fn a_loser_that_fails_later_does_not_change_the_answer() {
    let stage = Stage::new();
    let (near, far) = (Layer::now(Ok(())), Layer::in_ms(Err(L2_DOWN), 10));
    let outcome = stage.write(&RaceWritePolicy::default(), &near, &far).await.expect("L1 has it");
    assert_eq!(outcome, Outcome { l1: DONE, l2: LayerOutcome::Background });
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(far.finished(), 1);
    assert_eq!(outcome.of(L2), &LayerOutcome::Background);
    assert_eq!(outcome.of(L1), &DONE);
}

#[tokio::test]
async fn a_hit_at_hand_costs_the_other_layer_nothing() {
    for loser in [RaceLoserPolicy::Offload, RaceLoserPolicy::Drop] {
        let stage = Stage::new();
        let near = Layer::now(Ok(Some(stage.fresh("near"))));
        let far = Layer::now(Ok(Some(stage.fresh("far"))));
        for _ in 0..100 {
            stage.read(&RaceReadPolicy { loser }, &near, &far).await.expect("L1 hits");
        }
        tokio::task::yield_now().await;
        assert_eq!((near.polled(), far.polled()), (100, 0), "{loser:?}");
        assert_eq!(stage.offload.stats().started, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn the_losers_of_reads_of_one_key_run_one_at_a_time() {
    let stage = Stage::new();
    let near = Layer::in_ms(Ok(Some(stage.fresh("near"))), 1);
    let far = Layer::in_ms(Ok(Some(stage.fresh("far"))), 60_000 / 4);
    for _ in 0..5 {
        stage.read(&RaceReadPolicy::default(), &near, &far).await.expect("L1 hits");
    }
    let stats = stage.offload.stats();
    assert_eq!((stats.started, stats.deduplicated, stats.active), (1, 4, 1));
    assert_eq!(far.cut_off(), 4);
}

#[tokio::test(start_paused = true)]
async fn the_losers_of_two_compositions_with_one_offload_do_not_hide_each_other() {
    let one = Stage::new();
    let mut other = Stage::new();
    other.offload = one.offload.clone();
    let near = Layer::in_ms(Ok(Some(one.fresh("near"))), 1);
    let far = Layer::in_ms(Ok(Some(one.fresh("far"))), 100);
    one.read(&RaceReadPolicy::default(), &near, &far).await.expect("L1 hits");
    other.read(&RaceReadPolicy::default(), &near, &far).await.expect("L1 hits");
    assert_eq!(one.offload.stats().active, 2);
}

#[tokio::test(start_paused = true)]
async fn the_losers_of_writes_of_one_key_all_run() {
    let stage = Stage::new();
    let (near, far) = (Layer::now(Ok(())), Layer::in_ms(Ok(()), 100));
    for _ in 0..5 {
        let outcome = stage.write(&RaceWritePolicy::default(), &near, &far).await.expect("L1");
        assert_eq!(outcome.l2, LayerOutcome::Background);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((far.finished(), far.cut_off()), (5, 0), "each carries a value of its own");
}

#[tokio::test(start_paused = true)]
async fn a_background_loser_is_not_the_optimistic_policys_business() {
    let stage = Stage::new();
    let (near, far) = (Layer::now(Ok(())), Layer::in_ms(Ok(()), 10));
    let outcome = stage.write(&OptimisticParallelWritePolicy, &near, &far).await.expect("both");
    assert!(outcome.is_complete());
    assert_eq!(stage.offload.stats().started, 0);
}
