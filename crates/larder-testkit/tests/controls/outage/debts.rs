use std::collections::BTreeMap;

use larder_core::{CacheValue, Key, KeyRef, Version};

use super::Defect;
use bytes::Bytes;

/// So many keys are told apart.
const KEYS_MAX: usize = 1_000;

/// What the far tier has missed of a key.
#[derive(Clone, Debug)]
pub(super) struct Debt {
    /// Counts up with each change of the key.
    pub(super) number: u64,
    /// Whatever is not newer than this has to go.
    pub(super) bound: Version,
    /// What was to be written, unless it was a remove.
    pub(super) missed: Option<CacheValue<Bytes>>,
}

/// What the far tier has missed: in the place, so that it is the ledger too.
#[derive(Debug, Default)]
pub(super) struct Debts {
    pub(super) owed: BTreeMap<Key, Debt>,
    /// The last change that was missed together with everything else.
    pub(super) all: Option<u64>,
    last: u64,
    changes: u64,
    /// Debts that were paid, as a ledger has them that strikes nothing out.
    paid: Vec<(Key, Debt)>,
}

impl Debts {
    /// A change that the far tier misses until it has confirmed it; its number.
    pub(super) fn owe(
        &mut self,
        key: KeyRef<'_>,
        bound: Version,
        missed: Option<CacheValue<Bytes>>,
        defect: Defect,
    ) -> u64 {
        self.last += 1;
        if let Some(all) = &mut self.all {
            *all = self.last;
            return self.last;
        }
        let is_full = !self.owed.contains_key(key.as_str()) && self.owed.len() >= KEYS_MAX;
        match defect {
            Defect::ForgetsAtTheBound if is_full => return self.last,
            Defect::GrowsWithoutBound => {}
            _ if is_full => {
                self.owe_all();
                return self.last;
            }
            _ => {}
        }
        self.changes += 1;
        let debt = Debt { number: self.last, bound, missed };
        match self.owed.get_mut(key.as_str()) {
            Some(known) if defect == Defect::PaysTheOldest => known.number = self.last,
            _ => drop(self.owed.insert(key.to_key(), debt)),
        }
        self.last
    }

    pub(super) fn owe_all(&mut self) {
        self.last += 1;
        self.owed.clear();
        self.all = Some(self.last);
    }

    /// The far tier has made a change, and none since was missed.
    pub(super) fn settle(&mut self, key: KeyRef<'_>, number: u64) {
        if self.owed.get(key.as_str()).is_some_and(|debt| debt.number == number)
            && let Some((key, debt)) = self.owed.remove_entry(key.as_str())
        {
            self.changes = if self.owed.is_empty() { 0 } else { self.changes };
            self.paid.push((key, debt));
        }
    }

    /// The far tier was cleared, and nothing since was missed.
    pub(super) fn settle_all(&mut self, number: u64) {
        self.all.take_if(|all| *all == number);
    }

    pub(super) fn owes(&self, key: KeyRef<'_>) -> bool {
        self.all.is_some() || self.owed.contains_key(key.as_str())
    }

    pub(super) fn count(&self, defect: Defect) -> u64 {
        match defect {
            Defect::CountsEveryChange => self.changes,
            _ => u64::try_from(self.owed.len()).unwrap(),
        }
    }

    /// What the next process finds in the ledger.
    pub(super) fn read_again(&mut self, defect: Defect) {
        match defect {
            Defect::NeverStrikesOut => self.owed.extend(self.paid.drain(..)),
            Defect::WritesDownKeysOnly => self.all = None,
            _ => {}
        }
    }
}
