//! What a layer has missed, and therefore must not answer for.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use larder_core::{Key, KeyRef, Timestamp, Version};
use metrics::{Gauge, gauge};

/// The keys whose last write or remove a layer has missed, or may have missed.
///
/// For them the layer counts as not holding anything: what it holds may be older than what the
/// other layer was told. A debt is paid by the next write or remove of the key that the layer
/// confirms. At [`Debts::KEYS_MAX`] the layer as a whole counts as empty until it was cleared.
#[derive(Debug)]
pub(super) struct Debts {
    /// The number of keys, or `WHOLE`: asked by every read, so it takes no lock.
    count: AtomicUsize,
    state: Mutex<State>,
    gauge: Gauge,
}

#[derive(Debug, Default)]
struct State {
    owed: HashMap<Key, Debt>,
    whole: Option<Whole>,
}

/// What a layer has missed of one key.
#[derive(Clone, Copy, Debug)]
struct Debt {
    /// The number of the call that made the debt.
    number: u64,
    /// What a conditional write would have left there.
    missed: Option<Missed>,
}

/// A value that a layer should hold by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Missed {
    pub(super) version: Version,
    pub(super) expire: Option<Timestamp>,
}

/// What a layer that owes a key means for a write that is conditional on a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owed {
    /// Nothing: the layer decides by what it holds.
    Nothing,
    /// The layer counts as not holding the key: the write goes through.
    Free,
    /// The layer has missed a version that is not older: the write comes too late.
    Newer,
}

#[derive(Clone, Copy, Debug)]
struct Whole {
    number: u64,
    clear_from: Instant,
}

const WHOLE: usize = usize::MAX;

impl Debts {
    /// How many keys are told apart.
    pub(super) const KEYS_MAX: usize = 16_384;
    /// How long to wait between two attempts to clear a layer.
    const CLEAR_EVERY: Duration = Duration::from_secs(1);

    /// The debts of `layer`, shown by the gauge `larder_cache_owed_keys`.
    pub(super) fn new(composition: &str, layer: &'static str) -> Self {
        let composition = composition.to_owned();
        Self {
            count: AtomicUsize::new(0),
            state: Mutex::default(),
            gauge: gauge!("larder_cache_owed_keys", "composition" => composition, "layer" => layer),
        }
    }

    /// How many keys are owed; `None` when the layer as a whole counts as empty.
    pub(super) fn owed_keys(&self) -> Option<u64> {
        let count = self.count.load(Ordering::Relaxed);
        (count != WHOLE).then(|| u64::try_from(count).unwrap_or(u64::MAX))
    }

    /// Whether the layer counts as not holding `key`.
    pub(super) fn owes(&self, key: KeyRef<'_>) -> bool {
        match self.count.load(Ordering::SeqCst) {
            0 => false,
            WHOLE => true,
            _ => self.lock().owed.contains_key(key.as_str()),
        }
    }

    /// What the debt of `key` means for a write that is conditional on `version`.
    pub(super) fn owed(&self, key: KeyRef<'_>, version: Version, now: Timestamp) -> Owed {
        let holds = |missed: Missed| {
            missed.version >= version && missed.expire.is_none_or(|expire| now < expire)
        };
        match self.count.load(Ordering::SeqCst) {
            0 => Owed::Nothing,
            WHOLE => Owed::Free,
            _ => match self.lock().owed.get(key.as_str()) {
                None => Owed::Nothing,
                Some(debt) if debt.missed.is_some_and(holds) => Owed::Newer,
                Some(_) => Owed::Free,
            },
        }
    }

    /// Notes that the call with this number has not, or maybe not, reached the layer; `missed` is
    /// what a conditional write would have left there.
    pub(super) fn owe(
        &self,
        key: KeyRef<'_>,
        number: u64,
        missed: Option<Missed>,
        now: impl FnOnce() -> Instant,
    ) {
        let mut state = self.lock();
        if let Some(whole) = &mut state.whole {
            whole.number = whole.number.max(number);
            return;
        }
        if state.owed.len() >= Self::KEYS_MAX && !state.owed.contains_key(key.as_str()) {
            state.owed = HashMap::new();
            state.whole = Some(Whole { number, clear_from: now() });
        } else {
            let new = Debt { number, missed };
            let debt = state.owed.entry(key.to_key()).or_insert(new);
            *debt = match (debt.missed, missed) {
                // By version: the later call may be the one with the older value.
                (Some(held), Some(missed)) => {
                    Debt { number: debt.number.max(number), missed: Some(held.max(missed)) }
                }
                _ if debt.number > number => *debt,
                _ => new,
            };
        }
        self.show(&state);
    }

