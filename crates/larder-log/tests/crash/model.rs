//! What a log was told and what it answered, and whether what it shows agrees with that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use larder_log::sim::SimRandom;
use larder_log::{Annulment, Durability, Effect, Log, Outcome, ReadError, Slot, Ticket};

/// How many slots a history uses.
pub(crate) const SLOTS: u8 = 6;

/// Values by number; what each slot holds.
pub(crate) type State = BTreeMap<u8, u64>;

/// What one batch did to slots: a value, or nothing any more.
pub(crate) type Ops = Vec<(u8, Option<u64>)>;

pub(crate) fn slot(n: u8) -> Slot {
    Slot { namespace: 1, id: [n; 16] }
}

/// The payload of a value: its number, then noise; the number also decides the length.
pub(crate) fn payload(value: u64) -> Vec<u8> {
    let mut random = SimRandom::new(value);
    let len = match random.below(8) {
        0 => 8,
        1 => 3000,
        2 => 6000,
        _ => 8 + random.below(700),
    };
    let len = usize::try_from(len).unwrap();
    let mut bytes = Vec::with_capacity(len + 8);
    bytes.extend_from_slice(&value.to_le_bytes());
    while bytes.len() < len {
        bytes.extend_from_slice(&random.next().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// The number of a payload, if every byte of it is as it was stored.
pub(crate) fn value(n: u8, bytes: &[u8]) -> Result<u64, String> {
    let number = bytes.first_chunk().ok_or("a payload that was never put")?;
    let value = u64::from_le_bytes(*number);
    if bytes == payload(value) { Ok(value) } else { Err(format!("slot {n} holds garbage")) }
}

/// Reads every slot and checks every byte.
pub(crate) fn observe(log: &Log) -> Result<State, String> {
    let mut state = State::new();
    for n in 0..SLOTS {
        if let Some(bytes) = log.get(slot(n)).map_err(|error| format!("slot {n}: {error}"))? {
            state.insert(n, value(n, &bytes)?);
        }
    }
    Ok(state)
}

/// A batch that was handed over.
pub(crate) struct Submitted {
    pub(crate) ops: Ops,
    pub(crate) power: bool,
    pub(crate) ticket: Ticket,
    pub(crate) annulment: Arc<Mutex<Option<Annulment>>>,
}

/// A sync that was asked for: how many batches came before, and which of them were given up.
struct Syncing {
    ticket: Ticket,
    before: usize,
    given_up: Vec<usize>,
}

/// What the death of a log left of its promises.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Promise {
    /// Only what was synced.
    Synced,
    /// Everything that was answered.
    Answered,
}

/// What a log was told since it was opened last.
#[derive(Default)]
pub(crate) struct History {
    /// What was there then, all of it durable.
    pub(crate) base: State,
    pub(crate) submitted: Vec<Submitted>,
    syncs: Vec<Syncing>,
    /// Whatever was put, ever.
    ever: BTreeSet<(u8, u64)>,
    pub(crate) annulled: bool,
}

impl History {
    pub(crate) fn submitted(&mut self, ops: Ops, durability: Durability, ticket: Ticket) {
        let power = durability == Durability::Power;
        self.ever.extend(ops.iter().filter_map(|(n, value)| Some((*n, (*value)?))));
        self.submitted.push(Submitted { ops, power, ticket, annulment: Arc::default() });
    }

    /// A sync that was asked for. `cancels`: what was given up before it is gone after it.
    pub(crate) fn synced(&mut self, ticket: Ticket, cancels: bool) {
        let pending = |s: &Submitted| *s.annulment.lock().unwrap() == Some(Annulment::Pending);
        let before = self.submitted.len();
        let given_up = (0..before).filter(|i| cancels && pending(&self.submitted[*i])).collect();
        self.syncs.push(Syncing { ticket, before, given_up });
    }

    /// What the log has to show now.
    pub(crate) fn published(&self) -> State {
        let mut state = self.base.clone();
        for submitted in &self.submitted {
            if let Some(Outcome::Done { .. }) = submitted.ticket.outcome() {
                apply(&mut state, &submitted.ops);
            }
        }
        state
    }

    /// Takes what is there as given, once it is known to be durable.
    pub(crate) fn settle(&mut self, state: State) {
        self.base = state;
        self.submitted.clear();
        self.syncs.clear();
    }

    /// Whatever happened to the bytes: nothing is served that was not put in that very slot.
    pub(crate) fn is_plausible(&self, log: &Log) -> Result<State, String> {
        let mut state = State::new();
        for n in 0..SLOTS {
            match log.get(slot(n)) {
                Ok(Some(bytes)) => drop(state.insert(n, value(n, &bytes)?)),
                Ok(None) | Err(ReadError::Corrupt { .. }) => {}
                Err(error) => return Err(format!("slot {n}: {error}")),
            }
        }
        match state.iter().find(|(n, value)| !self.ever.contains(&(**n, **value))) {
            None => Ok(state),
            Some((n, value)) => Err(format!("slot {n} holds {value}, which nobody put there")),
        }
    }

    /// Whether some prefix of what was submitted, not shorter than what was promised, gives `seen`.
    /// `trusts_writes`: no write or sync failed.
    pub(crate) fn explain(
        &self,
        seen: &State,
        promise: Promise,
        trusts_writes: bool,
    ) -> Result<(), String> {
        let answered_counts = promise == Promise::Answered && trusts_writes;
        let mut promised = 0;
        let mut never: Vec<usize> = Vec::new();
        let mut perhaps: Vec<usize> = Vec::new();
        for (i, submitted) in self.submitted.iter().enumerate() {
            let annulment = *submitted.annulment.lock().unwrap();
            match submitted.ticket.outcome() {
                Some(Outcome::Done { .. }) if submitted.power || answered_counts => {
                    promised = i + 1;
                }
                Some(Outcome::Annulled) if annulment == Some(Annulment::Pending) => perhaps.push(i),
                Some(Outcome::Annulled) => never.push(i),
                Some(Outcome::Failed(error)) if error.effect() == Effect::NotApplied => {
                    never.push(i);
                }
                Some(Outcome::Done { .. } | Outcome::Failed(_)) | None => {}
            }
        }
        for sync in &self.syncs {
            if matches!(sync.ticket.outcome(), Some(Outcome::Done { .. })) {
                promised = promised.max(sync.before);
                never.extend(&sync.given_up);
            }
        }
        perhaps.retain(|i| !never.contains(i));
        let choices = 1u32 << perhaps.len().min(10);
        let explained = (0..choices).any(|choice| {
            let skipped = |i: usize| {
                let chosen = perhaps.iter().position(|p| *p == i);
                never.contains(&i) || chosen.is_some_and(|bit| choice >> bit & 1 == 0)
            };
            self.has_prefix(seen, promised, skipped)
        });
        if explained {
            return Ok(());
        }
        Err(format!(
            "shows {seen:?}; base {:?}, promised {promised}, never {never:?}, perhaps {perhaps:?}\n{}",
            self.base,
            self.told()
        ))
    }

    /// Whether a prefix of at least `promised` batches, those `skipped` left out, gives `seen`.
    fn has_prefix(&self, seen: &State, promised: usize, skipped: impl Fn(usize) -> bool) -> bool {
        let mut state = self.base.clone();
        if promised == 0 && state == *seen {
            return true;
        }
        self.submitted.iter().enumerate().any(|(i, submitted)| {
            if !skipped(i) {
                apply(&mut state, &submitted.ops);
            }
            i + 1 >= promised && state == *seen
        })
    }

    fn told(&self) -> String {
        let line = |s: &Submitted| {
            let (outcome, annulment) = (s.ticket.outcome(), s.annulment.lock().unwrap());
            format!("{:?} power={} {outcome:?} {annulment:?}\n", s.ops, s.power)
        };
        self.submitted.iter().map(line).collect()
    }
}

fn apply(state: &mut State, ops: &Ops) {
    for (slot, value) in ops {
        match value {
            Some(value) => state.insert(*slot, *value),
            None => state.remove(slot),
        };
    }
}
