//! The bytes of one group: everything that one vectored write and one sync make happen.

use std::collections::HashSet;
use std::ops::Range;

use crate::Slot;
use crate::batch::Op;
use crate::crc32c;
use crate::footer::Hints;
use crate::index::{Index, Location};
use crate::record::{
    Commit, FLAG_REPLACES, HEADER_LEN, Header, Kind, encode_abort, encode_delete, frame_len,
    header_crc, padding, push_frame,
};
use crate::shared::QueuedBatch;

/// Bytes of a commit frame.
pub(crate) const COMMIT_BYTES: u64 = (HEADER_LEN + Commit::LEN) as u64;
/// Payloads up to this length are copied next to their headers: cheaper than a part of their own.
const INLINE_MAX: usize = 512;
/// Memory for headers that is kept for the next group.
const SCRATCH_MAX: usize = 1 << 20;

/// Memory that one group leaves to the next.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    inline: Vec<u8>,
    header_crcs: Vec<u8>,
    effects: Vec<BatchEffect>,
    changes: Vec<Change>,
    put_here: PutHere,
}

impl Scratch {
    /// Takes back what publishing needed.
    pub(crate) fn keep(&mut self, mut effects: Vec<BatchEffect>, mut changes: Vec<Change>) {
        effects.clear();
        effects.shrink_to(SCRATCH_MAX / size_of::<BatchEffect>());
        changes.clear();
        changes.shrink_to(SCRATCH_MAX / size_of::<Change>());
        (self.effects, self.changes) = (effects, changes);
    }
}

/// Slots that a group has put.
type PutHere = HashSet<Slot, rapidhash::fast::RandomState>;

/// A group, encoded for one place in one segment.
#[derive(Debug)]
pub(crate) struct Group<'a> {
    inline: Vec<u8>,
    parts: Vec<Part<'a>>,
    inline_from: usize,
    /// The checksums of the headers, one after the other.
    header_crcs: Vec<u8>,
    count: u32,
    place: Place,
    first_lsn: u64,
    /// What each batch comes to, in the order of the batches.
    pub(crate) effects: Vec<BatchEffect>,
    /// What they do to the index, one after the other.
    pub(crate) changes: Vec<Change>,
    /// Lowest and highest position that deletes and aborts refer to, and their bytes.
    pub(crate) tombstones: Vec<(u64, u64, u64)>,
    /// Bytes of the puts.
    pub(crate) put_bytes: u64,
    /// What the group adds to the footer of its segment.
    pub(crate) hints: Hints,
    put_here: PutHere,
}

/// Where the next frame goes and which position it gets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) segment: u32,
    pub(crate) seed: u32,
    pub(crate) offset: u64,
    pub(crate) lsn: u64,
}

/// What a batch does to the index once it is published.
#[derive(Debug, Default)]
pub(crate) struct BatchEffect {
    /// How many of the group's changes are its own.
    pub(crate) changes: usize,
    /// First and last position, where it wrote anything.
    pub(crate) lsns: Option<(u64, u64)>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    Put(Slot, Location),
    Delete(Slot),
}

#[derive(Debug)]
enum Part<'a> {
    Inline(Range<usize>),
    Payload(&'a [u8]),
}

impl<'a> Group<'a> {
    pub(crate) fn new(place: Place, hints: Hints, scratch: Scratch) -> Self {
        let Scratch { inline, header_crcs, effects, changes, put_here } = scratch;
        Self {
            inline,
            parts: Vec::new(),
            inline_from: 0,
            header_crcs,
            count: 0,
            place,
            first_lsn: place.lsn,
            effects,
            changes,
            tombstones: Vec::new(),
            put_bytes: 0,
            hints,
            put_here,
        }
    }

    /// What it held is written: its memory, for the next group.
    pub(crate) fn into_scratch(self) -> Scratch {
        let Self { mut inline, mut header_crcs, mut put_here, .. } = self;
        let (effects, changes) = (Vec::new(), Vec::new());
        for bytes in [&mut inline, &mut header_crcs] {
            bytes.clear();
            bytes.shrink_to(SCRATCH_MAX);
        }
        put_here.clear();
        put_here.shrink_to(SCRATCH_MAX / size_of::<Slot>());
        Scratch { inline, header_crcs, effects, changes, put_here }
    }

