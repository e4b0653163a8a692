//! Removes: both layers at once, whatever the policy.

use std::time::Duration;

use larder::compose::{
    AnyWritePolicy, CompositionError, CompositionLayer, CompositionWritePolicy, Counted,
    LayerOutcome, OptimisticParallelWritePolicy, OtherLayer, Outcome, RaceWritePolicy,
    SequentialWritePolicy, remove_both,
};
use larder_core::DeleteStatus;
use larder_core::DeleteStatus::{Deleted, Missing};
use tokio::time::Instant;

use super::script::{L1_DOWN, L2_DOWN, Layer, Oops, Stage};
use CompositionLayer::{L1, L2};

type Removed = Result<Outcome<Oops, DeleteStatus>, CompositionError<Oops>>;

async fn remove(
    policy: &impl CompositionWritePolicy,
    l1: Result<DeleteStatus, Oops>,
    l2: Result<DeleteStatus, Oops>,
) -> Removed {
    let stage = Stage::new();
    let (l1, l2) = (Layer::now(l1), Layer::now(l2));
    let removed = remove_both(policy, stage.write_request(), &l1, &l2).await;
    assert_eq!((l1.finished(), l2.finished()), (1, 1), "both layers are asked");
    removed
}

fn policies() -> [AnyWritePolicy; 3] {
    [
        SequentialWritePolicy.into(),
        OptimisticParallelWritePolicy.into(),
        RaceWritePolicy::default().into(),
    ]
}

#[tokio::test]
async fn deleted_counts_the_layers_that_had_it() {
    for policy in policies() {
        for (l1, l2, expected) in [
            (Deleted(1), Deleted(1), Deleted(2)),
            (Deleted(1), Missing, Deleted(1)),
            (Missing, Deleted(1), Deleted(1)),
            (Missing, Missing, Missing),
            (Deleted(1), Deleted(2), Deleted(3)),
        ] {
            let outcome = remove(&policy, Ok(l1), Ok(l2)).await.expect("both answer");
            assert!(outcome.is_complete());
            assert_eq!(outcome.deleted(), expected, "{policy:?}: {l1:?},{l2:?}");
        }
    }
}

#[tokio::test]
async fn one_layer_failing_is_named_by_the_outcome_of_the_tolerant_policies() {
    for policy in policies() {
        let l1_fails = remove(&policy, Err(L1_DOWN), Ok(Deleted(1))).await;
        let l2_fails = remove(&policy, Ok(Deleted(1)), Err(L2_DOWN)).await;
        if policy.needs_both() {
            failed_in(L1, l1_fails);
            failed_in(L2, l2_fails);
            continue;
        }
        let outcome = l1_fails.expect("L2 removed it");
        assert_eq!(outcome.l1, LayerOutcome::Failed(L1_DOWN), "{policy:?}");
        assert_eq!(outcome.deleted(), Deleted(1));
        assert_eq!(outcome.owing().collect::<Vec<_>>(), [L1]);
        let outcome = l2_fails.expect("L1 removed it");
        assert_eq!(outcome.l2, LayerOutcome::Failed(L2_DOWN), "{policy:?}");
        assert_eq!(outcome.owing().collect::<Vec<_>>(), [L2]);
    }
}

fn failed_in(layer: CompositionLayer, removed: Removed) {
    match removed {
        Err(CompositionError::Layer { layer: failed, other: OtherLayer::Changed, .. }) => {
            assert_eq!(failed, layer);
        }
        other => panic!("sequential: {other:?}"),
    }
}

#[tokio::test]
async fn both_layers_failing_is_an_error_of_both() {
    for policy in policies() {
        let error = remove(&policy, Err(L1_DOWN), Err(L2_DOWN)).await.expect_err("both are down");
        assert_eq!((error.of(L1), error.of(L2)), (Some(&L1_DOWN), Some(&L2_DOWN)), "{policy:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_remove_waits_for_both_layers_under_every_policy() {
    for policy in policies() {
        let stage = Stage::new();
        let (near, far) = (Layer::in_ms(Ok(Deleted(1)), 10), Layer::in_ms(Ok(Deleted(1)), 30));
        let start = Instant::now();
        let outcome =
            remove_both(&policy, stage.write_request(), &near, &far).await.expect("both answer");
        assert_eq!(start.elapsed(), Duration::from_millis(30), "{policy:?}: at once");
        assert_eq!(outcome.deleted(), Deleted(2));
    }
}

#[tokio::test]
async fn a_durable_remove_needs_a_layer_that_counts() {
    let mut stage = Stage::new();
    stage.counted = Counted::OnlyL2;
    let (near, far) = (Layer::now(Ok(Deleted(1))), Layer::now(Err(L2_DOWN)));
    let removed =
        remove_both(&OptimisticParallelWritePolicy, stage.write_request(), &near, &far).await;
    failed_in(L2, removed);
}
