use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

use super::*;
use crate::sim::SimDisk;
use crate::{Batch, Durability, Log, LogOptions, Outcome, Slot};

fn batch(n: u8) -> Batch {
    let mut batch = Batch::new();
    batch.put(Slot { namespace: 1, id: [n; 16] }, "payload".into());
    batch
}

fn seat() -> (Log, Seat) {
    let disk = Arc::new(SimDisk::new(1));
    let (log, committer) =
        Log::open_stepped(disk, Path::new("/log"), LogOptions::default()).unwrap();
    (log, Seat::new(committer))
}

#[test]
fn caller_answers_what_was_queued_before_and_its_own() {
    let (log, seat) = seat();
    let before = log.submit(batch(1), Durability::Process).unwrap();
    let taken = seat.take().expect("the seat is free");
    let ticket = log.submit(batch(2), Durability::Power).unwrap();
    taken.commit(log.shared(), &ticket);
    for ticket in [before, ticket] {
        assert!(matches!(ticket.outcome(), Some(Outcome::Done { .. })));
    }
    assert_eq!(log.stats().groups, 1);
}

#[test]
fn taken_seat_is_not_waited_for() {
    let (log, seat) = seat();
    let outer = seat.take().expect("the seat is free");
    assert!(seat.take().is_none(), "two at once");
    let ticket = log.submit(batch(2), Durability::Power).unwrap();
    outer.commit(log.shared(), &ticket);
    assert!(matches!(ticket.outcome(), Some(Outcome::Done { .. })));
    assert_eq!(log.stats().entries, 1);
    assert!(seat.take().is_some(), "it is given back");
}

/// A waker may close the log. On the thread that has the seat it must not wait for that.
#[test]
fn waker_can_tell_that_its_thread_has_the_seat() {
    struct Looks(Arc<Seat>, AtomicBool);
    impl Wake for Looks {
        fn wake(self: Arc<Self>) {
            self.1.store(self.0.is_mine(), Ordering::SeqCst);
        }
    }
    let (log, seat) = seat();
    let looks = Arc::new(Looks(Arc::new(seat), AtomicBool::new(false)));
    let waker = Waker::from(Arc::clone(&looks));
    let mut other = pin!(log.submit(batch(1), Durability::Power).unwrap());
    assert!(other.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    assert!(!looks.0.is_mine());
    let taken = looks.0.take().expect("the seat is free");
    let ticket = log.submit(batch(2), Durability::Power).unwrap();
    taken.commit(log.shared(), &ticket);
    assert!(matches!(ticket.outcome(), Some(Outcome::Done { .. })));
    assert!(looks.1.load(Ordering::SeqCst), "it ran on this thread");
    assert!(!looks.0.is_mine());
}
