//! What a layer has missed, and therefore must not answer for.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use larder_core::{Key, KeyRef, Repair, Timestamp, Version};
use metrics::{Counter, Gauge, counter, gauge};

use super::ledger::{Ledger, Owes};
use super::payer::Alarm;
use super::repairs::Repairs;
use crate::compose::CompositionLayer;

/// The keys whose last write or remove a layer has missed, or may have missed.
///
/// For them the layer counts as not holding anything: what it holds may be older than what the
/// other layer was told. A debt is paid by the next write or remove of the key that the layer
/// confirms, or by the payer. At [`Debts::KEYS_MAX`] the layer as a whole counts as empty until it was
/// cleared.
#[derive(Debug)]
pub(super) struct Debts {
    /// The number of keys, or `WHOLE`: asked by every read, so it takes no lock.
    count: AtomicUsize,
    state: Mutex<State>,
    /// Rung when something is owed.
    alarm: Arc<Alarm>,
    /// Told of what is paid.
    repairs: Arc<Repairs>,
    /// Where it is written down.
    ledger: Option<Ledger>,
    gauge: Gauge,
    counts: Counts,
}

#[derive(Debug)]
struct Counts {
    made: Counter,
    paid: Counter,
    dropped: Counter,
}

/// What a layer of a [`Tiered`](super::Tiered) cache has missed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DebtStats {
    /// Keys whose last change the layer has missed, or may have missed.
    pub owed: u64,
    /// There were too many of them, or it has missed a clear: the layer counts as empty until it was
    /// cleared.
    pub whole: bool,
    /// Keys that came to be owed.
    pub made: u64,
    /// Those that are settled again.
    pub paid: u64,
    /// Those that were given up for a clear of the whole layer.
    pub dropped: u64,
}

#[derive(Debug, Default)]
struct State {
    owed: HashMap<Key, Debt>,
    whole: Option<Whole>,
    made: u64,
    paid: u64,
    dropped: u64,
}

/// What a layer that owes a key means for a write that is conditional on a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owed {
    /// Nothing: the layer decides by what it holds.
    Nothing,
    /// What the layer holds decides only if it is not older than this; `None`: not at all.
    Void(Option<Version>),
    /// The layer has missed a version that is not older: the write comes too late.
    Newer,
}

#[derive(Clone, Copy, Debug)]
struct Whole {
    number: u64,
    clear_from: Instant,
    due: Due,
}

mod debt;

pub(super) use debt::{Debt, Due, Loss, Missed, latest};

const WHOLE: usize = usize::MAX;

impl Debts {
    /// How many keys are told apart.
    pub(super) const KEYS_MAX: usize = 16_384;
    /// How long to wait between two attempts to clear a layer.
    const CLEAR_EVERY: Duration = Duration::from_secs(1);

