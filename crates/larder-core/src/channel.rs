//! A bounded channel that a thread can feed and a task can drain, and the other way round.
//!
//! `enumerate` sends from wherever its backend reads (a thread for the embedded engine, a task for
//! a remote one) to wherever its caller listens. Own type, so that no channel library becomes part
//! of the contract.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// The capacity to use when there is no reason for another one.
///
/// Below a few hundred entries a blocking sender spends more on wake-ups than on sending.
pub const DEFAULT_CAPACITY: usize = 256;

/// Makes a channel that holds at most `capacity` entries (at least one).
///
/// The receiver takes up to half of them at a time, so that the two ends do not contend for every
/// entry; what it has taken counts.
pub fn channel<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let capacity = capacity.max(1);
    let take_max = (capacity / 2).max(1);
    let shared = Arc::new(Shared {
        state: Mutex::new(State {
            queue: VecDeque::new(),
            senders: 1,
            receiver: true,
            receiver_waker: None,
            sender_wakers: Vec::new(),
            receiver_blocked: false,
            senders_blocked: 0,
        }),
        capacity,
        // One of those taken is handed out at once.
        queue_max: capacity + 1 - take_max,
        room: Condvar::new(),
        filled: Condvar::new(),
    });
    let receiver = Receiver { shared: Arc::clone(&shared), taken: VecDeque::new(), take_max };
    (Sender { shared }, receiver)
}

/// The feeding end; clones feed the same channel.
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
}

/// The draining end.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    /// The next entries, out of the queue already.
    taken: VecDeque<T>,
    take_max: usize,
}

/// The receiver is gone; the entry comes back.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the receiver is gone")]
#[allow(clippy::exhaustive_structs, reason = "a plain container of what was not sent")]
pub struct Closed<T>(pub T);

/// Why an entry was not sent at once; it comes back.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[allow(clippy::exhaustive_enums, reason = "callers match both answers")]
pub enum TrySendError<T> {
    /// The channel is full.
    #[error("the channel is full")]
    Full(T),
    /// The receiver is gone.
    #[error("the receiver is gone")]
    Closed(T),
}

struct Shared<T> {
    state: Mutex<State<T>>,
    capacity: usize,
    /// What fits the queue itself.
    queue_max: usize,
    room: Condvar,
    filled: Condvar,
}

