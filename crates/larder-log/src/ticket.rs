//! The answer to a batch, which comes later.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::WriteError;
use crate::clock;

/// How a batch ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It is applied, visible, and as durable as was asked for.
    Done {
        /// The position of its last record; for a batch that wrote nothing, of what came before.
        lsn: u64,
    },
    /// It failed; [`WriteError::effect`] says whether it may be there after the next open.
    Failed(Arc<WriteError>),
    /// It was given up with [`Ticket::annul`] and is not visible.
    Annulled,
}

impl Outcome {
    /// The position, for callers who never annul.
    ///
    /// # Errors
    /// The failure; `Annulled` comes as [`WriteError::Closed`].
    pub fn into_result(self) -> Result<u64, Arc<WriteError>> {
        match self {
            Self::Done { lsn } => Ok(lsn),
            Self::Failed(error) => Err(error),
            Self::Annulled => Err(Arc::new(WriteError::Closed)),
        }
    }
}

/// What giving up a batch achieved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Annulment {
    /// It was still queued: it is never written.
    NotWritten,
    /// It is being written or synced: this process never shows it. A record that cancels it
    /// follows; once that is durable (after the next sync) no later open shows it either.
    Pending,
    /// It had ended before.
    AlreadyDone,
}

/// The pending answer to a batch: a future, and something a thread can wait on.
///
/// Clones wait for the same answer. Dropping a ticket changes nothing: the batch goes its way.
#[derive(Debug)]
pub struct Ticket {
    state: Arc<TicketState>,
    key: u64,
}

impl Ticket {
    pub(crate) fn new() -> (Self, Arc<TicketState>) {
        let state = Arc::new(TicketState {
            inner: Mutex::new(Inner {
                phase: Phase::Queued,
                first: None,
                others: Vec::new(),
                next_key: 1,
                blocked: 0,
            }),
            ready: Condvar::new(),
        });
        (Self { state: Arc::clone(&state), key: 0 }, state)
    }

    /// Blocks until the answer is there, at most for `limit`; `None` when that passes first.
    pub fn wait(&self, limit: Option<Duration>) -> Option<Outcome> {
        let until = limit.map(|limit| clock::now().saturating_add(limit));
        let mut inner = self.state.lock();
        loop {
            if let Phase::Ended(outcome) = &inner.phase {
                return Some(outcome.clone());
            }
            if until.is_some_and(|until| until <= clock::now()) {
                return None;
            }
            inner.blocked += 1;
            inner = match until {
                None => self.state.ready.wait(inner).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let left = until.saturating_sub(clock::now());
                    let waited = self.state.ready.wait_timeout(inner, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
            inner.blocked -= 1;
        }
    }

    /// The answer, if it is there.
    pub fn outcome(&self) -> Option<Outcome> {
        match &self.state.lock().phase {
            Phase::Ended(outcome) => Some(outcome.clone()),
            _ => None,
        }
    }

    /// Gives the batch up, for a caller whose deadline has passed.
    pub fn annul(&self) -> Annulment {
        let mut inner = self.state.lock();
        match &inner.phase {
            Phase::Queued => {
                let waiting = inner.end(Outcome::Annulled, &self.state);
                drop(inner);
                waiting.wake();
                Annulment::NotWritten
            }
            Phase::InFlight | Phase::Annulling => {
                inner.phase = Phase::Annulling;
                Annulment::Pending
            }
            Phase::Ended(_) => Annulment::AlreadyDone,
        }
    }
}

impl Future for Ticket {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let mut inner = self.state.lock();
        if let Phase::Ended(outcome) = &inner.phase {
            return Poll::Ready(outcome.clone());
        }
        let before = inner.take_waker(self.key);
        let waker = cx.waker().clone();
        if self.key == 0 {
            inner.first = Some(waker);
        } else {
            inner.others.push((self.key, waker));
        }
        drop(inner);
        drop(before);
        Poll::Pending
    }
}

impl Clone for Ticket {
    fn clone(&self) -> Self {
        let mut inner = self.state.lock();
        let key = inner.next_key;
        inner.next_key += 1;
        drop(inner);
        Self { state: Arc::clone(&self.state), key }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // The end of a waker may be the end of anything, a log included: not under the lock.
        let waker = self.state.lock().take_waker(self.key);
        drop(waker);
    }
}

/// What the committer holds of a ticket.
#[derive(Debug)]
pub(crate) struct TicketState {
    inner: Mutex<Inner>,
    ready: Condvar,
}

#[derive(Debug)]
struct Inner {
    phase: Phase,
    /// Of the ticket that submitting gave. Most batches have no other, so it costs no allocation.
    first: Option<Waker>,
    /// One per clone that was polled.
    others: Vec<(u64, Waker)>,
    next_key: u64,
    /// Threads that wait: waking nobody is a system call, too.
    blocked: usize,
}

impl Inner {
    fn take_waker(&mut self, of: u64) -> Option<Waker> {
        if of == 0 {
            return self.first.take();
        }
        let at = self.others.iter().position(|(key, _)| *key == of)?;
        Some(self.others.swap_remove(at).1)
    }