    /// Adds the frames of all batches. A delete of what is not there, and was not put by an earlier
    /// operation of the group, writes nothing.
    pub(crate) fn push_batches(&mut self, batches: &'a [QueuedBatch], index: &Index) {
        let ops = batches.iter().map(|batch| batch.ops.len()).sum::<usize>();
        // A header and a payload each.
        self.parts.reserve(2 * ops + 1);
        for batch in batches {
            let changes = self.changes.len();
            let mut effect = BatchEffect::default();
            for op in &batch.ops {
                let lsn = self.place.lsn;
                let before = index.get(&op.slot());
                let again = match op {
                    Op::Put { slot, .. } => !self.put_here.insert(*slot),
                    Op::Delete { slot } => self.put_here.contains(slot),
                };
                match op {
                    Op::Put { slot, payload, crc } => {
                        let replaces = before.is_some() || again;
                        let location = self.push_put(*slot, payload, *crc, replaces);
                        self.changes.push(Change::Put(*slot, location));
                    }
                    Op::Delete { .. } if before.is_none() && !again => continue,
                    Op::Delete { slot } => {
                        let oldest = match before {
                            Some(location) if !location.replaced() && !again => location.lsn(),
                            _ => 0,
                        };
                        self.push_delete(*slot, oldest);
                        self.changes.push(Change::Delete(*slot));
                    }
                }
                effect.lsns = Some((effect.lsns.map_or(lsn, |(first, _)| first), lsn));
            }
            effect.changes = self.changes.len() - changes;
            self.effects.push(effect);
        }
    }

    /// Adds a frame that cancels ranges of earlier positions.
    pub(crate) fn push_abort(&mut self, ranges: &[(u64, u64)]) {
        let payload = encode_abort(ranges);
        let lsn = self.place.lsn;
        let header = Header::control(Kind::Abort, lsn, &payload);
        let oldest = ranges.iter().map(|(first, _)| *first).min().unwrap_or(0);
        self.tombstones.push((oldest, lsn, header.frame_len()));
        self.push(&header, &payload, ranges);
    }

    /// Adds the commit that makes the group whole. After this only [`Self::parts`] makes sense.
    pub(crate) fn commit(&mut self, durable_lsn: u64) {
        let commit = Commit {
            first_lsn: self.first_lsn,
            durable_lsn,
            count: self.count,
            headers_crc: crc32c::of(&self.header_crcs),
        };
        let payload = commit.encode();
        self.push(&Header::control(Kind::Commit, self.place.lsn, &payload), &payload, &[]);
        self.hints.cover(&self.header_crcs);
        self.close_inline();
    }

    /// Nothing was added.
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The place after the group.
    pub(crate) fn next_place(&self) -> Place {
        self.place
    }

    /// The bytes, in order.
    pub(crate) fn parts(&self) -> Vec<&[u8]> {
        self.parts
            .iter()
            .map(|part| match part {
                Part::Inline(range) => &self.inline[range.clone()],
                Part::Payload(payload) => payload,
            })
            .collect()
    }

    fn push_put(&mut self, slot: Slot, payload: &'a [u8], crc: u32, replaces: bool) -> Location {
        let flags = if replaces { FLAG_REPLACES } else { 0 };
        let header = Op::put_header(slot, payload.len(), crc, flags, self.place.lsn);
        let location =
            Location::new(self.place.segment, self.place.offset, header.payload_len, header.lsn);
        self.put_bytes += header.frame_len();
        if payload.len() <= INLINE_MAX {
            self.push(&header, payload, &[]);
        } else {
            self.push_header(&header, &[]);
            self.close_inline();
            self.parts.push(Part::Payload(payload));
            let padded = self.inline.len() + padding(payload.len());
            self.inline.resize(padded, 0);
        }
        location.with_replaced(replaces)
    }

    fn push_delete(&mut self, slot: Slot, oldest: u64) {
        let payload = encode_delete(oldest);
        let lsn = self.place.lsn;
        let header = Header { slot, ..Header::control(Kind::Delete, lsn, &payload) };
        self.tombstones.push((oldest, lsn, header.frame_len()));
        self.push(&header, &payload, &[(oldest, 0)]);
    }

    fn push(&mut self, header: &Header, payload: &[u8], says: &[(u64, u64)]) {
        self.push_header(header, says);
        self.inline.extend_from_slice(payload);
        let padded = self.inline.len() + padding(payload.len());
        self.inline.resize(padded, 0);
    }

    fn push_header(&mut self, header: &Header, says: &[(u64, u64)]) {
        let bytes = header.encode(self.place.seed);
        let crc = header_crc(&bytes);
        self.header_crcs.extend_from_slice(&crc.to_le_bytes());
        self.hints.push(header, says);
        self.count += 1;
        self.inline.extend_from_slice(&bytes);
        self.place.offset += header.frame_len();
        self.place.lsn += 1;
    }

    fn close_inline(&mut self) {
        if self.inline_from < self.inline.len() {
            self.parts.push(Part::Inline(self.inline_from..self.inline.len()));
            self.inline_from = self.inline.len();
        }
    }
}

/// Bytes that a batch takes at most, without its share of the commit.
pub(crate) fn abort_bytes(ranges: usize) -> u64 {
    if ranges == 0 { 0 } else { frame_len(ranges as u64 * 16) }
}

/// A whole control frame as bytes.
pub(crate) fn control_frame(kind: Kind, lsn: u64, payload: &[u8], seed: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    push_frame(&mut bytes, &Header::control(kind, lsn, payload), payload, seed);
    bytes
}
