//! One frame: 40 bytes of header, the payload, zeros up to the next multiple of eight.
//!
//! The header's checksum and the payload's are separate, so that a rotten payload keeps its slot
//! and its length: exactly one entry is lost and the scan goes on. The header's checksum is seeded
//! with the store and the segment, so that bytes of another file never pass for a frame of this one.

use crate::Slot;
use crate::crc32c;

pub(crate) const HEADER_LEN: usize = 40;
pub(crate) const ALIGN: u64 = 8;

/// What a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The slot holds the payload.
    Put = 1,
    /// The slot holds nothing. Payload: [`encode_delete`].
    Delete = 2,
    /// The frames since the previous commit belong together. Payload: [`Commit`].
    Commit = 3,
    /// Ranges of earlier positions that never happened. Payload: pairs of first and last.
    Abort = 4,
    /// The segment ends here. Payload: [`Seal`].
    Seal = 5,
    /// What the segment holds, in short, before its seal. Payload: see [`crate::footer`].
    Footer = 6,
}

impl Kind {
    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Put,
            2 => Self::Delete,
            3 => Self::Commit,
            4 => Self::Abort,
            5 => Self::Seal,
            6 => Self::Footer,
            _ => return None,
        })
    }
}

/// Set on a put that may replace an older put of its slot.
pub(crate) const FLAG_REPLACES: u8 = 1;
const FLAGS_KNOWN: u8 = FLAG_REPLACES;

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) flags: u8,
    pub(crate) slot: Slot,
    pub(crate) payload_len: u32,
    pub(crate) payload_crc: u32,
    pub(crate) lsn: u64,
}

impl Header {
    /// A header of a frame that belongs to no slot.
    pub(crate) fn control(kind: Kind, lsn: u64, payload: &[u8]) -> Self {
        let slot = Slot { namespace: 0, id: [0; 16] };
        Self { kind, flags: 0, slot, payload_len: 0, payload_crc: 0, lsn }.of(payload)
    }

    /// The same header for this payload.
    pub(crate) fn of(self, payload: &[u8]) -> Self {
        Self {
            payload_len: u32::try_from(payload.len()).unwrap_or(u32::MAX),
            payload_crc: crc32c::of(payload),
            ..self
        }
    }

    /// The header as bytes, its checksum first.
    pub(crate) fn encode(&self, seed: u32) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[4] = self.kind as u8;
        bytes[5] = self.flags;
        bytes[6..8].copy_from_slice(&self.slot.namespace.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.payload_len.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.payload_crc.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.lsn.to_le_bytes());
        bytes[24..40].copy_from_slice(&self.slot.id);
        let crc = crc32c::append(seed, &bytes[4..]);
        bytes[..4].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The header in `bytes`, if they are one of this store and segment.
    pub(crate) fn decode(bytes: &[u8], seed: u32) -> Option<Self> {
        let bytes: &[u8; HEADER_LEN] = bytes.get(..HEADER_LEN)?.try_into().ok()?;
        let kind = Kind::from_byte(bytes[4])?;
        let flags = bytes[5];
        if flags & !FLAGS_KNOWN != 0 || header_crc(bytes) != crc32c::append(seed, &bytes[4..]) {
            return None;
        }
        Some(Self {
            kind,
            flags,
            slot: Slot { namespace: u16::from_le_bytes(take(bytes, 6)), id: take(bytes, 24) },
            payload_len: u32::from_le_bytes(take(bytes, 8)),
            payload_crc: u32::from_le_bytes(take(bytes, 12)),
            lsn: u64::from_le_bytes(take(bytes, 16)),
        })
    }

    /// Bytes that the whole frame takes on disk.
    pub(crate) fn frame_len(&self) -> u64 {
        frame_len(u64::from(self.payload_len))
    }
}

/// The checksum that an encoded header carries.
pub(crate) fn header_crc(header: &[u8; HEADER_LEN]) -> u32 {
    u32::from_le_bytes(take(header, 0))
}

/// Bytes that a frame with such a payload takes on disk.
pub(crate) fn frame_len(payload_len: u64) -> u64 {
    (HEADER_LEN as u64 + payload_len).next_multiple_of(ALIGN)
}

