//! A policy that is dropped half-way leaves nothing behind.

use std::time::Duration;

use larder::compose::{
    CompositionReadPolicy, CompositionWritePolicy, OptimisticParallelWritePolicy,
    ParallelReadPolicy, RaceLoserPolicy, RaceReadPolicy, RaceWritePolicy, SequentialReadPolicy,
    SequentialWritePolicy,
};
use tokio::time::timeout;

use super::script::{Layer, Stage};

const HALF_WAY: Duration = Duration::from_millis(5);

async fn cancelled_read(policy: impl CompositionReadPolicy) {
    let stage = Stage::new();
    let near = Layer::in_ms(Ok(None), 10);
    let far = Layer::in_ms(Ok(Some(stage.fresh("far"))), 20);
    let cancelled = timeout(HALF_WAY, stage.read(&policy, &near, &far)).await;
    assert!(cancelled.is_err(), "{policy:?}");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((near.finished(), far.finished()), (0, 0), "{policy:?}: nothing goes on");
    assert_eq!(near.cut_off() + far.cut_off(), near.polled() + far.polled(), "{policy:?}");
    assert_eq!(stage.offload.stats().started, 0, "{policy:?}");

    // The next call of the same key is as good as ever.
    let read = stage.read(&policy, &near, &far).await.expect("L2 hits");
    assert_eq!(read.value.map(|value| value.data), Some("far"), "{policy:?}");
}

async fn cancelled_write(policy: impl CompositionWritePolicy) {
    let stage = Stage::new();
    let (near, far) = (Layer::in_ms(Ok(()), 10), Layer::in_ms(Ok(()), 20));
    let cancelled = timeout(HALF_WAY, stage.write(&policy, &near, &far)).await;
    assert!(cancelled.is_err(), "{policy:?}");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((near.finished(), far.finished()), (0, 0), "{policy:?}: nothing goes on");
    assert_eq!(near.cut_off() + far.cut_off(), near.polled() + far.polled(), "{policy:?}");
    assert_eq!(stage.offload.stats().started, 0, "{policy:?}");

    assert!(stage.write(&policy, &near, &far).await.is_ok(), "{policy:?}");
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_read_leaves_nothing_behind() {
    cancelled_read(SequentialReadPolicy).await;
    cancelled_read(ParallelReadPolicy).await;
    cancelled_read(RaceReadPolicy { loser: RaceLoserPolicy::Offload }).await;
    cancelled_read(RaceReadPolicy { loser: RaceLoserPolicy::Drop }).await;
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_write_leaves_nothing_behind() {
    cancelled_write(SequentialWritePolicy).await;
    cancelled_write(OptimisticParallelWritePolicy).await;
    cancelled_write(RaceWritePolicy { loser: RaceLoserPolicy::Offload }).await;
    cancelled_write(RaceWritePolicy { loser: RaceLoserPolicy::Drop }).await;
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_is_never_polled_does_nothing() {
    let stage = Stage::new();
    let (near, far) = (Layer::now(Ok(())), Layer::now(Ok(())));
    drop(stage.write(&RaceWritePolicy::default(), &near, &far));
    assert_eq!((near.polled(), far.polled()), (0, 0));
}
