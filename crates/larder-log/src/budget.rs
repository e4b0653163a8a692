//! How many bytes may be on their way to the disk: the only wait that can be given up freely.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::SubmitError;

/// The right to have some bytes on their way. Dropping it gives them back.
#[derive(Debug)]
pub struct Permit {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Permit {
    /// How many bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Gives both back together.
    pub(crate) fn join(&mut self, mut other: Self) {
        if Arc::ptr_eq(&self.budget, &other.budget) {
            self.bytes += std::mem::take(&mut other.bytes);
        }
    }

    /// Whether it belongs to this budget and covers a batch of `bytes`.
    pub(crate) fn covers(&self, budget: &Arc<Budget>, bytes: u64) -> bool {
        Arc::ptr_eq(&self.budget, budget) && self.bytes >= bytes.min(budget.total)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.budget.give_back(self.bytes);
        }
    }
}

/// Waits for room in the byte budget, first come first served.
///
/// # Cancel safety
/// Dropping it gives its place, or the permit that it was about to yield, to the next one.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Admission<'a> {
    budget: &'a Arc<Budget>,
    bytes: u64,
    waiter: Option<Arc<Waiter>>,
}

impl Future for Admission<'_> {
    type Output = Result<Permit, SubmitError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let budget = self.budget;
        let mut state = budget.lock();
        if state.closed {
            self.waiter = None;
            return Poll::Ready(Err(SubmitError::Closed));
        }
        let Some(waiter) = &self.waiter else {
            if state.waiters.is_empty() && state.take(self.bytes) {
                return Poll::Ready(Ok(Permit { budget: Arc::clone(budget), bytes: self.bytes }));
            }
            let number = state.next_waiter;
            state.next_waiter += 1;
            let waiter = Arc::new(Waiter {
                bytes: self.bytes,
                number,
                state: Mutex::new(WaiterState::Waiting(cx.waker().clone())),
            });
            state.waiters.push_back(Arc::clone(&waiter));
            self.waiter = Some(waiter);
            return Poll::Pending;
        };
        let mut place = waiter.lock();
        match &mut *place {
            WaiterState::Granted => {
                drop(place);
                self.waiter = None;
                Poll::Ready(Ok(Permit { budget: Arc::clone(budget), bytes: self.bytes }))
            }
            WaiterState::Waiting(waker) => {
                waker.clone_from(cx.waker());
                Poll::Pending
            }
        }
    }
}

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        let Some(waiter) = self.waiter.take() else { return };
        let mut state = self.budget.lock();
        state.waiters.retain(|other| !Arc::ptr_eq(other, &waiter));
        if matches!(*waiter.lock(), WaiterState::Granted) {
            state.available += self.bytes;
        }
        grant(state);
    }
}

/// The bytes that may be on their way, and who waits for them.
#[derive(Debug)]
pub(crate) struct Budget {
    total: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    available: u64,
    closed: bool,
    waiters: VecDeque<Arc<Waiter>>,
    /// Waits so far: the number of the next waiter.
    next_waiter: u64,
}

#[derive(Debug)]
struct Waiter {
    bytes: u64,
    number: u64,
    state: Mutex<WaiterState>,
}

#[derive(Debug)]
enum WaiterState {
    Waiting(Waker),
    Granted,
}

impl Budget {
    pub(crate) fn new(total: u64) -> Arc<Self> {
        let state =
            State { available: total, closed: false, waiters: VecDeque::new(), next_waiter: 0 };
        Arc::new(Self { total, state: Mutex::new(state) })
    }

    /// Takes bytes at once, unless others wait for them. More than the total counts as the total.
    pub(crate) fn try_take(self: &Arc<Self>, bytes: u64) -> Option<Permit> {
        let bytes = bytes.min(self.total);
        let mut state = self.lock();
        let taken = state.waiters.is_empty() && state.take(bytes);
        taken.then(|| Permit { budget: Arc::clone(self), bytes })
    }

    pub(crate) fn admission(self: &Arc<Self>, bytes: u64) -> Admission<'_> {
        Admission { budget: self, bytes: bytes.min(self.total), waiter: None }
    }

    /// Ends every wait, present and future.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let waiters = std::mem::take(&mut state.waiters);
        drop(state);
        for waiter in waiters {
            let waker = match &*waiter.lock() {
                WaiterState::Waiting(waker) => Some(waker.clone()),
                WaiterState::Granted => None,
            };
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    pub(crate) fn in_use(&self) -> u64 {
        self.total - self.lock().available
    }

    /// The number that the next waiter gets.
    pub(crate) fn next_waiter(&self) -> u64 {
        self.lock().next_waiter
    }

    /// How many still wait of those with lower numbers.
    pub(crate) fn waiters_before(&self, number: u64) -> u64 {
        self.lock().waiters.partition_point(|waiter| waiter.number < number) as u64
    }

    fn give_back(&self, bytes: u64) {
        let mut state = self.lock();
        state.available += bytes;
        grant(state);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take(&mut self, bytes: u64) -> bool {
        let enough = self.available >= bytes;
        if enough {
            self.available -= bytes;
        }
        enough
    }
}

impl Waiter {
    fn lock(&self) -> MutexGuard<'_, WaiterState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves the waiters at the front as far as the bytes go.
fn grant(mut state: MutexGuard<'_, State>) {
    let mut wakers = Vec::new();
    while let Some(waiter) = state.waiters.front().cloned() {
        if !state.take(waiter.bytes) {
            break;
        }
        state.waiters.pop_front();
        if let WaiterState::Waiting(waker) =
            std::mem::replace(&mut *waiter.lock(), WaiterState::Granted)
        {
            wakers.push(waker);
        }
    }
    drop(state);
    for waker in wakers {
        waker.wake();
    }
}

#[cfg(test)]
mod tests;
