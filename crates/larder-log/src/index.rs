//! Where the newest version of every slot lies. In memory, in shards, so that growing one shard
//! stops nobody for long.

use std::hash::{BuildHasher, Hasher};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use crate::Slot;
use crate::record::{ALIGN, frame_len};

const SHARDS: usize = 64;
const PRE_OPEN: u64 = 1 << 63;
const REPLACED: u64 = 1 << 62;
const CORRUPT: u64 = 1 << 61;
const LSN: u64 = CORRUPT - 1;

/// Where a version lies. 20 bytes, so that an entry takes 40 with its slot.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Location {
    segment: u32,
    /// In units of eight bytes: all frames are aligned so.
    offset: u32,
    len: u32,
    /// Position and flags, as two halves to keep the alignment at four.
    lsn: [u32; 2],
}

impl std::fmt::Debug for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "segment {} offset {} lsn {}", self.segment, self.offset(), self.lsn())
    }
}

impl Location {
    pub(crate) fn new(segment: u32, offset: u64, len: u32, lsn: u64) -> Self {
        let offset = u32::try_from(offset / ALIGN).unwrap_or(u32::MAX);
        Self { segment, offset, len, lsn: split(lsn & LSN) }
    }

    pub(crate) fn segment(&self) -> u32 {
        self.segment
    }

    pub(crate) fn offset(&self) -> u64 {
        u64::from(self.offset) * ALIGN
    }

    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    pub(crate) fn lsn(&self) -> u64 {
        self.packed() & LSN
    }

    /// The frame's bytes on disk.
    pub(crate) fn frame_len(&self) -> u64 {
        frame_len(u64::from(self.len))
    }

    /// The slot was there when the log was opened (replacing keeps that).
    pub(crate) fn pre_open(&self) -> bool {
        self.packed() & PRE_OPEN != 0
    }

    /// Older versions of the slot may lie on disk that no delete covers yet.
    pub(crate) fn replaced(&self) -> bool {
        self.packed() & REPLACED != 0
    }

    /// The scan at open found the payload damaged.
    pub(crate) fn corrupt(&self) -> bool {
        self.packed() & CORRUPT != 0
    }

    #[must_use]
    pub(crate) fn with_pre_open(self, on: bool) -> Self {
        self.with(PRE_OPEN, on)
    }

    #[must_use]
    pub(crate) fn with_replaced(self, on: bool) -> Self {
        self.with(REPLACED, on)
    }

    #[must_use]
    pub(crate) fn with_corrupt(self, on: bool) -> Self {
        self.with(CORRUPT, on)
    }

    fn packed(&self) -> u64 {
        u64::from(self.lsn[0]) | (u64::from(self.lsn[1]) << 32)
    }

    fn with(mut self, flag: u64, on: bool) -> Self {
        let packed = if on { self.packed() | flag } else { self.packed() & !flag };
        self.lsn = split(packed);
        self
    }

    /// Same place on disk, whatever the flags say.
    pub(crate) fn same_place(&self, other: &Self) -> bool {
        (self.segment, self.offset, self.lsn()) == (other.segment, other.offset, other.lsn())
    }
}

#[expect(clippy::cast_possible_truncation, reason = "each half keeps its own 32 bits")]
fn split(packed: u64) -> [u32; 2] {
    [packed as u32, (packed >> 32) as u32]
}

type Shard = HashMap<Slot, Location, SlotHasherBuilder>;

/// Slot to location.
#[derive(Debug)]
pub(crate) struct Index {
    shards: Box<[RwLock<Shard>]>,
    hasher: SlotHasherBuilder,
}

impl Index {
    /// `key` keeps strangers from choosing ids that collide.
    pub(crate) fn new(key: u64) -> Self {
        let hasher = SlotHasherBuilder(key);
        let shard = || RwLock::new(HashMap::with_hasher(hasher));
        Self { shards: std::iter::repeat_with(shard).take(SHARDS).collect(), hasher }
    }

    pub(crate) fn get(&self, slot: &Slot) -> Option<Location> {
        self.read(slot).get(slot).copied()
    }

    pub(crate) fn contains(&self, slot: &Slot) -> bool {
        self.read(slot).contains_key(slot)
    }

    /// Stores a newer location and returns the one before. Flags that stick are carried over.
    pub(crate) fn put(&self, slot: Slot, location: Location) -> Option<Location> {
        match self.write(&slot).entry(slot) {
            Entry::Occupied(mut entry) => {
                let old = *entry.get();
                entry.insert(location.with_pre_open(old.pre_open()).with_replaced(true));
                Some(old)
            }
            Entry::Vacant(entry) => {
                entry.insert(location);
                None
            }
        }
    }

