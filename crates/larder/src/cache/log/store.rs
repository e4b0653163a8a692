//! Reading and changing entries of a cache on disk.

use std::time::Duration;

use bytes::Bytes;
use larder_core::{
    Age, BackendError, CacheError, CacheValue, Clock, Condition, DeleteStatus, Effect, Found,
    KeyRef, Now, Retry, SharedClock, SystemClock, WriteStatus,
};
use larder_log::{Batch, Durability, Entry, Log, Outcome, ReadError, Slot, SubmitError};
use metrics::Counter;
use rapidhash::v3::{RapidSecrets, rapidhash_v3_seeded};
use tokio::time::{Instant, timeout_at};

use super::marks::Marks;
use super::record;
use super::room::Room;
use super::title::Title;
use super::turns::{Turn, Turns};
use crate::driver::log as driver;

/// Everything of a cache but the thread that evicts.
pub(super) struct Store {
    pub(super) log: Log,
    pub(super) clock: SharedClock,
    pub(super) title: Title,
    pub(super) secrets: [RapidSecrets; 2],
    pub(super) turns: Turns,
    pub(super) room: Room,
    pub(super) marks: Marks,
    pub(super) reads: driver::Reads,
    pub(super) timeout: Duration,
    pub(super) value_bytes_max: u64,
    pub(super) counts: Counts,
}

pub(super) struct Counts {
    pub(super) evictions: Counter,
    pub(super) expired: Counter,
    pub(super) too_large: Counter,
    pub(super) damaged: Counter,
}

/// What a slot holds, seen from one key.
enum Held {
    /// Nothing that counts for the key.
    Nothing,
    Live(CacheValue<Bytes>),
    Expired,
    Damaged,
}

/// What is to become of a key.
enum Then {
    Put(Bytes),
    Remove,
}

/// What became of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Done {
    /// The condition did not hold.
    Refused,
    /// Done where nothing was.
    New,
    /// Done to something that was there.
    Over,
}

impl Store {
    /// The slot that a key has: another key may share it, and then one of them is forgotten.
    fn slot(&self, key: KeyRef<'_>) -> Slot {
        let mut id = [0; 16];
        for (half, secrets) in id.chunks_exact_mut(8).zip(&self.secrets) {
            let hash = rapidhash_v3_seeded(key.as_str().as_bytes(), secrets);
            half.copy_from_slice(&hash.to_be_bytes());
        }
        Slot { namespace: driver::CACHE, id }
    }

    /// Until when a call that begins now may take.
    fn limit(&self) -> Instant {
        (SystemClock.instant() + self.timeout).into()
    }

    /// What is known from memory: that there is nothing.
    pub(super) fn find_now(&self, key: KeyRef<'_>) -> Now<Bytes> {
        if self.log.contains(self.slot(key)) { Now::Ask } else { Now::Miss }
    }

    pub(super) async fn find(&self, key: KeyRef<'_>) -> Result<Option<Found<Bytes>>, CacheError> {
        let Some(entry) = self.log.entry(self.slot(key)) else { return Ok(None) };
        let read = if let Some(read) = driver::Reads::now(&self.log, entry.slot) {
            read
        } else {
            let read = timeout_at(self.limit(), self.reads.get(&self.log, entry.slot));
            read.await.map_err(|_| late("read", Effect::NotApplied))?
        };
        self.answer(key, &entry, read)
    }

