//! One test only: a second one would be counted as well.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use larder::compose::{
    AnyReadPolicy, AnyWritePolicy, BoundedOffload, Calls, CompositionReadPolicy,
    CompositionWritePolicy, Counted, Observer, OnLayerError, OptimisticParallelWritePolicy,
    ParallelReadPolicy, RaceLoserPolicy, RaceReadPolicy, RaceWritePolicy, ReadRequest,
    SequentialReadPolicy, SequentialWritePolicy, WriteRequest, remove_both,
};
use larder_core::{CacheError, CacheValue, DeleteStatus, ManualClock, Version};

use super::ALLOCATIONS;

/// Runs a future to its end without a runtime.
fn drive<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
}

/// Waits once, without a runtime.
async fn once() {
    let mut waited = false;
    std::future::poll_fn(|_| {
        if std::mem::replace(&mut waited, true) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

fn allocations(run: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.load(Ordering::SeqCst);
    run();
    ALLOCATIONS.load(Ordering::SeqCst) - before
}

type Value = CacheValue<u64>;

struct Stage {
    clock: ManualClock,
    offload: BoundedOffload,
    observer: Observer,
}

impl Stage {
    fn read(&self, policy: &impl CompositionReadPolicy, l1: Option<&Value>, l2: Option<&Value>) {
        let request = ReadRequest {
            key: "key",
            clock: &self.clock,
            on_layer_error: OnLayerError::Miss,
            offload: &self.offload,
            observer: &self.observer,
        };
        let answer = |value: Option<&Value>| {
            let value = value.cloned();
            async move {
                once().await;
                Ok::<_, CacheError>(value)
            }
        };
        let near = Calls(|| answer(l1), || answer(l1));
        let far = Calls(|| answer(l2), || answer(l2));
        let read = drive(policy.execute_with(request, near, far));
        assert!(read.is_ok_and(|read| read.value.is_some()));
    }

    fn write_request(&self) -> WriteRequest<'_, str, BoundedOffload> {
        WriteRequest {
            key: "key",
            counted: Counted::Both,
            offload: &self.offload,
            observer: &self.observer,
        }
    }

    fn write(&self, policy: &impl CompositionWritePolicy) {
        let answer = || async {
            once().await;
            Ok::<_, CacheError>(())
        };
        let (near, far) = (Calls(answer, answer), Calls(answer, answer));
        let outcome = drive(policy.execute_with(self.write_request(), near, far));
        assert!(outcome.is_ok_and(|outcome| outcome.is_complete()));
    }

    fn remove(&self) {
        let answer = || async {
            once().await;
            Ok::<_, CacheError>(DeleteStatus::Deleted(1))
        };
        let (near, far) = (Calls(answer, answer), Calls(answer, answer));
        let removed = remove_both(&SequentialWritePolicy, self.write_request(), near, far);
        assert!(drive(removed).is_ok_and(|outcome| outcome.deleted().count() == 2));
    }
}

#[test]
fn the_static_path_allocates_nothing() {
    let stage = Stage {
        clock: ManualClock::default(),
        offload: BoundedOffload::default(),
        observer: Observer::new("stage"),
    };
    let value = |version| CacheValue::new(7).with_version(Version::from_parts(version, 1));
    let (old, new) = (&value(1), &value(2));
    let due = &CacheValue { stale: Some(larder_core::Timestamp::EPOCH), ..value(1) };

    let pairs = [
        (Some(old), Some(new)),
        (Some(new), Some(old)),
        (None, Some(new)),
        (Some(old), None),
        (Some(due), Some(new)),
    ];
    for (l1, l2) in pairs {
        assert_eq!(allocations(|| stage.read(&SequentialReadPolicy, l1, l2)), 0);
        assert_eq!(allocations(|| stage.read(&ParallelReadPolicy, l1, l2)), 0);
        assert_eq!(allocations(|| stage.read(&AnyReadPolicy::default(), l1, l2)), 0);
        let race = RaceReadPolicy { loser: RaceLoserPolicy::Drop };
        assert_eq!(allocations(|| stage.read(&race, l1, l2)), 0);
        let offloads = RaceReadPolicy { loser: RaceLoserPolicy::Offload };
        let counted = allocations(|| stage.read(&offloads, l1, l2));
        assert!(counted > 0, "the counter counts");
    }
    assert_eq!(allocations(|| stage.write(&SequentialWritePolicy)), 0);
    assert_eq!(allocations(|| stage.write(&OptimisticParallelWritePolicy)), 0);
    assert_eq!(allocations(|| stage.write(&AnyWritePolicy::default())), 0);
    assert_eq!(allocations(|| stage.write(&RaceWritePolicy { loser: RaceLoserPolicy::Drop })), 0);
    assert_eq!(allocations(|| stage.remove()), 0);
}
