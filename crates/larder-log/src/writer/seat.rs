//! Who steps the committer: its own thread, or a caller that would only wait for that thread.

use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::{self, ThreadId};

use super::{Committer, IDLE_BEFORE_MARK, Next};
use crate::clock;
use crate::compact::Brake;
use crate::shared::Shared;
use crate::ticket::Ticket;

/// The one committer of a log with threads. Whoever holds the seat steps it.
///
/// A thread that hands a batch over and waits for another one to write it pays for two switches of
/// threads, a third of what the disk takes. So a caller that blocks anyway takes the seat while it is
/// free.
#[derive(Debug)]
pub(crate) struct Seat {
    /// Taken out when the log has ended, or when a step has panicked: its end fails what waits.
    committer: Mutex<Option<(Committer, Brake)>>,
    /// The caller that has the seat: it must not wait for the committer.
    holder: Mutex<Option<ThreadId>>,
}

impl Seat {
    pub(crate) fn new(committer: Committer) -> Self {
        let committer = Mutex::new(Some((committer, Brake::default())));
        Self { committer, holder: Mutex::new(None) }
    }

    /// Steps the committer until the log is shut down: what its own thread does.
    pub(crate) fn run(&self, shared: &Shared) {
        let _end = Vacate(self);
        loop {
            let next = {
                let Ok(mut seat) = self.committer.lock() else { return };
                let Some((committer, brake)) = &mut *seat else { return };
                brake.wait(shared);
                committer.step(clock::now())
            };
            match next {
                Next::Again => {}
                Next::Wait(limit) => shared.wait_for_items(limit),
                Next::Closed => return,
            }
        }
    }

    /// Takes the seat for this thread; `None` while somebody else steps the committer, and when it
    /// has ended.
    pub(crate) fn take(&self) -> Option<Taken<'_>> {
        let committer = match self.committer.try_lock() {
            Ok(committer) if committer.is_some() => committer,
            Ok(_) | Err(TryLockError::WouldBlock | TryLockError::Poisoned(_)) => return None,
        };
        *self.lock_holder() = Some(thread::current().id());
        Some(Taken { seat: self, committer })
    }

    /// Whether this thread has the seat, as a waker that it runs may find out.
    pub(crate) fn is_mine(&self) -> bool {
        *self.lock_holder() == Some(thread::current().id())
    }

    fn lock_holder(&self) -> MutexGuard<'_, Option<ThreadId>> {
        self.holder.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The seat, while a caller has it.
#[derive(Debug)]
pub(crate) struct Taken<'a> {
    seat: &'a Seat,
    committer: MutexGuard<'a, Option<(Committer, Brake)>>,
}

impl Taken<'_> {
    /// Steps the committer until it has answered what was queued since the seat was taken.
    pub(crate) fn commit(mut self, shared: &Shared, ticket: &Ticket) {
        if let Some((committer, brake)) = &mut *self.committer {
            brake.wait(shared);
            // What was queued before goes first.
            while ticket.outcome().is_none() && committer.step(clock::now()) == Next::Again {}
        }
        drop(self);
        // The mark that follows on silence is a matter for the thread.
        shared.wake_committer_by(clock::now().saturating_add(IDLE_BEFORE_MARK));
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *self.seat.lock_holder() = None;
    }
}

/// Ends the committer with its thread, in whatever way that ends.
struct Vacate<'a>(&'a Seat);

impl Drop for Vacate<'_> {
    fn drop(&mut self) {
        let committer = self.0.committer.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(committer);
    }
}

#[cfg(test)]
mod tests;
