//! Reading all entries of a namespace in the order of the disk.
//!
//! The index is asked for the places alone, eight bytes each; whose record lies at a place is read
//! from its header, and the index judges whether it is still the slot's record. If not, the slot is
//! looked up like any other. So an entry that moves or is replaced while the walk runs comes once: a
//! slot has one place in the list, and the list is never added to. A shard of the index that was not
//! changed since its places were listed has judged already: its slots are not looked up again.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::crc32c;
use crate::index::Location;
use crate::reader::{Entry, unsettled};
use crate::record::{ALIGN, HEADER_LEN, Header, Kind};
use crate::segment::Segment;
use crate::shared::Shared;
use crate::{ReadError, Slot};

mod block;
mod chunk;

use block::Block;

/// What a pass remembers at most (a shard more or less): 128 MiB.
const PLACES_MAX: usize = 16 << 20;
/// No shard is ever changed so often: it counts as changed.
const CHANGED: u64 = u64::MAX;

/// Entries in the order of the disk: see [`Log::sweep`](crate::Log::sweep).
///
/// Ends after the first error: the rest was not read.
pub struct Sweep<'a, F> {
    shared: &'a Shared,
    namespace: u16,
    wanted: F,
    next_shard: usize,
    /// The shards of the pass begin here.
    first_shard: usize,
    /// [`Index::changes`](crate::index::Index::changes) of each shard, from before it was listed.
    seen: Vec<u64>,
    places: Vec<u64>,
    next: usize,
    /// Files of the pass: they stay, and are not used for anything else, while they are held.
    segments: HashMap<u32, Arc<Segment>>,
    block: Block,
    /// Places whose headers are unreadable by now.
    lost: Vec<u64>,
    /// Slots of such places.
    found: Vec<Slot>,
    ended: bool,
}

/// An entry that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Swept {
    /// What it is stored under.
    pub slot: Slot,
    /// The payload; `None` when it is damaged. One of at most 4 KiB shares memory with its
    /// neighbours: as long as it is kept, up to 16 KiB are. Copy what is to be kept for long.
    pub payload: Option<Bytes>,
}

impl<'a, F: Fn(&Entry) -> bool> Sweep<'a, F> {
    pub(crate) fn new(shared: &'a Shared, namespace: u16, wanted: F) -> Self {
        Self {
            shared,
            namespace,
            wanted,
            next_shard: 0,
            first_shard: 0,
            seen: Vec::new(),
            places: Vec::new(),
            next: 0,
            segments: HashMap::new(),
            block: Block::default(),
            lost: Vec::new(),
            found: Vec::new(),
            ended: false,
        }
    }

    /// Whether the next entry needs no read of the disk.
    pub fn is_at_hand(&self) -> bool {
        self.places.get(self.next).is_some_and(|place| self.block.holds(*place))
    }

    fn step(&mut self) -> Result<Option<Swept>, ReadError> {
        loop {
            if self.shared.is_closed() {
                return Err(ReadError::Closed);
            }
            if let Some(place) = self.places.get(self.next).copied() {
                let swept = self.visit(place)?;
                self.next += 1;
                if swept.is_some() {
                    return Ok(swept);
                }
            } else if let Some(slot) = self.found.pop() {
                if let Some(swept) = self.look_up(slot)? {
                    return Ok(Some(swept));
                }
            } else if !self.lost.is_empty() {
                self.find_lost()?;
            } else if !self.begin_pass() {
                return Ok(None);
            }
        }
    }

    /// Collects the places of as many shards as fit; false when there are no more.
    fn begin_pass(&mut self) -> bool {
        self.places.clear();
        self.segments.clear();
        self.next = 0;
        self.first_shard = self.next_shard;
        if self.places.capacity() == 0 {
            let most = usize::try_from(self.shared.index.len()).unwrap_or(usize::MAX);
            self.places.reserve_exact(most.min(PLACES_MAX + PLACES_MAX / 128));
        }
        while self.places.len() < PLACES_MAX && self.collect(self.next_shard) {
            self.next_shard += 1;
        }
        self.places.sort_unstable();
        self.next_shard > self.first_shard
    }