    /// The debts of `layer`, shown by the gauge `larder_cache_owed_keys` and counted in
    /// `larder_cache_debts_total`. They ring the `alarm`.
    pub(super) fn new(
        composition: &str,
        layer: CompositionLayer,
        alarm: Arc<Alarm>,
        repairs: Arc<Repairs>,
    ) -> Self {
        let (name, layer) = (|| composition.to_owned(), layer.as_str());
        let counted = |outcome: &'static str| {
            counter!(
                "larder_cache_debts_total",
                "composition" => name(), "layer" => layer, "outcome" => outcome
            )
        };
        Self {
            count: AtomicUsize::new(0),
            state: Mutex::default(),
            alarm,
            repairs,
            ledger: None,
            gauge: gauge!("larder_cache_owed_keys", "composition" => name(), "layer" => layer),
            counts: Counts {
                made: counted("made"),
                paid: counted("paid"),
                dropped: counted("dropped"),
            },
        }
    }

    /// The same debts, written down in `ledger`, with those that are `owed` from before.
    pub(super) fn written_in(
        mut self,
        ledger: Ledger,
        owed: Vec<(Option<Key>, Owes)>,
        now: impl Fn() -> Instant,
    ) -> Self {
        let mut keys = Vec::new();
        for (key, Owes { due, loss }) in owed {
            match &key {
                // Any call of this process is later.
                Some(key) => self.note(key.as_ref(), Debt { number: 0, loss, due }, &now),
                None => self.owe_all_from(0, due, now()),
            }
            keys.push(key);
        }
        // It is written down as it was, unless it came to be everything.
        self.ledger = Some(ledger);
        if self.lock().whole.is_some() {
            self.touch(|| None);
            for key in keys {
                self.touch(|| key);
            }
        }
        self
    }

    /// Writes down what has changed, if there is a ledger.
    pub(super) async fn write_down(&self) {
        if let Some(ledger) = &self.ledger {
            ledger.write(|key| self.owes_now(key)).await;
        }
    }

    fn owes_now(&self, key: Option<&Key>) -> Option<Owes> {
        let state = self.lock();
        match key {
            Some(key) => {
                let debt = state.owed.get(key.as_str())?;
                Some(Owes { due: debt.due, loss: debt.loss })
            }
            None => state.whole.map(|whole| Owes::all(whole.due)),
        }
    }

    /// Notes that what is owed of a key, or as a whole, is to be written down.
    fn touch(&self, key: impl FnOnce() -> Option<Key>) {
        if let Some(ledger) = &self.ledger {
            ledger.touch(key());
            // Whoever pays writes it down as well, if nobody else does.
            self.alarm.ring();
        }
    }

    /// Whether the layer owes nothing.
    pub(super) fn is_clear(&self) -> bool {
        self.count.load(Ordering::SeqCst) == 0
    }

    /// Some of the keys that are owed, in no order.
    pub(super) fn some(&self, most: usize) -> Vec<Key> {
        if self.is_clear() {
            return Vec::new();
        }
        self.lock().owed.keys().take(most).cloned().collect()
    }

    /// What is owed of `key`.
    pub(super) fn of(&self, key: KeyRef<'_>) -> Option<Debt> {
        self.lock().owed.get(key.as_str()).copied()
    }

    pub(super) fn stats(&self) -> DebtStats {
        let state = self.lock();
        DebtStats {
            owed: u64::try_from(state.owed.len()).unwrap_or(u64::MAX),
            whole: state.whole.is_some(),
            made: state.made,
            paid: state.paid,
            dropped: state.dropped,
        }
    }

    /// How many keys are owed; `None` when the layer as a whole counts as empty.
    pub(super) fn owed_keys(&self) -> Option<u64> {
        let count = self.count.load(Ordering::Relaxed);
        (count != WHOLE).then(|| u64::try_from(count).unwrap_or(u64::MAX))
    }

    /// How many changes of what is owed are not written down yet; without a ledger none is to be.
    pub(super) fn unwritten(&self) -> u64 {
        self.ledger.as_ref().map_or(0, Ledger::unwritten)
    }

    /// Whether the layer counts as not holding `key`.
    #[inline]
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
            WHOLE => Owed::Void(None),
            _ => match self.lock().owed.get(key.as_str()) {
                None => Owed::Nothing,
                Some(debt) if debt.loss.missed.is_some_and(holds) => Owed::Newer,
                Some(debt) => Owed::Void(debt.loss.bound()),
            },
        }
    }

    /// Notes that the call with this number has not, or maybe not, reached the layer.
    pub(super) fn owe(
        &self,
        key: KeyRef<'_>,
        number: u64,
        loss: Loss,
        now: impl FnOnce() -> Instant,
    ) {
        self.note(key, Debt { number, loss, due: Due::Remove }, now);
    }

    /// Notes that the layer may still have a private copy of the key.
    pub(super) fn owe_forgetting(
        &self,
        key: KeyRef<'_>,
        number: u64,
        now: impl FnOnce() -> Instant,
    ) {
        self.note(key, Debt { number, loss: Loss::default(), due: Due::Forget }, now);
    }

    fn note(&self, key: KeyRef<'_>, new: Debt, now: impl FnOnce() -> Instant) {
        let mut state = self.lock();
        if let Some(whole) = &mut state.whole {
            whole.number = whole.number.max(new.number);
            if whole.due < new.due {
                whole.due = new.due;
                self.touch(|| None);
            }
            return;
        }
        let known = state.owed.get(key.as_str()).copied();
        if known.is_none() && state.owed.len() >= Self::KEYS_MAX {
            let due = state.owed.values().map(|debt| debt.due).fold(new.due, Due::max);
            self.give_up(&mut state);
            state.whole = Some(Whole { number: new.number, clear_from: now(), due });
            self.touch(|| None);
        } else {
            if known.is_none() {
                state.made += 1;
                self.counts.made.increment(1);
            }
            let debt = known.map_or(new, |known| known.joined(new));
            // Its number means nothing to another process.
            if known.is_none_or(|known| (known.loss, known.due) != (debt.loss, debt.due)) {
                self.touch(|| Some(key.to_key()));
            }
            state.owed.insert(key.to_key(), debt);
        }
        self.show(&state);
        drop(state);
        self.alarm.ring();
    }

    /// Notes that the layer as a whole has missed a clear.
    pub(super) fn owe_all(&self, number: u64, due: Due, now: Instant) {
        self.owe_all_from(number, due, now + Self::CLEAR_EVERY);
    }

    fn owe_all_from(&self, number: u64, due: Due, clear_from: Instant) {
        let mut state = self.lock();
        let others = state.owed.values().map(|debt| debt.due);
        let due = others.chain(state.whole.map(|whole| whole.due)).fold(due, Due::max);
        self.give_up(&mut state);
        state.whole = Some(Whole { number, clear_from, due });
        self.touch(|| None);
        self.show(&state);
        drop(state);
        self.alarm.ring();
    }

    /// Drops what a clear of the whole layer pays as well.
    fn give_up(&self, state: &mut State) {
        let owed = std::mem::take(&mut state.owed);
        let count = u64::try_from(owed.len()).unwrap_or(u64::MAX);
        for key in owed.into_keys() {
            self.touch(|| Some(key));
        }
        state.dropped += count;
        self.counts.dropped.increment(count);
    }

    /// Notes that the call with this number has reached the layer: older debts of the key are paid.
    pub(super) fn pay(&self, key: KeyRef<'_>, number: u64) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut state = self.lock();
        if state.owed.get(key.as_str()).is_none_or(|debt| debt.number > number) {
            return;
        }
        let paid = state.owed.remove(key.as_str());
        self.touch(|| Some(key.to_key()));
        state.paid += 1;
        self.counts.paid.increment(1);
        self.show(&state);
        drop(state);
        // What was forgotten here only, nobody else has seen.
        if paid.is_some_and(|debt| debt.due == Due::Remove) {
            self.repairs.tell(Repair::Key(key));
        }
    }

    /// Notes that a clear which began at this number has succeeded.
    pub(super) fn pay_all(&self, number: u64) {
        let mut state = self.lock();
        let before = state.owed.len();
        state.owed.retain(|key, debt| {
            let stays = debt.number > number;
            if !stays {
                self.touch(|| Some(key.clone()));
            }
            stays
        });
        let paid = u64::try_from(before - state.owed.len()).unwrap_or(u64::MAX);
        state.paid += paid;
        self.counts.paid.increment(paid);
        let whole = state.whole.take_if(|whole| whole.number <= number);
        if whole.is_some() {
            self.touch(|| None);
        }
        self.show(&state);
        drop(state);
        if paid > 0 || whole.is_some_and(|whole| whole.due == Due::Remove) {
            self.repairs.tell(Repair::All);
        }
    }

    /// Whether the layer should be cleared now, and how; the next one who asks gets a pause.
    pub(super) fn wants_clear(&self, now: impl FnOnce() -> Instant) -> Option<Due> {
        if self.count.load(Ordering::SeqCst) != WHOLE {
            return None;
        }
        let (mut state, now) = (self.lock(), now());
        let whole = state.whole.as_mut().filter(|whole| whole.clear_from <= now)?;
        whole.clear_from = now + Self::CLEAR_EVERY;
        Some(whole.due)
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
mod tests;
