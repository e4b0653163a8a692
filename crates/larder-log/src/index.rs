//! Where the newest version of every slot lies. In memory, in shards, so that growing one shard
//! stops nobody for long.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::Slot;

mod location;
mod table;

pub(crate) use location::Location;
use table::Table;

/// At ten million entries one shard holds 39,000: growing one moves 1.5 MB, and stops nobody who asks
/// for another.
const SHARDS: usize = 256;

/// Slot to location.
#[derive(Debug)]
pub(crate) struct Index {
    shards: Box<[RwLock<Table>]>,
    /// How often each shard was changed. Side by side, so that asking costs no miss of the cache.
    changes: Box<[AtomicU64]>,
    len: AtomicU64,
    key: u64,
}

impl Index {
    /// `key` keeps strangers from choosing ids that collide.
    pub(crate) fn new(key: u64) -> Self {
        let shard = || RwLock::new(Table::new(key, hash));
        let shards = std::iter::repeat_with(shard).take(SHARDS).collect();
        let changes = std::iter::repeat_with(AtomicU64::default).take(SHARDS).collect();
        Self { shards, changes, len: AtomicU64::new(0), key }
    }

    pub(crate) fn get(&self, slot: &Slot) -> Option<Location> {
        let hash = hash(self.key, slot);
        lock_read(&self.shards[shard(hash)]).get(hash, slot)
    }

    pub(crate) fn contains(&self, slot: &Slot) -> bool {
        self.get(slot).is_some()
    }

    /// Stores a newer location and returns the one before. Flags that stick are carried over.
    pub(crate) fn put(&self, slot: Slot, location: Location) -> Option<Location> {
        self.upsert(&slot, |old| match old {
            Some(old) => location.with_pre_open(old.pre_open()).with_replaced(true),
            None => location,
        })
    }

    pub(crate) fn remove(&self, slot: &Slot) -> Option<Location> {
        self.remove_when(slot, |_| true)
    }

    /// Stores `location` unless one with the same or a higher position is there. For the scan at
    /// open, which meets versions in any order.
    pub(crate) fn put_if_newer(&self, slot: Slot, location: Location) {
        // Of two copies of one version, as when a manifest is rebuilt, the sound one counts.
        let rank = |location: &Location| (location.lsn(), !location.corrupt());
        self.upsert(&slot, |old| {
            old.filter(|old| rank(old) >= rank(&location)).unwrap_or(location)
        });
    }

    /// Drops what a delete at `lsn` cancels.
    pub(crate) fn remove_if_older(&self, slot: &Slot, lsn: u64) {
        self.remove_when(slot, |found| found.lsn() < lsn);
    }

    /// Drops an entry if it still lies there; whether it did.
    pub(crate) fn remove_at(&self, slot: &Slot, place: &Location) -> bool {
        self.remove_when(slot, |found| found.same_place(place)).is_some()
    }

    /// Moves an entry to a copy of the very same version, and says where it was. `None` when the
    /// slot holds another version by now, or none.
    pub(crate) fn relocate(&self, slot: &Slot, copy: Location) -> Option<Location> {
        let hash = hash(self.key, slot);
        self.change(shard(hash)).update(hash, slot, |found| {
            let moved = || copy.with_pre_open(found.pre_open()).with_replaced(found.replaced());
            (found.lsn() == copy.lsn()).then(moved)
        })
    }

    pub(crate) fn len(&self) -> u64 {
        self.len.load(Ordering::Relaxed)
    }

    /// Calls `visit` for every entry, one shard at a time.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(&Slot, &Location)) {
        let mut shard = 0;
        while self.visit_shard(shard, &mut visit) {
            shard += 1;
        }
    }

    /// Calls `visit` for every entry of one shard; false when there is no such shard. A slot stays in
    /// its shard whatever becomes of it, so going through all shards meets each slot that is there
    /// throughout exactly once. Nothing in the shard changes meanwhile.
    pub(crate) fn visit_shard(&self, shard: usize, visit: impl FnMut(&Slot, &Location)) -> bool {
        let Some(shard) = self.shards.get(shard) else { return false };
        lock_read(shard).for_each(visit);
        true
    }

    /// Bytes that the entries take in memory.
    pub(crate) fn bytes(&self) -> u64 {
        self.shards.iter().map(|shard| lock_read(shard).bytes() as u64).sum()
    }

    /// Gives spare memory back.
    pub(crate) fn shrink(&self) {
        self.shards.iter().for_each(|shard| lock_write(shard).shrink());
    }

    fn upsert(
        &self,
        slot: &Slot,
        change: impl FnOnce(Option<Location>) -> Location,
    ) -> Option<Location> {
        let hash = hash(self.key, slot);
        let old = self.change(shard(hash)).upsert(hash, slot, change);
        if old.is_none() {
            self.len.fetch_add(1, Ordering::Relaxed);
        }
        old
    }

    fn remove_when(&self, slot: &Slot, when: impl FnOnce(&Location) -> bool) -> Option<Location> {
        let hash = hash(self.key, slot);
        let old = self.change(shard(hash)).remove(hash, slot, when);
        if old.is_some() {
            self.len.fetch_sub(1, Ordering::Relaxed);
        }
        old
    }

    /// A number that is another one after every change to the shard; `None` when there is no such
    /// shard. What was seen of it after the number was asked for holds while the number stays.
    pub(crate) fn changes(&self, shard: usize) -> Option<u64> {
        Some(self.changes.get(shard)?.load(Ordering::SeqCst))
    }

    /// The shard that a slot belongs to, wherever it lies.
    pub(crate) fn shard_of(&self, slot: &Slot) -> usize {
        shard(hash(self.key, slot))
    }

    /// The only way to a table that is about to change. Counted under its lock: whoever saw the
    /// table as it was before the change had asked for the number before.
    fn change(&self, shard: usize) -> RwLockWriteGuard<'_, Table> {
        let table = lock_write(&self.shards[shard]);
        self.changes[shard].fetch_add(1, Ordering::SeqCst);
        table
    }
}

/// The tables use the high bits of the hash, the choice of a shard the low ones.
fn shard(hash: u64) -> usize {
    usize::from(hash.to_le_bytes()[0]) % SHARDS
}

fn lock_read(shard: &RwLock<Table>) -> RwLockReadGuard<'_, Table> {
    shard.read().unwrap_or_else(PoisonError::into_inner)
}

fn lock_write(shard: &RwLock<Table>) -> RwLockWriteGuard<'_, Table> {
    shard.write().unwrap_or_else(PoisonError::into_inner)
}

/// Folds a slot by multiplication, a word at a time; the key is random per store.
fn hash(key: u64, slot: &Slot) -> u64 {
    let (front, back) = slot.id.split_at(8);
    let word = |bytes: &[u8]| u64::from_le_bytes(crate::record::take(bytes, 0));
    let with_front = fold(key ^ word(front));
    fold(with_front ^ word(back) ^ u64::from(slot.namespace).rotate_right(16))
}

fn fold(number: u64) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let wide = u128::from(number ^ ODD) * u128::from(ODD.rotate_left(23) | 1);
    let bytes = wide.to_le_bytes();
    let half = |at| u64::from_le_bytes(crate::record::take(&bytes, at));
    half(0) ^ half(8)
}

#[cfg(test)]
mod tests;