    fn collect(&mut self, shard: usize) -> bool {
        let Self { shared, namespace, wanted, seen, places, segments, .. } = self;
        let Some(mut changes) = shared.index.changes(shard) else { return false };
        shared.index.visit_shard(shard, |slot, location| {
            if slot.namespace != *namespace || !wanted(&Entry::new(slot, location)) {
                return;
            }
            // A segment leaves the table after its entries have left it, and those of this shard
            // cannot at the moment: so it is there.
            let id = location.segment();
            if !segments.contains_key(&id)
                && let Some(segment) = shared.segment(id)
            {
                segments.insert(id, segment);
            }
            if location.corrupt() {
                changes = CHANGED;
            }
            places.push(location.place());
        });
        seen.push(changes);
        true
    }

    /// Whether the slot's record is still the sound one that was listed, without looking it up.
    fn is_as_listed(&self, slot: &Slot) -> bool {
        let shard = self.shared.index.shard_of(slot);
        self.seen.get(shard).copied() == self.shared.index.changes(shard)
    }

    /// What came of the entry at a place; `None` when it was removed.
    fn visit(&mut self, place: u64) -> Result<Option<Swept>, ReadError> {
        let (id, offset) = split(place);
        let Some(segment) = self.segments.get(&id) else {
            return Err(unsettled(id));
        };
        let failed = |source| {
            self.shared.health.found_read_error(id, offset);
            ReadError::Io { segment: u64::from(id), source }
        };
        if !self.block.holds(place) {
            self.block.load(segment, &self.places[self.next..]).map_err(failed)?;
        }
        let header =
            self.block.get(offset, HEADER_LEN).and_then(|b| Header::decode(b, segment.seed));
        let Some(header) =
            header.filter(|h| h.kind == Kind::Put && h.slot.namespace == self.namespace)
        else {
            self.lost.push(place);
            return Ok(None);
        };
        let here = Location::new(id, offset, header.payload_len, header.lsn);
        if !self.is_as_listed(&header.slot) {
            match self.shared.index.get(&header.slot) {
                None => return Ok(None),
                Some(now) if now.same_place(&here) && !now.corrupt() => {}
                Some(_) => return self.look_up(header.slot),
            }
        }
        let payload_at = offset + HEADER_LEN as u64;
        let payload = self.block.take(segment, payload_at, header.payload_len).map_err(failed)?;
        if crc32c::of(&payload) == header.payload_crc
            && payload.len() == header.payload_len as usize
        {
            return Ok(Some(Swept { slot: header.slot, payload: Some(payload) }));
        }
        self.look_up(header.slot)
    }

    fn look_up(&self, slot: Slot) -> Result<Option<Swept>, ReadError> {
        match self.shared.read_slot(slot) {
            Ok(None) => Ok(None),
            Ok(payload) => Ok(Some(Swept { slot, payload })),
            Err(ReadError::Corrupt { .. }) => Ok(Some(Swept { slot, payload: None })),
            Err(error) => Err(error),
        }
    }

    /// Finds the slots of unreadable headers by their places. One that is not in the index any more
    /// may have been removed, or replaced by a record that was never on the list: the walk cannot be
    /// complete then.
    fn find_lost(&mut self) -> Result<(), ReadError> {
        let mut lost = std::mem::take(&mut self.lost);
        lost.sort_unstable();
        for shard in self.first_shard..self.next_shard {
            self.shared.index.visit_shard(shard, |slot, location| {
                if lost.binary_search(&location.place()).is_ok() {
                    self.found.push(*slot);
                }
            });
        }
        if self.found.len() < lost.len() {
            return Err(unsettled(split(lost[0]).0));
        }
        Ok(())
    }
}

impl<F: Fn(&Entry) -> bool> Iterator for Sweep<'_, F> {
    type Item = Result<Swept, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let step = self.step().transpose();
        self.ended = !matches!(step, Some(Ok(_)));
        step
    }
}

impl<F> fmt::Debug for Sweep<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left = self.places.len() - self.next;
        f.debug_struct("Sweep").field("left_in_pass", &left).finish_non_exhaustive()
    }
}

/// Segment and offset of a place.
fn split(place: u64) -> (u32, u64) {
    let [segment, offset] = [place >> 32, place & u64::from(u32::MAX)];
    (u32::try_from(segment).unwrap_or(u32::MAX), offset * ALIGN)
}
