//! Pauses after failed refreshes.

use std::time::{Duration, Instant};

use larder_core::{Key, KeyRef};
use quick_cache::UnitWeighter;
use quick_cache::sync::{Cache as Entries, DefaultLifecycle};
use rapidhash::fast::RandomState;

use super::LoadOptions;

/// The keys whose loader has failed while a stale value was there, and until when each is left
/// alone.
///
/// Bounded: beyond [`Pauses::KEYS_MAX`] keys some are forgotten, and their loaders asked again
/// sooner than need be.
pub(in crate::cache) struct Pauses(Entries<Key, Pause, UnitWeighter, RandomState>);

#[derive(Clone, Copy)]
struct Pause {
    until: Instant,
    failures: u32,
}

impl Pauses {
    const KEYS_MAX: usize = 16_384;

    pub(in crate::cache) fn new() -> Self {
        let capacity = u64::try_from(Self::KEYS_MAX).unwrap_or(u64::MAX);
        let (weighter, hasher) = (UnitWeighter, RandomState::default());
        // The estimate is what memory is reserved for: few keys fail at a time.
        Self(Entries::with(1_024, capacity, weighter, hasher, DefaultLifecycle::default()))
    }

    /// Whether `key` is left alone at `now`.
    pub(in crate::cache) fn holds(&self, key: KeyRef<'_>, now: Instant) -> bool {
        self.0.get(key.as_str()).is_some_and(|pause| now < pause.until)
    }

    /// Notes that a refresh of `key` has failed.
    pub(in crate::cache) fn failed(&self, key: KeyRef<'_>, options: &LoadOptions, now: Instant) {
        let failures = self.0.get(key.as_str()).map_or(0, |pause| pause.failures);
        let doubled = options.back_off.saturating_mul(2_u32.saturating_pow(failures));
        let pause = doubled.min(options.back_off_max);
        let until = now.checked_add(pause).unwrap_or(now + Self::LONGEST);
        self.0.insert(key.to_key(), Pause { until, failures: failures.saturating_add(1) });
    }

    /// Notes that `key` has a new value.
    pub(in crate::cache) fn end(&self, key: KeyRef<'_>) {
        self.0.remove(key.as_str());
    }

    /// Stands for a pause that no clock reaches.
    const LONGEST: Duration = Duration::from_hours(24 * 365);
}

#[cfg(test)]
mod tests {
    use larder_core::{Clock as _, ManualClock};

    use super::*;

    #[test]
    fn each_failure_doubles_the_pause_up_to_the_longest_and_a_success_ends_it() {
        let (clock, pauses) = (ManualClock::default(), Pauses::new());
        let key = KeyRef::new("k").unwrap();
        let options =
            LoadOptions::new().back_off(Duration::from_millis(10), Duration::from_millis(35));
        for wanted in [10, 20, 35, 35] {
            pauses.failed(key, &options, clock.instant());
            clock.advance(Duration::from_millis(wanted - 1));
            assert!(pauses.holds(key, clock.instant()), "after {wanted}");
            clock.advance(Duration::from_millis(1));
            assert!(!pauses.holds(key, clock.instant()), "after {wanted}");
        }
        pauses.end(key);
        pauses.failed(key, &options, clock.instant());
        clock.advance(Duration::from_millis(10));
        assert!(!pauses.holds(key, clock.instant()));
    }

    #[test]
    fn it_remembers_a_bounded_number_of_keys() {
        let (clock, pauses) = (ManualClock::default(), Pauses::new());
        for n in 0..3 * Pauses::KEYS_MAX {
            let key = format!("k{n}");
            pauses.failed(KeyRef::new(&key).unwrap(), &LoadOptions::new(), clock.instant());
        }
        assert!(pauses.0.len() <= Pauses::KEYS_MAX);
    }
}
