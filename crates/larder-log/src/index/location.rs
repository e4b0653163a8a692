//! Where one version of a slot lies.

use crate::Slot;
use crate::record::{ALIGN, frame_len, take};

const PRE_OPEN: u64 = 1 << 63;
const REPLACED: u64 = 1 << 62;
const CORRUPT: u64 = 1 << 61;
const LSN: u64 = CORRUPT - 1;

/// Where a version lies, and what is known about it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Location {
    segment: u32,
    /// In units of eight bytes: all frames are aligned so.
    offset: u32,
    len: u32,
    /// Position and flags.
    lsn: u64,
}

/// A slot and its location as the table holds them: without the padding that types bring.
pub(super) type Packed = [u8; PACKED_LEN];
pub(super) const PACKED_LEN: usize = SLOT_LEN + 20;
const SLOT_LEN: usize = 18;

impl std::fmt::Debug for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "segment {} offset {} lsn {}", self.segment, self.offset(), self.lsn())
    }
}

impl Location {
    pub(crate) fn new(segment: u32, offset: u64, len: u32, lsn: u64) -> Self {
        let offset = u32::try_from(offset / ALIGN).unwrap_or(u32::MAX);
        Self { segment, offset, len, lsn: lsn & LSN }
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
        self.lsn & LSN
    }

    /// Segment and offset as one number, which sorts by both.
    pub(crate) fn place(&self) -> u64 {
        (u64::from(self.segment) << 32) | u64::from(self.offset)
    }

    /// The frame's bytes on disk.
    pub(crate) fn frame_len(&self) -> u64 {
        frame_len(u64::from(self.len))
    }

    /// The slot was there when the log was opened (replacing keeps that).
    pub(crate) fn pre_open(&self) -> bool {
        self.lsn & PRE_OPEN != 0
    }

    /// Older versions of the slot may lie on disk that no delete covers yet.
    pub(crate) fn replaced(&self) -> bool {
        self.lsn & REPLACED != 0
    }

    /// The scan at open found the payload damaged.
    pub(crate) fn corrupt(&self) -> bool {
        self.lsn & CORRUPT != 0
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

    fn with(mut self, flag: u64, on: bool) -> Self {
        self.lsn = if on { self.lsn | flag } else { self.lsn & !flag };
        self
    }

    /// Same place on disk, whatever the flags say.
    pub(crate) fn same_place(&self, other: &Self) -> bool {
        (self.segment, self.offset, self.lsn()) == (other.segment, other.offset, other.lsn())
    }

    pub(super) fn pack(&self, slot: &Slot) -> Packed {
        let mut packed = [0; PACKED_LEN];
        packed[..2].copy_from_slice(&slot.namespace.to_le_bytes());
        packed[2..SLOT_LEN].copy_from_slice(&slot.id);
        packed[18..22].copy_from_slice(&self.segment.to_le_bytes());
        packed[22..26].copy_from_slice(&self.offset.to_le_bytes());
        packed[26..30].copy_from_slice(&self.len.to_le_bytes());
        packed[30..].copy_from_slice(&self.lsn.to_le_bytes());
        packed
    }

    pub(super) fn unpack(packed: &Packed) -> Self {
        Self {
            segment: u32::from_le_bytes(take(packed, 18)),
            offset: u32::from_le_bytes(take(packed, 22)),
            len: u32::from_le_bytes(take(packed, 26)),
            lsn: u64::from_le_bytes(take(packed, 30)),
        }
    }
}

pub(super) fn slot_of(packed: &Packed) -> Slot {
    Slot { namespace: u16::from_le_bytes(take(packed, 0)), id: take(packed, 2) }
}

pub(super) fn is_of(packed: &Packed, slot: &Slot) -> bool {
    packed[2..SLOT_LEN] == slot.id && packed[..2] == slot.namespace.to_le_bytes()
}
