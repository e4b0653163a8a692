//! The only door to time and randomness, so that tests can move one and fix the other.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::Timestamp;

/// A source of wall-clock and monotonic time.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The wall-clock time. It may step backwards when the machine is corrected.
    fn now(&self) -> Timestamp;

    /// The monotonic time, for waits and ages.
    fn instant(&self) -> Instant;

    /// Whether `deadline` has been reached: a value that expires at `deadline` is gone at it.
    fn is_past(&self, deadline: Timestamp) -> bool {
        deadline <= self.now()
    }
}

/// A clock that is shared by the parts of one store.
pub type SharedClock = Arc<dyn Clock>;

/// The clock of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl SystemClock {
    /// The system clock behind a shared handle.
    pub fn shared() -> SharedClock {
        Arc::new(Self)
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the door that everyone else is sent to")]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Timestamp::EPOCH.saturating_add(since)
    }

    fn instant(&self) -> Instant {
        Instant::now()
    }

    /// By the clock of the last tick as long as the deadline is far, which takes a tenth of the time;
    /// that one lags by some milliseconds and never runs ahead.
    #[inline]
    fn is_past(&self, deadline: Timestamp) -> bool {
        #[cfg(target_os = "linux")]
        if deadline > at_last_tick().saturating_add(TICK_MAX) {
            return false;
        }
        deadline <= self.now()
    }
}

/// The clock of the last tick is never so far behind: a tick takes at most 10 ms.
#[cfg(target_os = "linux")]
const TICK_MAX: Duration = Duration::from_secs(1);

/// What the wall clock said at the last tick of the kernel's scheduler.
#[cfg(target_os = "linux")]
fn at_last_tick() -> Timestamp {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    let nanos = now.tv_sec.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec);
    // Before the epoch, only the precise clock is asked.
    u64::try_from(nanos).map_or(Timestamp::MAX, Timestamp::from_nanos)
}

/// A clock that stands still until a test moves it. Clones share their time.
#[derive(Clone, Debug)]
pub struct ManualClock {
    base: Instant,
    start: Timestamp,
    elapsed: Arc<AtomicU64>,
    stepped: Arc<std::sync::atomic::AtomicI64>,
}

impl ManualClock {
    /// A clock that stands at `start`.
    pub fn starting_at(start: Timestamp) -> Self {
        Self {
            base: SystemClock.instant(),
            start,
            elapsed: Arc::default(),
            stepped: Arc::default(),
        }
    }

    /// Lets `by` pass, on both scales.
    pub fn advance(&self, by: Duration) {
        let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        self.elapsed.fetch_add(nanos, Ordering::SeqCst);
    }

    /// Corrects the wall clock by `nanos`, which may be negative; the monotonic scale stays.
    pub fn step_wall(&self, nanos: i64) {
        self.stepped.fetch_add(nanos, Ordering::SeqCst);
    }

    /// This clock behind a shared handle.
    pub fn shared(&self) -> SharedClock {
        Arc::new(self.clone())
    }
}

impl Default for ManualClock {
    /// Stands at 2026-01-01, far from both ends of the range.
    fn default() -> Self {
        Self::starting_at(Timestamp::from_millis(1_767_225_600_000))
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        let elapsed = self.elapsed.load(Ordering::SeqCst);
        let nanos = self.start.as_nanos().saturating_add(elapsed);
        Timestamp::from_nanos(nanos.saturating_add_signed(self.stepped.load(Ordering::SeqCst)))
    }

    fn instant(&self) -> Instant {
        self.base + Duration::from_nanos(self.elapsed.load(Ordering::SeqCst))
    }
}

