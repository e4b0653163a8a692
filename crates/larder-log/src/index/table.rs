//! A dense table from slots to locations.
//!
//! Open addressing with linear probing, in which the entries lie in the order of their hashes (Robin
//! Hood hashing: Celis, "Robin Hood Hashing", 1986; deletion by shifting back needs no marks of the
//! dead, so the table is as full as it looks). One byte a bucket says how far an entry lies from the
//! bucket that its hash names: a look-up compares only entries of the same bucket, and ends at the
//! first one that lies nearer to home. The size is any number, not a power of two, so that growing
//! takes small steps: between 53 and 88 % of the buckets are in use, whatever came and went.

mod cells;

use cells::Cells;

use super::location::{Location, PACKED_LEN, Packed, is_of, slot_of};
use crate::Slot;

/// Buckets beyond this load are costly to insert into: one insertion moves 30 entries on average.
const LOAD_MAX: (usize, usize) = (7, 8);
/// After growing and shrinking: far enough from both borders that each resize is paid by the changes
/// before it.
const LOAD_AFTER: (usize, usize) = (7, 10);
/// What makes the bound of memory: 39 bytes a bucket at this load are 74 an entry.
const LOAD_MIN: (usize, usize) = (53, 100);
const BUCKETS_MIN: usize = 4;
/// The mark of an entry that lies so far from home or farther: its distance is computed.
const FAR: u8 = u8::MAX;

/// Hashes a slot.
pub(super) type Hasher = fn(u64, &Slot) -> u64;

#[derive(Debug)]
pub(super) struct Table {
    /// 0: free; otherwise the distance from home plus one.
    marks: Vec<u8>,
    entries: Cells<PACKED_LEN>,
    len: usize,
    key: u64,
    hasher: Hasher,
}

/// Where a slot is, or would be put.
enum Found {
    At(usize),
    /// In this bucket, so far from home.
    Gap(usize, usize),
}

impl Table {
    /// An empty table, which holds no memory.
    pub(super) fn new(key: u64, hasher: Hasher) -> Self {
        Self { marks: Vec::new(), entries: Cells::default(), len: 0, key, hasher }
    }

    /// Bytes of memory that the buckets take.
    pub(super) fn bytes(&self) -> usize {
        self.marks.len() * (1 + size_of::<Packed>())
    }

    pub(super) fn get(&self, hash: u64, slot: &Slot) -> Option<Location> {
        match self.find(hash, slot) {
            Found::At(at) => Some(Location::unpack(&self.entries[at])),
            Found::Gap(..) => None,
        }
    }

    /// Stores what `change` makes of the present location; returns that one.
    pub(super) fn upsert(
        &mut self,
        hash: u64,
        slot: &Slot,
        change: impl FnOnce(Option<Location>) -> Location,
    ) -> Option<Location> {
        match self.find(hash, slot) {
            Found::At(at) => {
                let old = Location::unpack(&self.entries[at]);
                self.entries[at] = change(Some(old)).pack(slot);
                Some(old)
            }
            Found::Gap(at, distance) => {
                let packed = change(None).pack(slot);
                if part(self.marks.len(), LOAD_MAX) > self.len {
                    self.insert(at, distance, packed);
                } else {
                    self.resize(self.len + 1, LOAD_AFTER);
                    self.insert_new(packed);
                }
                self.len += 1;
                None
            }
        }
    }

    /// Replaces a location that `change` wants to be another one; returns the old one if it did.
    pub(super) fn update(
        &mut self,
        hash: u64,
        slot: &Slot,
        change: impl FnOnce(Location) -> Option<Location>,
    ) -> Option<Location> {
        let Found::At(at) = self.find(hash, slot) else { return None };
        let old = Location::unpack(&self.entries[at]);
        self.entries[at] = change(old)?.pack(slot);
        Some(old)
    }

    /// Removes an entry if `when` says so; returns it.
    pub(super) fn remove(
        &mut self,
        hash: u64,
        slot: &Slot,
        when: impl FnOnce(&Location) -> bool,
    ) -> Option<Location> {
        let Found::At(at) = self.find(hash, slot) else { return None };
        let old = Location::unpack(&self.entries[at]);
        if !when(&old) {
            return None;
        }
        self.close_gap(at);
        self.len -= 1;
        if self.len < part(self.marks.len(), LOAD_MIN) {
            self.resize(self.len, LOAD_AFTER);
        }
        Some(old)
    }

    pub(super) fn for_each(&self, mut visit: impl FnMut(&Slot, &Location)) {
        let used = self.marks.iter().zip(self.entries.iter()).filter(|(mark, _)| **mark != 0);
        used.for_each(|(_, packed)| visit(&slot_of(packed), &Location::unpack(packed)));
    }

    /// Makes the table as small as it may be.
    pub(super) fn shrink(&mut self) {
        self.resize(self.len, LOAD_MAX);
    }