    pub(crate) fn remove(&self, slot: &Slot) -> Option<Location> {
        self.write(slot).remove(slot)
    }

    /// Stores `location` unless one with the same or a higher position is there. For the scan at
    /// open, which meets versions in any order.
    pub(crate) fn put_if_newer(&self, slot: Slot, location: Location) {
        match self.write(&slot).entry(slot) {
            Entry::Occupied(mut entry) => {
                if entry.get().lsn() < location.lsn() {
                    entry.insert(location);
                }
            }
            Entry::Vacant(entry) => {
                entry.insert(location);
            }
        }
    }

    /// Drops what a delete at `lsn` cancels.
    pub(crate) fn remove_if_older(&self, slot: &Slot, lsn: u64) {
        let mut shard = self.write(slot);
        if shard.get(slot).is_some_and(|found| found.lsn() < lsn) {
            shard.remove(slot);
        }
    }

    /// Moves an entry to a copy of the very same version, and says where it was. `None` when the
    /// slot holds another version by now, or none.
    pub(crate) fn relocate(&self, slot: &Slot, copy: Location) -> Option<Location> {
        let mut shard = self.write(slot);
        let found = shard.get_mut(slot).filter(|found| found.lsn() == copy.lsn())?;
        let old = *found;
        *found = copy.with_pre_open(old.pre_open()).with_replaced(old.replaced());
        Some(old)
    }

    pub(crate) fn len(&self) -> u64 {
        self.shards.iter().map(|shard| lock_read(shard).len() as u64).sum()
    }

    /// Calls `visit` for every entry, one shard at a time.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(&Slot, &Location)) {
        for shard in &self.shards {
            for (slot, location) in lock_read(shard).iter() {
                visit(slot, location);
            }
        }
    }

    /// Gives spare memory back; returns about how many bytes that were.
    pub(crate) fn shrink(&self) -> i64 {
        let entry = size_of::<(Slot, Location)>() + 1;
        let mut saved = 0;
        for shard in &self.shards {
            let mut shard = lock_write(shard);
            let before = shard.capacity();
            shard.shrink_to_fit();
            saved += before.saturating_sub(shard.capacity()) * entry;
        }
        i64::try_from(saved).unwrap_or(i64::MAX)
    }

    fn shard(&self, slot: &Slot) -> &RwLock<Shard> {
        // The map itself uses the top seven and the low bits; these are others.
        let hash = self.hasher.hash_one(slot);
        &self.shards[usize::from(hash.to_le_bytes()[6]) % SHARDS]
    }

    fn read(&self, slot: &Slot) -> RwLockReadGuard<'_, Shard> {
        lock_read(self.shard(slot))
    }

    fn write(&self, slot: &Slot) -> RwLockWriteGuard<'_, Shard> {
        lock_write(self.shard(slot))
    }
}

fn lock_read(shard: &RwLock<Shard>) -> RwLockReadGuard<'_, Shard> {
    shard.read().unwrap_or_else(PoisonError::into_inner)
}

fn lock_write(shard: &RwLock<Shard>) -> RwLockWriteGuard<'_, Shard> {
    shard.write().unwrap_or_else(PoisonError::into_inner)
}

/// Folds the 18 bytes of a slot by multiplication; the key is random per store.
#[derive(Clone, Copy, Debug)]
struct SlotHasherBuilder(u64);

impl BuildHasher for SlotHasherBuilder {
    type Hasher = SlotHasher;

    fn build_hasher(&self) -> SlotHasher {
        SlotHasher(self.0)
    }
}

#[derive(Clone, Copy, Debug)]
struct SlotHasher(u64);

impl Hasher for SlotHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u16(&mut self, number: u16) {
        self.write_u64(u64::from(number));
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn write_u64(&mut self, number: u64) {
        const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
        let wide = u128::from(self.0 ^ number ^ ODD) * u128::from(ODD.rotate_left(23) | 1);
        let bytes = wide.to_le_bytes();
        let (mut low, mut high) = ([0; 8], [0; 8]);
        low.copy_from_slice(&bytes[..8]);
        high.copy_from_slice(&bytes[8..]);
        self.0 = u64::from_le_bytes(low) ^ u64::from_le_bytes(high);
    }
}

#[cfg(test)]
mod tests;