/// Fills `buffer` with bytes from the operating system's generator.
///
/// When the system has none to give, which no supported platform does after boot, the bytes come
/// from a counter mixed with the clock and the process id: still distinct, no longer secret.
/// Nothing in larder needs secrecy from them.
pub fn fill_random(buffer: &mut [u8]) {
    static FALLBACK: AtomicU64 = AtomicU64::new(0);
    if getrandom::fill(buffer).is_ok() {
        return;
    }
    for chunk in buffer.chunks_mut(8) {
        let count = FALLBACK.fetch_add(1, Ordering::Relaxed);
        let seed = SystemClock.now().as_nanos() ^ (u64::from(std::process::id()) << 32) ^ count;
        let mixed = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(31) ^ count;
        chunk.copy_from_slice(&mixed.to_le_bytes()[..chunk.len()]);
    }
}

/// A random word; see [`fill_random`].
pub fn random_u64() -> u64 {
    let mut bytes = [0; 8];
    fill_random(&mut bytes);
    u64::from_le_bytes(bytes)
}

/// Words that a seed decides, for pauses and lives of unequal length that a simulation can repeat. Nothing for secrets.
///
/// Source: G. Steele, D. Lea, C. Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014 (SplitMix64).
#[derive(Debug)]
pub struct Words(AtomicU64);

impl Words {
    /// The same seed gives the same sequence.
    pub const fn seeded(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// A sequence that nobody foresees.
    pub fn random() -> Self {
        Self::seeded(random_u64())
    }

    /// The next word.
    pub fn next(&self) -> u64 {
        const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
        let mut word = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let clock = ManualClock::default();
        let (wall, instant) = (clock.now(), clock.instant());
        assert_eq!((clock.now(), clock.instant()), (wall, instant));
        clock.advance(Duration::from_millis(5));
        assert_eq!(clock.now().since(wall), Duration::from_millis(5));
        assert_eq!(clock.instant() - instant, Duration::from_millis(5));
    }

    #[test]
    fn a_corrected_wall_clock_leaves_the_monotonic_scale_alone() {
        let clock = ManualClock::default();
        let (wall, instant) = (clock.now(), clock.instant());
        clock.step_wall(-3_600_000_000_000);
        assert_eq!(wall.since(clock.now()), Duration::from_hours(1));
        assert_eq!(clock.instant(), instant);
    }

    #[test]
    fn the_system_clock_tells_what_is_past_as_its_time_does() {
        let clock = SystemClock;
        for millis in [0, 1, 5, 20, 999, 1_001, 60_000] {
            let by = Duration::from_millis(millis);
            let past = clock.now().saturating_sub(by);
            assert!(clock.is_past(past), "{millis} ms ago");
            // Half a second is enough for two calls.
            let future = clock.now().saturating_add(by + Duration::from_millis(500));
            assert!(!clock.is_past(future), "in {millis} ms and a half second");
        }
        assert!(clock.is_past(Timestamp::EPOCH) && !clock.is_past(Timestamp::MAX));
        // To the nanosecond, not to the tick: whatever was past before, is.
        for _ in 0..1_000 {
            let now = clock.now();
            assert!(clock.is_past(now));
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_last_tick_is_neither_ahead_nor_far_behind() {
        for _ in 0..1_000 {
            let (tick, now) = (at_last_tick(), SystemClock.now());
            assert!(tick <= now && now.since(tick) < TICK_MAX, "{tick} {now}");
        }
    }

    #[test]
    fn words_are_those_of_their_seed() {
        let words = |seed| {
            let words = Words::seeded(seed);
            [(); 4].map(|()| words.next())
        };
        assert_eq!(words(7), words(7));
        assert_ne!(words(7), words(8));
        // Those of the paper's generator.
        assert_eq!(words(0)[..2], [0xE220_A839_7B1D_CDAF, 0x6E78_9E6A_A1B9_65F4]);
        assert_ne!(Words::random().next(), Words::random().next());
    }

    #[test]
    fn a_deadline_is_past_at_its_own_moment() {
        let clock = ManualClock::default();
        assert!(clock.is_past(clock.now()));
        assert!(!clock.is_past(clock.now().saturating_add(Duration::from_nanos(1))));
    }
}