struct State<T> {
    queue: VecDeque<T>,
    senders: usize,
    receiver: bool,
    receiver_waker: Option<Waker>,
    sender_wakers: Vec<Waker>,
    /// A thread waits on `filled`. Nobody is notified in vain: that is a system call.
    receiver_blocked: bool,
    /// Threads that wait on `room`.
    senders_blocked: usize,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of the lock and wakes the receiver. A waker may run or drop anything, this channel's
    /// ends included, so no waker is touched under the lock.
    fn wake_receiver(&self, mut state: MutexGuard<'_, State<T>>) {
        let waker = state.receiver_waker.take();
        let blocked = state.receiver_blocked;
        drop(state);
        if blocked {
            self.filled.notify_one();
        }
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Lets go of the lock and wakes every sender that waits.
    fn wake_senders(&self, mut state: MutexGuard<'_, State<T>>) {
        let wakers = std::mem::take(&mut state.sender_wakers);
        let blocked = state.senders_blocked > 0;
        drop(state);
        if blocked {
            self.room.notify_all();
        }
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl<T> Sender<T> {
    /// Waits for room and sends. Cancelling sends nothing.
    ///
    /// # Errors
    /// [`Closed`] with the entry when the receiver is gone.
    pub async fn send(&self, entry: T) -> Result<(), Closed<T>> {
        let mut entry = Some(entry);
        poll_fn(|context| self.poll_send(context, &mut entry)).await
    }

    /// Blocks this thread until there is room and sends.
    ///
    /// # Errors
    /// [`Closed`] with the entry when the receiver is gone.
    pub fn send_blocking(&self, entry: T) -> Result<(), Closed<T>> {
        let mut state = self.wait_for_room();
        if !state.receiver {
            return Err(Closed(entry));
        }
        state.queue.push_back(entry);
        self.shared.wake_receiver(state);
        Ok(())
    }

    /// Blocks this thread until all of `entries` are sent, in order: cheaper than one by one.
    ///
    /// # Errors
    /// [`Closed`] when the receiver is gone; what was not sent stays in `entries`.
    pub fn send_many_blocking(&self, entries: &mut VecDeque<T>) -> Result<(), Closed<()>> {
        while !entries.is_empty() {
            let mut state = self.wait_for_room();
            if !state.receiver {
                return Err(Closed(()));
            }
            let room = self.shared.queue_max - state.queue.len();
            state.queue.extend(entries.drain(..room.min(entries.len())));
            self.shared.wake_receiver(state);
        }
        Ok(())
    }

    /// Sends if there is room at once.
    ///
    /// # Errors
    /// [`TrySendError`] with the entry when there is no room, or the receiver is gone.
    pub fn try_send(&self, entry: T) -> Result<(), TrySendError<T>> {
        let mut state = self.shared.lock();
        if !state.receiver {
            return Err(TrySendError::Closed(entry));
        }
        if state.queue.len() >= self.shared.queue_max {
            return Err(TrySendError::Full(entry));
        }
        state.queue.push_back(entry);
        self.shared.wake_receiver(state);
        Ok(())
    }

    /// How many entries the channel holds at most.
    pub fn capacity(&self) -> usize {
        self.shared.capacity
    }

    /// Blocks until there is room, or the receiver is gone.
    fn wait_for_room(&self) -> MutexGuard<'_, State<T>> {
        let mut state = self.shared.lock();
        while state.receiver && state.queue.len() >= self.shared.queue_max {
            state.senders_blocked += 1;
            state = self.shared.room.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.senders_blocked -= 1;
        }
        state
    }

    /// Whether the receiver is gone.
    pub fn is_closed(&self) -> bool {
        !self.shared.lock().receiver
    }

    fn poll_send(
        &self,
        context: &mut Context<'_>,
        entry: &mut Option<T>,
    ) -> Poll<Result<(), Closed<T>>> {
        let waker = context.waker().clone();
        let mut state = self.shared.lock();
        let Some(value) = entry.take() else { return Poll::Ready(Ok(())) };
        if !state.receiver {
            return Poll::Ready(Err(Closed(value)));
        }
        if state.queue.len() < self.shared.queue_max {
            state.queue.push_back(value);
            self.shared.wake_receiver(state);
            return Poll::Ready(Ok(()));
        }
        *entry = Some(value);
        if !state.sender_wakers.iter().any(|known| known.will_wake(&waker)) {
            state.sender_wakers.push(waker);
        }
        Poll::Pending
    }
}

impl<T> Receiver<T> {
    /// Waits for the next entry; `None` when every sender is gone and the channel is empty.
    ///
    /// Cancelling loses nothing.
    pub async fn recv(&mut self) -> Option<T> {
        poll_fn(|context| self.poll_recv(context)).await
    }

    /// As [`Receiver::recv`], for a hand-written future or stream.
    pub fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Option<T>> {
        if let Some(entry) = self.taken.pop_front() {
            return Poll::Ready(Some(entry));
        }
        let waker = context.waker().clone();
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        if let Some(entry) = self.take(&mut state) {
            self.wake_senders_at_half(state);
            return Poll::Ready(Some(entry));
        }
        let ended = state.senders == 0;
        let replaced = if ended { None } else { state.receiver_waker.replace(waker) };
        shared.wake_senders(state);
        drop(replaced);
        if ended { Poll::Ready(None) } else { Poll::Pending }
    }

    /// Blocks this thread for the next entry; `None` as for [`Receiver::recv`].
    pub fn recv_blocking(&mut self) -> Option<T> {
        if let Some(entry) = self.taken.pop_front() {
            return Some(entry);
        }
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        loop {
            if let Some(entry) = self.take(&mut state) {
                self.wake_senders_at_half(state);
                return Some(entry);
            }
            // Senders were woken when the channel was half empty, so none waits now.
            if state.senders == 0 {
                return None;
            }
            state.receiver_blocked = true;
            state = shared.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.receiver_blocked = false;
        }
    }

    /// Takes the next entries off the queue; the first of them.
    fn take(&mut self, state: &mut State<T>) -> Option<T> {
        if state.queue.len() <= self.take_max {
            std::mem::swap(&mut state.queue, &mut self.taken);
        } else {
            self.taken.extend(state.queue.drain(..self.take_max));
        }
        self.taken.pop_front()
    }

    /// Waking senders only at half empty turns one wake-up an entry into one per half.
    fn wake_senders_at_half(&self, state: MutexGuard<'_, State<T>>) {
        if state.queue.len() <= self.shared.queue_max / 2 {
            self.shared.wake_senders(state);
        }
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.shared.lock().senders += 1;
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.senders -= 1;
        if state.senders == 0 {
            self.shared.wake_receiver(state);
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.receiver = false;
        let left = std::mem::take(&mut state.queue);
        self.shared.wake_senders(state);
        // Entries may hold anything; their destructors do not belong under the lock.
        drop(left);
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_thread_feeds_a_task_in_order_and_the_end_is_told() {
        let (sender, mut receiver) = channel(2);
        let feeder = std::thread::spawn(move || {
            for number in 0..1_000 {
                sender.send_blocking(number).unwrap();
            }
        });
        for number in 0..1_000 {
            assert_eq!(receiver.recv().await, Some(number));
        }
        assert_eq!(receiver.recv().await, None);
        feeder.join().unwrap();
    }

    #[tokio::test]
    async fn a_task_feeds_a_thread() {
        let (sender, mut receiver) = channel(1);
        let drain = std::thread::spawn(move || {
            let mut sum = 0;
            while let Some(number) = receiver.recv_blocking() {
                sum += number;
            }
            sum
        });
        for number in 0..100 {
            sender.send(number).await.unwrap();
        }
        drop(sender);
        assert_eq!(drain.join().unwrap(), 4_950);
    }

    #[tokio::test]
    async fn a_full_channel_holds_its_sender_back() {
        let (sender, mut receiver) = channel(1);
        sender.send(1).await.unwrap();
        let held = tokio::time::timeout(std::time::Duration::from_millis(20), sender.send(2));
        assert!(held.await.is_err());
        assert_eq!(receiver.recv().await, Some(1));
        sender.send(3).await.unwrap();
        assert_eq!(receiver.recv().await, Some(3));
    }

    #[tokio::test]
    async fn no_more_than_the_capacity_is_held_however_it_was_taken() {
        for capacity in 1..9 {
            let (sender, mut receiver) = channel(capacity);
            let mut next = 0;
            let mut out = 0;
            for round in 0..50 {
                let mut context = Context::from_waker(Waker::noop());
                while let Poll::Ready(Ok(())) = std::pin::pin!(sender.send(next)).poll(&mut context)
                {
                    next += 1;
                }
                assert!(next - out <= capacity, "{next} sent, {out} received");
                assert!(next > out, "nothing can be sent although nothing is held");
                for _ in 0..=(round % (next - out)) {
                    assert_eq!(receiver.recv().await, Some(out));
                    out += 1;
                }
            }
        }
    }

    #[tokio::test]
    async fn what_cannot_be_sent_at_once_comes_back() {
        let (sender, mut receiver) = channel(1);
        assert_eq!(sender.try_send(1), Ok(()));
        assert_eq!(sender.try_send(2), Err(TrySendError::Full(2)));
        assert_eq!(receiver.recv().await, Some(1));
        assert_eq!(sender.try_send(3), Ok(()));
        drop(receiver);
        assert_eq!(sender.try_send(4), Err(TrySendError::Closed(4)));
    }

    #[test]
    fn many_are_sent_in_order_and_what_was_not_comes_back() {
        let (sender, mut receiver) = channel(4);
        let drain = std::thread::spawn(move || {
            (0..500).for_each(|number| assert_eq!(receiver.recv_blocking(), Some(number)));
        });
        let mut entries: VecDeque<u32> = (0..500).collect();
        assert_eq!(sender.send_many_blocking(&mut entries), Ok(()));
        drain.join().unwrap();
        let mut entries: VecDeque<u32> = (0..500).collect();
        assert_eq!(sender.send_many_blocking(&mut entries), Err(Closed(())));
        assert!(entries.len() >= 500 - 4, "{}", entries.len());
    }

    #[tokio::test]
    async fn a_dropped_receiver_frees_a_blocked_sender_and_returns_the_entry() {
        let (sender, receiver) = channel(1);
        sender.send(1).await.unwrap();
        let blocked = std::thread::spawn(move || sender.send_blocking(2));
        drop(receiver);
        assert_eq!(blocked.join().unwrap(), Err(Closed(2)));
    }
}
