//! The keys of a store: their numbers, their versions, and the one write that may be on its way.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use larder_core::SeqNo;
use larder_log::{Log, Outcome, Slot, Ticket};

use super::slot;
use crate::driver::log as driver;

/// The sequence numbers that are durable and not truncated, in order.
pub(super) type Versions = BTreeSet<SeqNo>;

/// Where the name of a key is stored: beyond every valid sequence number.
const NAME: u64 = u64::MAX;

/// The record of one version.
pub(super) fn version_slot(number: u64, seqno: SeqNo) -> Slot {
    slot(number, seqno.0)
}

/// The record of a key's name.
pub(super) fn name_slot(number: u64) -> Slot {
    slot(number, NAME)
}

/// All keys of a store.
#[derive(Default)]
pub(super) struct Keys {
    table: RwLock<Table>,
}

#[derive(Default)]
struct Table {
    states: HashMap<String, Arc<KeyState>>,
    next_number: u64,
}

impl Keys {
    /// Reads the keys of a log that was just opened; the error says what cannot be trusted.
    pub(super) fn recover(log: &Log) -> Result<Self, String> {
        if let Some(damage) = log.damaged(driver::CONSENSUS).first() {
            return Err(damage.to_string());
        }
        if let Some(reason) = log.unhealthy_reason() {
            return Err(reason.to_owned());
        }
        let mut versions: HashMap<u64, Versions> = HashMap::new();
        let mut table = Table::default();
        let mut names = Vec::new();
        for entry in log.snapshot(driver::CONSENSUS) {
            let (number, below) = split(entry.slot);
            table.next_number = table.next_number.max(number.saturating_add(1));
            if below == NAME {
                names.push((number, entry));
            } else {
                versions.entry(number).or_default().insert(SeqNo(below));
            }
        }
        for (number, entry) in names {
            let read = log.get(entry.slot).map_err(|error| error.to_string())?;
            let name = read.and_then(|name| String::from_utf8(name.into()).ok());
            let name = name.ok_or_else(|| format!("key number {number} has no readable name"))?;
            let versions = versions.remove(&number).unwrap_or_default();
            if versions.is_empty() {
                return Err(format!("key number {number} has a name but no version"));
            }
            table.states.insert(name, Arc::new(KeyState::new(number, versions)));
        }
        match versions.into_keys().next() {
            None => Ok(Self { table: RwLock::new(table) }),
            Some(number) => Err(format!("key number {number} has versions but no name")),
        }
    }

    /// The state of a key that was ever entered.
    pub(super) fn find(&self, key: &str) -> Option<Arc<KeyState>> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.states.get(key).map(Arc::clone)
    }

    /// The state of a key, entered now if it is new.
    pub(super) fn enter(&self, key: &str) -> Arc<KeyState> {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(state) = table.states.get(key) {
            return Arc::clone(state);
        }
        let number = table.next_number;
        table.next_number += 1;
        let state = Arc::new(KeyState::new(number, Versions::new()));
        table.states.insert(key.to_owned(), Arc::clone(&state));
        state
    }

    /// Drops a key that has no version and no write on its way, so that failed first writes leave
    /// nothing behind.
    pub(super) fn forget_if_empty(&self, key: &str) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let Some(state) = table.states.get(key).map(Arc::clone) else { return };
        let mut inner = state.lock();
        inner.settle();
        if inner.versions.is_empty() && inner.pending.is_none() {
            // Whoever still holds the state must not write to it: the key may be entered anew.
            inner.forgotten = true;
            table.states.remove(key);
        }
    }

    /// Every key with a committed version.
    pub(super) fn committed(&self) -> Vec<String> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let committed = |state: &KeyState| {
            let mut inner = state.lock();
            inner.settle();
            !inner.versions.is_empty()
        };
        let keys = table.states.iter().filter(|(_, state)| committed(state));
        keys.map(|(key, _)| key.clone()).collect()
    }
}

/// One key.
pub(super) struct KeyState {
    number: u64,
    inner: Mutex<Inner>,
}

impl KeyState {
    fn new(number: u64, versions: Versions) -> Self {
        Self { number, inner: Mutex::new(Inner { versions, pending: None, forgotten: false }) }
    }

    /// The number that stands for the key in the ids of its records.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The changing part of a key.
pub(super) struct Inner {
    versions: Versions,
    pending: Option<(Ticket, Write)>,
    forgotten: bool,
}

/// What a write does to the versions once it is durable.
#[derive(Clone, Copy, Debug)]
pub(super) enum Write {
    Append(SeqNo),
    Truncate { below: SeqNo },
}

impl Inner {
    pub(super) fn versions(&self) -> &Versions {
        &self.versions
    }

    /// The newest durable version.
    pub(super) fn head(&mut self) -> Option<SeqNo> {
        self.settle();
        self.versions.last().copied()
    }

    /// Whether the key was dropped from the table.
    pub(super) fn is_forgotten(&self) -> bool {
        self.forgotten
    }

    /// The write that is on its way.
    pub(super) fn pending(&self) -> Option<Ticket> {
        self.pending.as_ref().map(|(ticket, _)| ticket.clone())
    }

    pub(super) fn start(&mut self, ticket: Ticket, write: Write) {
        self.pending = Some((ticket, write));
    }

    /// Applies the write that was on its way if the log has answered.
    ///
    /// After an unknown outcome the versions stay as they were: the log is then poisoned, so that
    /// no later write can build on the wrong state, and the next open decides.
    pub(super) fn settle(&mut self) {
        let Some(outcome) = self.pending.as_ref().and_then(|(ticket, _)| ticket.outcome()) else {
            return;
        };
        let Some((_, write)) = self.pending.take() else { return };
        if matches!(outcome, Outcome::Done { .. }) {
            match write {
                Write::Append(seqno) => {
                    self.versions.insert(seqno);
                }
                Write::Truncate { below } => self.versions = self.versions.split_off(&below),
            }
        }
    }
}

fn split(slot: Slot) -> (u64, u64) {
    let (number, below) = slot.id.split_at(8);
    let word = |half: &[u8]| half.try_into().map_or(0, u64::from_be_bytes);
    (word(number), word(below))
}