    pub(super) async fn find_many(
        &self,
        keys: &[KeyRef<'_>],
    ) -> Result<Vec<Option<Found<Bytes>>>, CacheError> {
        let slots: Vec<Slot> = keys.iter().map(|key| self.slot(*key)).collect();
        let entries: Vec<_> = slots.iter().map(|slot| self.log.entry(*slot)).collect();
        let reads = timeout_at(self.limit(), self.reads.get_many(&self.log, &slots));
        let reads = reads.await.map_err(|_| late("read", Effect::NotApplied))?;
        let each = keys.iter().zip(entries).zip(reads);
        each.map(|((key, entry), read)| match entry {
            Some(entry) => self.answer(*key, &entry, read),
            // It came while the others were read.
            None => Ok(None),
        })
        .collect()
    }

    /// What a read comes to; what was found to be over or damaged is dropped.
    fn answer(
        &self,
        key: KeyRef<'_>,
        entry: &Entry,
        read: driver::Read,
    ) -> Result<Option<Found<Bytes>>, CacheError> {
        match self.judge(key, read).map_err(|error| unread("read", error))? {
            Held::Live(value) => {
                self.marks.set(entry.slot);
                Ok(Some(Found::here(value)))
            }
            Held::Nothing => Ok(None),
            Held::Expired => {
                self.drop_if_unchanged(entry, &self.counts.expired);
                Ok(None)
            }
            Held::Damaged => {
                self.drop_if_unchanged(entry, &self.counts.damaged);
                Ok(None)
            }
        }
    }

    fn judge(&self, key: KeyRef<'_>, read: driver::Read) -> Result<Held, ReadError> {
        let bytes = match read {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(Held::Nothing),
            Err(ReadError::Corrupt { .. }) => return Ok(Held::Damaged),
            Err(error) => return Err(error),
        };
        Ok(match record::decode(&bytes) {
            None => Held::Damaged,
            Some(record) if *record.key != *key.as_str().as_bytes() => Held::Nothing,
            Some(record) if record.value.age(&*self.clock) == Age::Expired => Held::Expired,
            Some(record) => Held::Live(record.value),
        })
    }

    /// Removes an entry that is of no use, if it still is that record and nobody else is at it.
    fn drop_if_unchanged(&self, entry: &Entry, count: &Counter) {
        let Some(mut turn) = self.turns.try_take(entry.slot) else { return };
        if !self.log.holds(entry) {
            return;
        }
        let mut batch = Batch::new();
        batch.delete(entry.slot);
        // Where it fails the entry stays, and is found to be of no use again.
        if let Ok(ticket) = self.log.submit(batch, Durability::Process) {
            turn.begin(ticket);
            count.increment(1);
        }
    }

    pub(super) async fn put(
        &self,
        key: KeyRef<'_>,
        value: CacheValue<Bytes>,
        condition: Condition,
    ) -> Result<WriteStatus, CacheError> {
        let then = if value.age(&*self.clock) == Age::Expired {
            Then::Remove
        } else {
            let bytes = u64::try_from(value.data.len()).unwrap_or(u64::MAX);
            if bytes > self.value_bytes_max {
                self.counts.too_large.increment(1);
                return Err(CacheError::TooLarge { bytes, bytes_max: self.value_bytes_max });
            }
            Then::Put(record::encode(key, &value))
        };
        Ok(match self.change("write", key, then, condition).await? {
            Done::Refused => WriteStatus::NOT_NEWER,
            Done::New | Done::Over => WriteStatus::WRITTEN,
        })
    }

    pub(super) async fn remove(
        &self,
        key: KeyRef<'_>,
        condition: Condition,
    ) -> Result<DeleteStatus, CacheError> {
        Ok(match self.change("remove", key, Then::Remove, condition).await? {
            Done::Over => DeleteStatus::Deleted(1),
            Done::Refused | Done::New => DeleteStatus::Missing,
        })
    }

    /// Decides the condition and makes the change in one turn, within the time limit.
    async fn change(
        &self,
        operation: &'static str,
        key: KeyRef<'_>,
        then: Then,
        condition: Condition,
    ) -> Result<Done, CacheError> {
        let limit = self.limit();
        let bytes = match &then {
            Then::Put(record) => Batch::put_bytes(record.len()),
            Then::Remove => 0,
        };
        let prepared = timeout_at(limit, async {
            // Before the turn is taken: who makes room takes turns, too.
            let booking = match bytes {
                0 => None,
                bytes => Some(self.room.book(&self.log, bytes).await),
            };
            let turn = self.turns.take(self.slot(key)).await;
            let begun = self.begin(operation, turn, key, then, condition).await?;
            Ok::<_, CacheError>((begun, booking))
        });
        let prepared = prepared.await.map_err(|_| late(operation, Effect::NotApplied))?;
        let ((done, begun), booking) = prepared?;
        let Some((mut ticket, turn)) = begun else { return Ok(done) };
        let outcome = timeout_at(limit, &mut ticket).await;
        drop((turn, booking));
        self.room.look(&self.log);
        // It may still be done; the next one at this slot waits for it.
        let outcome = outcome.map_err(|_| late(operation, Effect::Unknown))?;
        match outcome {
            Outcome::Done { .. } => Ok(done),
            Outcome::Failed(error) => {
                let failed = driver::write_error(operation, &error);
                if !matches!(*error, larder_log::WriteError::NoSpace) {
                    return Err(failed.into());
                }
                self.room.ask_for_more();
                Err(failed.retry_is(Retry::Later).into())
            }
            Outcome::Annulled => Err(driver::annulled(operation).into()),
        }
    }

    /// Hands the change to the log if the condition holds.
    async fn begin<'a>(
        &'a self,
        operation: &'static str,
        mut turn: Turn<'a>,
        key: KeyRef<'_>,
        then: Then,
        condition: Condition,
    ) -> Result<(Done, Option<(larder_log::Ticket, Turn<'a>)>), CacheError> {
        let slot = self.slot(key);
        let there = self.log.contains(slot);
        let blind = matches!((&then, condition), (Then::Put(_), Condition::Always));
        let live = if there && !blind {
            match self.judge(key, self.reads.get(&self.log, slot).await) {
                Ok(Held::Live(value)) => Some(value.version),
                Ok(Held::Nothing | Held::Expired) => None,
                Ok(Held::Damaged) => {
                    self.counts.damaged.increment(1);
                    None
                }
                // What cannot be read can be removed.
                Err(_) if condition == Condition::Always => Some(None),
                Err(error) => return Err(unread(operation, error)),
            }
        } else {
            None
        };
        if !condition.holds(live) {
            return Ok((Done::Refused, None));
        }
        let done = if live.is_some() { Done::Over } else { Done::New };
        let mut batch = Batch::new();
        match then {
            Then::Put(record) => {
                batch.put(slot, record);
            }
            // Another key's entry is nobody's business here.
            Then::Remove if live.is_none() => return Ok((done, None)),
            Then::Remove => {
                batch.delete(slot);
            }
        }
        let permit = self.log.admission(batch.bytes()).await.map_err(|e| refused(operation, e))?;
        let submitted = self.log.submit_admitted(batch, Durability::Process, permit);
        let ticket = submitted.map_err(|error| refused(operation, error))?;
        turn.begin(ticket.clone());
        Ok((done, Some((ticket, turn))))
    }
}

/// The disk was asked for longer than it may be.
fn late(operation: &'static str, effect: Effect) -> CacheError {
    let error = BackendError::new(driver::BACKEND, operation, "the disk took too long");
    error.effect_is(effect).retry_is(Retry::Later).into()
}

fn unread(operation: &'static str, error: ReadError) -> CacheError {
    driver::harmless(operation, error).retry_is(Retry::Later).into()
}

/// What a refusal at the door means: nothing was written, in every case.
fn refused(operation: &'static str, error: SubmitError) -> CacheError {
    let retry = match &error {
        SubmitError::Full | SubmitError::NoSpace(_) => Retry::Later,
        _ => Retry::Never,
    };
    driver::harmless(operation, error).retry_is(retry).into()
}