/// The seed of the header checksums in one segment of one store.
pub(crate) fn seed(store: &[u8; 16], segment: u64) -> u32 {
    crc32c::append(crc32c::of(store), &segment.to_le_bytes())
}

/// Appends a whole frame to `out`.
pub(crate) fn push_frame(out: &mut Vec<u8>, header: &Header, payload: &[u8], seed: u32) {
    out.extend_from_slice(&header.encode(seed));
    out.extend_from_slice(payload);
    let padded = out.len() + padding(payload.len());
    out.resize(padded, 0);
}

/// Zeros after a payload of this length.
pub(crate) fn padding(payload_len: usize) -> usize {
    let end = HEADER_LEN + payload_len;
    end.next_multiple_of(8) - end
}

/// The payload of a commit frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Commit {
    /// Position of the first frame of the group; the commit's own when the group is empty.
    pub(crate) first_lsn: u64,
    /// Everything up to here had survived a sync when this was written.
    pub(crate) durable_lsn: u64,
    /// Frames in the group, the commit not counted.
    pub(crate) count: u32,
    /// Checksum over the header checksums of the group.
    pub(crate) headers_crc: u32,
}

impl Commit {
    pub(crate) const LEN: usize = 24;

    pub(crate) fn encode(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..8].copy_from_slice(&self.first_lsn.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.durable_lsn.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.count.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.headers_crc.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::LEN] = bytes.try_into().ok()?;
        Some(Self {
            first_lsn: u64::from_le_bytes(take(bytes, 0)),
            durable_lsn: u64::from_le_bytes(take(bytes, 8)),
            count: u32::from_le_bytes(take(bytes, 16)),
            headers_crc: u32::from_le_bytes(take(bytes, 20)),
        })
    }
}

/// The payload of a seal frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seal {
    /// Offset of the seal frame itself.
    pub(crate) offset: u64,
    /// Frames before it, its footer not counted.
    pub(crate) frames: u64,
    /// Lowest position in the segment.
    pub(crate) min_lsn: u64,
    /// Highest position in the segment, those of footer and seal not counted.
    pub(crate) max_lsn: u64,
    /// Offset of the footer; 0 when there is none.
    pub(crate) footer: u64,
    /// Checksum over the header checksums of the frames that are counted.
    pub(crate) headers_crc: u32,
}

impl Seal {
    pub(crate) const LEN: usize = 48;

    pub(crate) fn encode(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        let numbers = [self.offset, self.frames, self.min_lsn, self.max_lsn, self.footer];
        for (at, number) in numbers.into_iter().enumerate() {
            bytes[at * 8..at * 8 + 8].copy_from_slice(&number.to_le_bytes());
        }
        bytes[40..44].copy_from_slice(&self.headers_crc.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::LEN] = bytes.try_into().ok()?;
        let number = |at: usize| u64::from_le_bytes(take(bytes, at));
        Some(Self {
            offset: number(0),
            frames: number(8),
            min_lsn: number(16),
            max_lsn: number(24),
            footer: number(32),
            headers_crc: u32::from_le_bytes(take(bytes, 40)),
        })
    }
}

/// The payload of a delete: the lowest position at which an older version of the slot may lie.
pub(crate) fn encode_delete(oldest_lsn: u64) -> [u8; 8] {
    oldest_lsn.to_le_bytes()
}

/// Reads [`encode_delete`]; an unreadable one is taken as "anywhere".
pub(crate) fn decode_delete(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_le_bytes)
}

/// The payload of an abort: ranges of positions, both ends included.
pub(crate) fn encode_abort(ranges: &[(u64, u64)]) -> Vec<u8> {
    ranges
        .iter()
        .flat_map(|(first, last)| [first.to_le_bytes(), last.to_le_bytes()])
        .flatten()
        .collect()
}

/// Reads [`encode_abort`].
pub(crate) fn decode_abort(bytes: &[u8]) -> Vec<(u64, u64)> {
    bytes
        .chunks_exact(16)
        .map(|pair| (u64::from_le_bytes(take(pair, 0)), u64::from_le_bytes(take(pair, 8))))
        .collect()
}

/// `N` bytes at `at`; zeros where the slice is too short, which no caller lets happen.
pub(crate) fn take<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..at + N).and_then(|part| part.try_into().ok()).unwrap_or([0; N])
}

#[cfg(test)]
mod tests;