    /// Notes that the layer as a whole has missed a clear.
    pub(super) fn owe_all(&self, number: u64, now: Instant) {
        let mut state = self.lock();
        state.owed = HashMap::new();
        state.whole = Some(Whole { number, clear_from: now + Self::CLEAR_EVERY });
        self.show(&state);
    }

    /// Notes that the call with this number has reached the layer: older debts of the key are paid.
    pub(super) fn pay(&self, key: KeyRef<'_>, number: u64) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut state = self.lock();
        if state.owed.get(key.as_str()).is_some_and(|debt| debt.number <= number) {
            state.owed.remove(key.as_str());
            self.show(&state);
        }
    }

    /// Notes that a clear which began at this number has succeeded.
    pub(super) fn pay_all(&self, number: u64) {
        let mut state = self.lock();
        state.owed.retain(|_, debt| debt.number > number);
        if state.whole.is_some_and(|whole| whole.number <= number) {
            state.whole = None;
        }
        self.show(&state);
    }

    /// Whether the layer should be cleared now; the next one who asks gets a pause.
    pub(super) fn wants_clear(&self, now: impl FnOnce() -> Instant) -> bool {
        if self.count.load(Ordering::SeqCst) != WHOLE {
            return false;
        }
        let (mut state, now) = (self.lock(), now());
        match &mut state.whole {
            Some(whole) if whole.clear_from <= now => {
                whole.clear_from = now + Self::CLEAR_EVERY;
                true
            }
            _ => false,
        }
    }

    fn show(&self, state: &State) {
        let count = if state.whole.is_some() { WHOLE } else { state.owed.len() };
        self.count.store(count, Ordering::SeqCst);
        let shown = if state.whole.is_some() { Self::KEYS_MAX } else { state.owed.len() };
        self.gauge.set(f64::from(u32::try_from(shown).unwrap_or(u32::MAX)));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use larder_core::{Clock as _, ManualClock};

    use super::*;

    fn key(text: &str) -> KeyRef<'_> {
        KeyRef::new(text).unwrap()
    }

    #[test]
    fn a_debt_is_paid_by_its_own_or_a_later_call_only() {
        let clock = ManualClock::default();
        let debts = Debts::new("test", "l2");
        debts.owe(key("k"), 5, None, || clock.instant());
        debts.pay(key("k"), 4);
        assert!(debts.owes(key("k")) && !debts.owes(key("other")));
        debts.pay(key("k"), 5);
        assert!(!debts.owes(key("k")));
    }

    #[test]
    fn at_the_bound_the_whole_layer_counts_as_empty_until_it_was_cleared() {
        let clock = ManualClock::default();
        let debts = Debts::new("test", "l2");
        for n in 0..=Debts::KEYS_MAX {
            debts.owe(key(&format!("k{n}")), 1, None, || clock.instant());
        }
        assert!(debts.owes(key("never seen")));
        debts.pay(key("k1"), 9);
        assert!(debts.owes(key("k1")));
        assert!(debts.wants_clear(|| clock.instant()));
        assert!(!debts.wants_clear(|| clock.instant()), "a pause between two attempts");
        clock.advance(Duration::from_secs(1));
        assert!(debts.wants_clear(|| clock.instant()));
        debts.pay_all(10);
        assert!(!debts.owes(key("k1")) && !debts.wants_clear(|| clock.instant()));
    }

    #[test]
    fn a_debt_of_a_version_lets_only_newer_versions_through() {
        let clock = ManualClock::default();
        let debts = Debts::new("test", "l2");
        let version = |reading| Version::from_parts(reading, 1);
        let missed = |reading| Some(Missed { version: version(reading), expire: None });
        let owed = |reading| debts.owed(key("k"), version(reading), clock.now());
        assert_eq!(owed(1), Owed::Nothing);
        debts.owe(key("k"), 1, missed(9), || clock.instant());
        debts.owe(key("k"), 2, missed(5), || clock.instant());
        assert_eq!(owed(8), Owed::Newer);
        assert_eq!(owed(9), Owed::Newer);
        assert_eq!(owed(10), Owed::Free);
        // A later remove takes no part in versions.
        debts.owe(key("k"), 3, None, || clock.instant());
        assert_eq!(owed(1), Owed::Free);
        // What would be gone by now holds nobody back.
        let over = Missed { version: version(9), expire: Some(clock.now()) };
        debts.owe(key("k"), 4, Some(over), || clock.instant());
        assert_eq!(owed(1), Owed::Free);
    }

    #[test]
    fn a_debt_made_during_a_clear_outlives_it() {
        let clock = ManualClock::default();
        let debts = Debts::new("test", "l2");
        debts.owe(key("old"), 1, None, || clock.instant());
        debts.owe(key("new"), 3, None, || clock.instant());
        debts.pay_all(2);
        assert!(!debts.owes(key("old")) && debts.owes(key("new")));
    }
}
