//! Those who wait for the head of a key to move.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Wakes those who wait for a key, for backends that hear of changes:
/// [`Consensus::changed`](crate::Consensus::changed) is [`Watchers::wait`], and whoever hears of a change calls
/// [`Watchers::wake`] after the change can be seen.
///
/// Nothing is kept for those who do not wait at the moment, so nothing grows but with the number of futures.
///
/// ```
/// use larder_core::consensus::Watchers;
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let (watchers, head) = (Watchers::default(), AtomicU64::new(1));
/// let moves = watchers.wait("key", || head.load(Ordering::SeqCst) > 1);
/// let change = async {
///     head.store(2, Ordering::SeqCst);
///     watchers.wake("key");
/// };
/// tokio::join!(moves, change);
/// # }
/// ```
#[derive(Default)]
pub struct Watchers {
    /// How many wait: a store that nobody watches takes no lock.
    waiting: AtomicUsize,
    numbers: AtomicU64,
    wakers: Mutex<BTreeMap<String, Vec<(u64, Waker)>>>,
}

impl Watchers {
    /// Whether nobody waits for any key.
    pub fn is_empty(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) == 0
    }

    /// Wakes those who wait for `key`.
    pub fn wake(&self, key: &str) {
        if self.is_empty() {
            return;
        }
        // A waker may run anything, so none is touched under the lock.
        let woken = self.lock().remove(key).unwrap_or_default();
        for (_, waker) in woken {
            waker.wake();
        }
    }

    /// Wakes all who wait: for a backend that may have missed something.
    pub fn wake_all(&self) {
        if self.is_empty() {
            return;
        }
        let woken = std::mem::take(&mut *self.lock());
        for (_, waker) in woken.into_values().flatten() {
            waker.wake();
        }
    }

    /// Waits until `has_moved`, which is asked at once and after each [`Watchers::wake`] of `key`.
    ///
    /// # Cancel safety
    /// Dropping the future takes it out.
    pub fn wait<'a>(
        &'a self,
        key: &'a str,
        has_moved: impl Fn() -> bool + Send + 'a,
    ) -> impl Future<Output = ()> + Send + 'a {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        self.waiting.fetch_add(1, Ordering::SeqCst);
        Wait { watchers: self, key, number, has_moved: Box::new(has_moved) }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Vec<(u64, Waker)>>> {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One who waits.
struct Wait<'a> {
    watchers: &'a Watchers,
    key: &'a str,
    number: u64,
    has_moved: Box<dyn Fn() -> bool + Send + 'a>,
}

impl Wait<'_> {
    /// Puts the waker in its place, and gives the one that was there.
    fn put(&self, waker: &Waker) -> Option<Waker> {
        let mut wakers = self.watchers.lock();
        let waiting = match wakers.get_mut(self.key) {
            Some(waiting) => waiting,
            None => wakers.entry(self.key.to_owned()).or_default(),
        };
        match waiting.iter_mut().find(|(number, _)| *number == self.number) {
            Some((_, known)) if known.will_wake(waker) => None,
            Some((_, known)) => Some(std::mem::replace(known, waker.clone())),
            None => {
                waiting.push((self.number, waker.clone()));
                None
            }
        }
    }

    fn take(&self) -> Option<Waker> {
        let mut wakers = self.watchers.lock();
        let waiting = wakers.get_mut(self.key)?;
        let at = waiting.iter().position(|(number, _)| *number == self.number);
        let (_, waker) = waiting.swap_remove(at?);
        if waiting.is_empty() {
            wakers.remove(self.key);
        }
        Some(waker)
    }
}

impl Future for Wait<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        // Enters first and looks then: what moves after the look wakes.
        drop(self.put(context.waker()));
        if (self.has_moved)() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        drop(self.take());
        self.watchers.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

impl fmt::Debug for Watchers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.waiting.load(Ordering::Relaxed);
        f.debug_struct("Watchers").field("waiting", &waiting).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    fn poll<F: Future<Output = ()>>(future: Pin<&mut F>) -> bool {
        future.poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn who_leaves_is_not_kept_and_who_comes_late_does_not_wait() {
        let (watchers, moved) = (Watchers::default(), AtomicBool::new(false));
        let look = || moved.load(Ordering::SeqCst);
        for _ in 0..3 {
            let mut waits = std::pin::pin!(watchers.wait("k", look));
            assert!(!poll(waits.as_mut()) && !poll(waits.as_mut()));
            assert_eq!(watchers.lock().get("k").unwrap().len(), 1);
        }
        assert!(watchers.lock().is_empty() && watchers.is_empty());
        moved.store(true, Ordering::SeqCst);
        assert!(poll(std::pin::pin!(watchers.wait("k", look))));
    }

    struct Told(AtomicBool);

    impl std::task::Wake for Told {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_change_right_behind_the_look_is_not_missed() {
        let watchers = Watchers::default();
        let told = std::sync::Arc::new(Told(AtomicBool::new(false)));
        let waker = std::sync::Arc::clone(&told).into();
        let mut waits = std::pin::pin!(watchers.wait("k", || {
            // Somebody else changes it in the moment after it was read.
            watchers.wake("k");
            false
        }));
        assert!(waits.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        assert!(told.0.load(Ordering::SeqCst), "nobody would ever look again");
    }

    #[test]
    fn other_keys_wake_nobody() {
        let watchers = Watchers::default();
        let asked = AtomicU64::new(0);
        let mut waits = std::pin::pin!(watchers.wait("k", || {
            asked.fetch_add(1, Ordering::SeqCst);
            false
        }));
        assert!(!poll(waits.as_mut()));
        watchers.wake("other");
        assert_eq!(watchers.lock().len(), 1, "somebody else's change took the waker away");
        watchers.wake_all();
        assert!(watchers.lock().is_empty());
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }
}