    fn find(&self, hash: u64, slot: &Slot) -> Found {
        if self.marks.is_empty() {
            return Found::Gap(0, 0);
        }
        let mut at = self.home(hash);
        let mut distance = 0;
        // Never full, so this ends.
        loop {
            match self.distance(at) {
                Some(found) if found > distance => {}
                Some(found) if found == distance => {
                    if is_of(&self.entries[at], slot) {
                        return Found::At(at);
                    }
                }
                _ => return Found::Gap(at, distance),
            }
            at = self.after(at);
            distance += 1;
        }
    }

    /// Puts an entry into a bucket; what lies there up to the next free one moves on by one.
    fn insert(&mut self, at: usize, distance: usize, packed: Packed) {
        let mut free = at;
        while self.marks[free] != 0 {
            free = self.after(free);
        }
        if at <= free {
            self.push_on(at, free);
        } else {
            // Around the end: the front part first, then the last bucket into the first.
            let last = self.marks.len() - 1;
            self.push_on(0, free);
            self.entries[0] = self.entries[last];
            self.marks[0] = self.marks[last].saturating_add(1);
            self.push_on(at, last);
        }
        self.entries[at] = packed;
        self.marks[at] = mark(distance);
    }

    /// Moves `from .. to` on by one; the bucket `to` is overwritten.
    fn push_on(&mut self, from: usize, to: usize) {
        self.entries.copy_within(from..to, from + 1);
        self.marks.copy_within(from..to, from + 1);
        for mark in &mut self.marks[(from + 1).min(to + 1)..=to] {
            *mark = mark.saturating_add(1);
        }
    }

    /// Frees a bucket; what lies behind it away from home moves back by one.
    fn close_gap(&mut self, mut at: usize) {
        loop {
            let next = self.after(at);
            match self.distance(next) {
                None | Some(0) => break,
                Some(distance) => {
                    self.entries[at] = self.entries[next];
                    self.marks[at] = mark(distance - 1);
                }
            }
            at = next;
        }
        self.marks[at] = 0;
    }

    /// Gives the table the size that has `load` with `len` entries.
    fn resize(&mut self, len: usize, load: (usize, usize)) {
        let (used, of) = load;
        // One more, so that the load stays below the one that asks for the next size.
        let buckets = if len == 0 { 0 } else { (len * of / used + 1).max(BUCKETS_MIN) };
        if buckets == self.marks.len() {
            return;
        }
        let marks = std::mem::replace(&mut self.marks, vec![0; buckets]);
        let entries = std::mem::replace(&mut self.entries, Cells::zeroed(buckets));
        // In the order of the hashes, so both tables are walked from front to back, and most entries
        // lie at home or right behind the one before. From the first gap on: what lies before it may
        // have come around the end.
        let gap = marks.iter().position(|mark| *mark == 0).unwrap_or(0);
        let (mut home_before, mut free) = (0, 0);
        for old in (gap..marks.len()).chain(0..gap).filter(|old| marks[*old] != 0) {
            let packed = &entries[old];
            let home = self.home(self.hash_of(packed));
            let at = home.max(free);
            if home >= home_before && at < buckets {
                self.entries[at] = *packed;
                self.marks[at] = mark(at - home);
                (home_before, free) = (home, at + 1);
            } else {
                // Those of one old bucket have no order among each other.
                self.insert_new(*packed);
                free += self.marks[free..].iter().take_while(|mark| **mark != 0).count();
            }
        }
    }

    /// Inserts what is known to be new.
    fn insert_new(&mut self, packed: Packed) {
        let mut at = self.home(self.hash_of(&packed));
        let mut distance = 0;
        while self.distance(at).is_some_and(|found| found >= distance) {
            at = self.after(at);
            distance += 1;
        }
        self.insert(at, distance, packed);
    }

    /// How far from home the entry of a bucket lies.
    fn distance(&self, at: usize) -> Option<usize> {
        match self.marks[at] {
            0 => None,
            FAR => {
                let home = self.home(self.hash_of(&self.entries[at]));
                Some(if at >= home { at - home } else { at + self.marks.len() - home })
            }
            mark => Some(usize::from(mark) - 1),
        }
    }

    /// The bucket that a hash names: ascending with the hash.
    #[expect(clippy::cast_possible_truncation, reason = "below the number of buckets")]
    fn home(&self, hash: u64) -> usize {
        ((u128::from(hash) * self.marks.len() as u128) >> 64) as usize
    }

    fn after(&self, at: usize) -> usize {
        if at + 1 == self.marks.len() { 0 } else { at + 1 }
    }

    fn hash_of(&self, packed: &Packed) -> u64 {
        (self.hasher)(self.key, &slot_of(packed))
    }
}

fn mark(distance: usize) -> u8 {
    u8::try_from(distance + 1).unwrap_or(FAR)
}

fn part(of: usize, (numerator, denominator): (usize, usize)) -> usize {
    of * numerator / denominator
}

#[cfg(test)]
mod tests;
