//! Versions: which of two writes is the newer one, agreed without a server.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::{SharedClock, random_u64};

/// Where a write stands in the order of all writes.
///
/// A hybrid logical clock reading (48 bits of milliseconds, 16 bits of counter) and the random
/// origin that took it. Ordered by reading, then by origin, so two origins never tie. Two words, also
/// as an option.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// The reading and one more, so that zero is free for `None`.
    reading: NonZeroU64,
    origin: u64,
}

impl Version {
    /// The number of bytes of [`Version::to_bytes`].
    pub const LEN: usize = 16;

    /// A version from its parts, for decoding and for tests. The highest reading is `u64::MAX - 1`,
    /// in the year 10889; a higher one becomes that.
    pub const fn from_parts(reading: u64, origin: u64) -> Self {
        Self { reading: NonZeroU64::MIN.saturating_add(reading), origin }
    }

    /// The hybrid reading: milliseconds since the epoch in the upper 48 bits, a counter below.
    pub const fn reading(self) -> u64 {
        self.reading.get() - 1
    }

    /// The process that took the reading.
    pub const fn origin(self) -> u64 {
        self.origin
    }

    /// Sixteen bytes that sort as versions do.
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..8].copy_from_slice(&self.reading().to_be_bytes());
        bytes[8..].copy_from_slice(&self.origin.to_be_bytes());
        bytes
    }

    /// The version that [`Version::to_bytes`] wrote; `None` for bytes that it never writes.
    pub fn from_bytes(bytes: [u8; Self::LEN]) -> Option<Self> {
        let both = u128::from_be_bytes(bytes);
        let [reading, origin] = [both >> 64, both & u128::from(u64::MAX)]
            .map(|half| u64::try_from(half).unwrap_or(u64::MAX));
        (reading < u64::MAX).then(|| Self::from_parts(reading, origin))
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Version({self})")
    }
}

impl fmt::Display for Version {
    /// `milliseconds.counter@origin`, in hexadecimal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reading = self.reading();
        write!(f, "{:x}.{:x}@{:016x}", reading >> 16, reading & 0xFFFF, self.origin)
    }
}

/// Hands out versions that exceed every version handed out or seen before.
///
/// Source: S. Kulkarni, M. Demirbas et al., "Logical Physical Clocks", OPODIS 2014. The physical
/// part follows the wall clock; when that stands still or steps back the counter goes on, and
/// overflows into the physical part.
#[derive(Debug)]
pub struct HybridClock {
    clock: SharedClock,
    origin: u64,
    max_lead: Duration,
    /// The highest reading that was handed out or seen.
    last: AtomicU64,
    refused: AtomicU64,
}

impl HybridClock {
    /// How far ahead of the wall clock a seen version may be and still be merged.
    pub const MAX_LEAD: Duration = Duration::from_mins(1);

    /// A clock with a random origin.
    pub fn new(clock: SharedClock) -> Self {
        Self::with_origin(clock, random_u64())
    }

    /// A clock with a given origin, for tests.
    pub fn with_origin(clock: SharedClock, origin: u64) -> Self {
        let (last, refused) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { clock, origin, max_lead: Self::MAX_LEAD, last, refused }
    }

    /// The next version: higher than every one returned or observed before.
    pub fn next(&self) -> Version {
        let wall = self.clock.now().as_millis() << 16;
        let after = |last: u64| wall.max(last.saturating_add(1));
        let (success, failure) = (Ordering::SeqCst, Ordering::SeqCst);
        let last = self.last.fetch_update(success, failure, |last| Some(after(last)));
        let last = last.unwrap_or_else(|last| last);
        Version::from_parts(after(last), self.origin)
    }

    /// Merges a version seen in a record or message, so that later versions exceed it.
    ///
    /// One that is more than [`HybridClock::MAX_LEAD`] in the future is refused and counted: a
    /// machine with a broken clock must not push everybody else's clock ahead. One that is exceeded
    /// already costs no look at the clock.
    pub fn observe(&self, seen: Version) -> bool {
        seen.reading() <= self.last.load(Ordering::SeqCst) || self.merge(seen)
    }

    #[cold]
    fn merge(&self, seen: Version) -> bool {
        let limit = self.clock.now().saturating_add(self.max_lead).as_millis() << 16 | 0xFFFF;
        if seen.reading() > limit {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        self.last.fetch_max(seen.reading(), Ordering::SeqCst);
        true
    }

    /// How many versions were refused for being too far in the future.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn versions_rise_while_the_wall_clock_stands_or_steps_back() {
        let wall = ManualClock::default();
        let clock = HybridClock::with_origin(wall.shared(), 7);
        let first = clock.next();
        let second = clock.next();
        wall.step_wall(-1_000_000_000);
        let third = clock.next();
        assert!(first < second && second < third);
    }

    #[test]
    fn an_observed_version_is_exceeded() {
        let wall = ManualClock::default();
        let clock = HybridClock::with_origin(wall.shared(), 7);
        let seen = Version::from_parts(clock.next().reading() + 5_000, 9);
        assert!(clock.observe(seen));
        assert!(clock.next() > seen);
    }

    #[test]
    fn versions_of_many_threads_are_all_different() {
        let clock = HybridClock::with_origin(ManualClock::default().shared(), 7);
        let mut all = std::thread::scope(|scope| {
            let some = || (0..1_000).map(|_| clock.next()).collect::<Vec<_>>();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(some)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 4_000);
    }

    #[test]
    fn a_version_far_in_the_future_is_refused_and_counted() {
        let wall = ManualClock::default();
        let clock = HybridClock::with_origin(wall.shared(), 7);
        let before = clock.next();
        let absurd = Version::from_parts(u64::MAX, 9);
        assert!(!clock.observe(absurd));
        assert_eq!(clock.refused(), 1);
        assert!(clock.next() > before && clock.next() < absurd);
    }

    #[test]
    fn bytes_round_trip_and_sort_as_versions() {
        let low = Version::from_parts(1, u64::MAX);
        let high = Version::from_parts(2, 0);
        let last = Version::from_parts(u64::MAX - 1, u64::MAX);
        for version in [Version::from_parts(0, 0), low, high, last] {
            assert_eq!(Version::from_bytes(version.to_bytes()), Some(version));
        }
        assert!(low.to_bytes() < high.to_bytes() && low < high);
    }

    #[test]
    fn a_reading_that_no_clock_gives_is_none_and_an_option_takes_no_more() {
        assert_eq!(Version::from_bytes([0xFF; Version::LEN]), None);
        assert_eq!(Version::from_parts(u64::MAX, 3), Version::from_parts(u64::MAX - 1, 3));
        assert_eq!(size_of::<Option<Version>>(), Version::LEN);
    }
}
