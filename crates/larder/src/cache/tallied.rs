//! A number that is both a metric and a statistic.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use metrics::Counter;

/// Counts for the program's metrics and for the statistics of its owner.
pub(super) struct Tallied {
    count: AtomicU64,
    metric: Counter,
}

impl Tallied {
    pub(super) const fn new(metric: Counter) -> Self {
        Self { count: AtomicU64::new(0), metric }
    }

    pub(super) fn increment(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.metric.increment(1);
    }

    pub(super) fn get(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

/// A number that many threads add to all the time: each has a place of its own, which it writes
/// without a lock and without waiting for the cache lines of others.
pub(super) struct Spread {
    places: Box<[Place]>,
    /// For threads that have no place.
    rest: AtomicU64,
}

/// How many threads have one at a time.
const PLACES: usize = 64;

/// Alone on its cache line, and on the one that processors fetch with it.
#[derive(Default)]
#[repr(align(128))]
struct Place(AtomicU64);

/// The right to write one place in every [`Spread`], as long as a thread lives.
struct Seat(usize);

static FREE: Mutex<Vec<usize>> = Mutex::new(Vec::new());
static NEXT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static SEAT: Seat = Seat::take();
}

impl Seat {
    /// A free one; beyond the last one, when there is none.
    fn take() -> Self {
        let free = FREE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Self(free.unwrap_or_else(|| NEXT.fetch_add(1, Ordering::Relaxed)))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        // The lock orders what this thread has written before what the next one writes there.
        FREE.lock().unwrap_or_else(PoisonError::into_inner).push(self.0);
    }
}

impl Spread {
    pub(super) fn new() -> Self {
        Self { places: (0..PLACES).map(|_| Place::default()).collect(), rest: AtomicU64::new(0) }
    }

    #[inline]
    pub(super) fn increment(&self) {
        // A thread that is ending has none.
        let at = SEAT.try_with(|seat| seat.0).unwrap_or(usize::MAX);
        match self.places.get(at) {
            // Nobody else writes there, so nothing is lost in between.
            Some(Place(count)) => {
                count.store(count.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
            }
            None => {
                self.rest.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    pub(super) fn get(&self) -> u64 {
        let rest = self.rest.load(Ordering::Relaxed);
        let counts = self.places.iter().map(|place| place.0.load(Ordering::Relaxed));
        counts.fold(rest, u64::wrapping_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_many_threads_count_is_all_there() {
        let spread = Spread::new();
        // More than there are places, and each place more than once.
        for _ in 0..3 {
            std::thread::scope(|scope| {
                for _ in 0..PLACES + 8 {
                    scope.spawn(|| (0..1_000).for_each(|_| spread.increment()));
                }
            });
        }
        assert_eq!(spread.get(), 3_000 * u64::try_from(PLACES + 8).unwrap());
    }
}
