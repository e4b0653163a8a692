//! Callers that block and write themselves, on the real disk.

#![expect(clippy::disallowed_methods, reason = "silence on the real disk takes real time")]

use std::time::{Duration, Instant};

use larder_log::{Batch, Durability, Log, LogOptions, Outcome, Slot, SubmitError};

fn slot(n: u16) -> Slot {
    Slot { namespace: n, id: [7; 16] }
}

fn put(n: u16, len: usize) -> Batch {
    let mut batch = Batch::new();
    batch.put(slot(n), vec![1; len].into());
    batch
}

fn waits_for(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn lone_caller_has_its_answer_when_the_call_returns() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), LogOptions::default()).unwrap();
    for n in 0..20 {
        let ticket = log.submit_blocking(put(n, 100), Durability::Power, None).unwrap();
        // Somebody else has the seat while the thread looks at its chores.
        assert!(matches!(ticket.wait(None), Some(Outcome::Done { .. })));
        assert_eq!(log.get(slot(n)).unwrap().unwrap().len(), 100);
    }
    log.close().unwrap();
    let error = log.submit_blocking(put(0, 1), Durability::Power, None).unwrap_err();
    assert!(matches!(error, SubmitError::Closed), "{error}");
}

/// The thread sleeps without end when the caller comes, and has to learn that there is a chore now.
#[test]
fn silence_after_a_blocking_store_is_marked() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), LogOptions::default()).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    log.submit_blocking(put(1, 100), Durability::Power, None).unwrap();
    waits_for("no mark followed", || log.stats().syncs >= 2);
    // One that needs no sync at once is synced when its time has come.
    std::thread::sleep(Duration::from_millis(50));
    let syncs = log.stats().syncs;
    log.submit_blocking(put(2, 100), Durability::Process, None).unwrap();
    waits_for("it was not synced", || log.stats().syncs > syncs);
}

#[test]
fn blocking_and_queued_stores_side_by_side_are_all_there_after_opening_again() {
    const EACH: u16 = 200;
    let dir = tempfile::tempdir().unwrap();
    let options = LogOptions { segment_bytes: 256 << 10, ..LogOptions::default() };
    let log = Log::open(dir.path(), options.clone()).unwrap();
    std::thread::scope(|scope| {
        for of in 0..4_u16 {
            let log = &log;
            scope.spawn(move || {
                for n in of * EACH..(of + 1) * EACH {
                    let ticket = if of % 2 == 0 {
                        log.submit_blocking(put(n, 1000), Durability::Power, None).unwrap()
                    } else {
                        log.submit(put(n, 1000), Durability::Power).unwrap()
                    };
                    assert!(matches!(ticket.wait(None), Some(Outcome::Done { .. })));
                }
            });
        }
    });
    log.close().unwrap();
    drop(log);
    let log = Log::open(dir.path(), options).unwrap();
    assert_eq!(log.stats().entries, u64::from(4 * EACH));
}

#[test]
fn wait_for_room_in_the_budget_has_a_limit() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), LogOptions::default()).unwrap();
    // Somebody else has all of it.
    let held = log.admission(u64::MAX);
    let held = futures(held).unwrap();
    let begun = Instant::now();
    let limit = Some(Duration::from_millis(20));
    let error = log.submit_blocking(put(1, 100), Durability::Power, limit).unwrap_err();
    assert!(matches!(error, SubmitError::Full), "{error}");
    assert!(begun.elapsed() >= Duration::from_millis(20));
    drop(held);
    log.submit_blocking(put(1, 100), Durability::Power, limit).unwrap();
}

/// What a future that is ready comes to.
fn futures<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(done) => done,
        std::task::Poll::Pending => panic!("it is not ready"),
    }
}
