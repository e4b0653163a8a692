use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn poll(ticket: &mut Ticket, count: &Arc<Count>) -> Poll<Outcome> {
    let waker = Waker::from(Arc::clone(count));
    Pin::new(ticket).poll(&mut Context::from_waker(&waker))
}

/// Ends a batch, wakes those who wait, and says whether it was published.
fn end(state: &Arc<TicketState>, publish: impl FnOnce() -> u64) -> bool {
    let waiting = state.end(publish);
    let published = waiting.published;
    waiting.wake();
    published
}

#[test]
fn every_clone_is_woken_once_and_sees_the_same_answer() {
    let (mut first, state) = Ticket::new();
    let mut second = first.clone();
    let count = Arc::new(Count::default());
    for _ in 0..3 {
        assert!(poll(&mut first, &count).is_pending());
        assert!(poll(&mut second, &count).is_pending());
    }
    assert!(state.begin());
    assert!(end(&state, || 7));
    assert_eq!(count.0.load(Ordering::SeqCst), 2);
    assert!(matches!(poll(&mut first, &count), Poll::Ready(Outcome::Done { lsn: 7 })));
    assert!(matches!(poll(&mut second, &count), Poll::Ready(Outcome::Done { lsn: 7 })));
}

#[test]
fn dropped_waiters_are_forgotten() {
    let (mut first, state) = Ticket::new();
    let count = Arc::new(Count::default());
    for _ in 0..100 {
        assert!(poll(&mut first.clone(), &count).is_pending());
    }
    assert!(poll(&mut first, &count).is_pending());
    let inner = state.lock();
    assert!(inner.first.is_some() && inner.others.is_empty(), "{:?}", inner.others);
}

#[test]
fn annulled_while_queued_is_never_begun() {
    let (ticket, state) = Ticket::new();
    assert_eq!(ticket.annul(), Annulment::NotWritten);
    assert!(!state.begin());
    assert!(matches!(ticket.wait(None), Some(Outcome::Annulled)));
    assert_eq!(ticket.annul(), Annulment::AlreadyDone);
}

#[test]
fn annulled_in_flight_is_never_published() {
    let (ticket, state) = Ticket::new();
    assert!(state.begin());
    assert_eq!(ticket.annul(), Annulment::Pending);
    assert!(!end(&state, || panic!("published")));
    assert!(matches!(ticket.outcome(), Some(Outcome::Annulled)));
}

#[test]
fn annulled_too_late_changes_nothing() {
    let (ticket, state) = Ticket::new();
    assert!(state.begin() && end(&state, || 1));
    assert_eq!(ticket.annul(), Annulment::AlreadyDone);
    assert!(matches!(ticket.outcome(), Some(Outcome::Done { lsn: 1 })));
}

#[test]
fn waiting_gives_up_at_its_limit() {
    let (ticket, _state) = Ticket::new();
    assert!(ticket.wait(Some(Duration::from_millis(5))).is_none());
}