    fn end(&mut self, outcome: Outcome, state: &Arc<TicketState>) -> Waiting {
        let published = matches!(outcome, Outcome::Done { .. });
        self.phase = Phase::Ended(outcome);
        Waiting {
            published,
            first: self.first.take(),
            others: std::mem::take(&mut self.others),
            blocked: (self.blocked > 0).then(|| Arc::clone(state)),
        }
    }
}

#[derive(Debug)]
enum Phase {
    Queued,
    InFlight,
    Annulling,
    Ended(Outcome),
}

impl TicketState {
    /// Takes the batch off the queue. False: it was given up, and must not be written.
    pub(crate) fn begin(&self) -> bool {
        let mut inner = self.lock();
        let begun = matches!(inner.phase, Phase::Queued);
        if begun {
            inner.phase = Phase::InFlight;
        }
        begun
    }

    /// Ends what is done, and says who waits for that: they are woken by [`Waiting::wake`]. Unless
    /// it was given up, `publish` makes it visible, and nobody can give it up any more by then.
    fn end(self: &Arc<Self>, publish: impl FnOnce() -> u64) -> Waiting {
        let mut inner = self.lock();
        let outcome = if matches!(inner.phase, Phase::Annulling) {
            Outcome::Annulled
        } else {
            Outcome::Done { lsn: publish() }
        };
        inner.end(outcome, self)
    }

    /// [`Self::end`], and wakes those who wait.
    pub(crate) fn finish(self: &Arc<Self>, publish: impl FnOnce() -> u64) {
        self.end(publish).wake();
    }

    /// Ends what failed. A batch that was given up while it was queued stays annulled.
    pub(crate) fn fail(self: &Arc<Self>, error: &Arc<WriteError>) {
        let mut inner = self.lock();
        if !matches!(inner.phase, Phase::Ended(_)) {
            let waiting = inner.end(Outcome::Failed(Arc::clone(error)), self);
            drop(inner);
            waiting.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The duty to answer for a batch. Every way out answers; dropping it is for the one that nobody
/// thought of.
#[derive(Debug)]
pub(crate) struct Answer {
    state: Arc<TicketState>,
    ended: bool,
}

impl Answer {
    /// As [`TicketState::begin`].
    pub(crate) fn begin(&self) -> bool {
        self.state.begin()
    }

    /// As [`TicketState::end`].
    pub(crate) fn end(mut self, publish: impl FnOnce() -> u64) -> Waiting {
        let waiting = self.state.end(publish);
        self.ended = true;
        waiting
    }

    /// As [`TicketState::fail`].
    pub(crate) fn fail(&self, error: &Arc<WriteError>) {
        self.state.fail(error);
    }
}

impl From<Arc<TicketState>> for Answer {
    fn from(state: Arc<TicketState>) -> Self {
        Self { state, ended: false }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if !self.ended && !matches!(self.state.lock().phase, Phase::Ended(_)) {
            self.fail(&Arc::new(WriteError::Interrupted));
        }
    }
}

/// Who waits for what has ended.
#[derive(Debug)]
#[must_use = "somebody waits"]
pub(crate) struct Waiting {
    /// The batch was not given up.
    pub(crate) published: bool,
    first: Option<Waker>,
    others: Vec<(u64, Waker)>,
    /// Where threads wait.
    blocked: Option<Arc<TicketState>>,
}

impl Waiting {
    /// Wakes them. Wakers run foreign code: no lock is held here.
    pub(crate) fn wake(self) {
        if let Some(state) = self.blocked {
            state.ready.notify_all();
        }
        if let Some(waker) = self.first {
            waker.wake();
        }
        for (_, waker) in self.others {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests;
