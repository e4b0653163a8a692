//! The footer of a sealed segment: every frame in it in a few bytes, so that opening reads these
//! and not the segment.
//!
//! It holds all of a frame's header but its checksum, which is computed. The seal, written beside
//! it, holds the checksum over all header checksums, taken when the frames were encoded. So a
//! footer that tells of other frames than were written is found out, however sound its own
//! checksum is.

use crate::Slot;
use crate::crc32c;
use crate::io::{File, read_full};
use crate::record::{
    Commit, FLAG_REPLACES, HEADER_LEN, Header, Kind, Seal, encode_abort, encode_delete, frame_len,
    header_crc,
};
use crate::scan::{Body, Frame};
use crate::segment::FRAMES_START;

/// Bytes of a seal frame.
pub(crate) const SEAL_BYTES: u64 = (HEADER_LEN + Seal::LEN) as u64;
/// The committer begins a new segment when the footer would get larger: it is in memory until then.
pub(crate) const FOOTER_BYTES_MAX: u64 = 16 << 20;
/// The most that one frame of an operation adds.
pub(crate) const HINT_BYTES_MAX: u64 = 1 + 10 + 2 + 16 + 10 + 4;

/// What a put usually adds.
pub(crate) const PUT_HINT_BYTES: u64 = 24;

const KIND: u8 = 0b0000_0111;
const REPLACES: u8 = 0b0000_1000;
/// The position follows; otherwise it is one above the position before.
const LSN: u8 = 0b0001_0000;
/// The namespace follows; otherwise it is that of the slot before.
const NAMESPACE: u8 = 0b0010_0000;

/// The records of a footer, growing frame by frame.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hints {
    bytes: Vec<u8>,
    frames: u64,
    headers_crc: u32,
    lsn: u64,
    namespace: u16,
    /// A frame could not be told: there will be no footer.
    broken: bool,
}

impl Hints {
    /// What is pushed to the fork comes to count when the fork is joined.
    pub(crate) fn fork(&self) -> Self {
        Self { bytes: Vec::new(), ..*self }
    }

    /// Takes over what was pushed to a fork of this.
    pub(crate) fn join(&mut self, fork: &Self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        if fork.broken {
            bytes = Vec::new();
        }
        bytes.extend_from_slice(&fork.bytes);
        *self = Self { bytes, ..*fork };
    }

    /// There will be no footer: something in the segment cannot be told.
    pub(crate) fn give_up(&mut self) {
        *self = Self { broken: true, ..Self::default() };
    }

    /// Adds a frame as a walk met it; one that is not sound ends the footer.
    pub(crate) fn push_frame(&mut self, frame: &Frame) {
        match (&frame.body, frame.header.kind) {
            _ if !frame.payload_ok => self.give_up(),
            (Body::Delete(oldest), _) => self.push(&frame.header, &[(*oldest, 0)]),
            (Body::Abort(ranges), _) => self.push(&frame.header, ranges),
            (_, Kind::Put | Kind::Commit) => self.push(&frame.header, &[]),
            _ => return self.give_up(),
        }
        self.cover(&frame.header_crc.to_le_bytes());
    }

    /// Adds a frame. `says` is what a delete (its oldest position and nothing) or an abort says.
    pub(crate) fn push(&mut self, header: &Header, says: &[(u64, u64)]) {
        if self.broken {
            return;
        }
        let slotted = matches!(header.kind, Kind::Put | Kind::Delete);
        let follows = header.lsn == self.lsn.wrapping_add(1);
        let same_namespace = !slotted || header.slot.namespace == self.namespace;
        let mut tag = header.kind as u8;
        tag |= if header.flags & FLAG_REPLACES == 0 { 0 } else { REPLACES };
        tag |= if follows { 0 } else { LSN };
        tag |= if same_namespace { 0 } else { NAMESPACE };
        let out = &mut self.bytes;
        out.push(tag);
        if !follows {
            push_number(out, header.lsn);
        }
        if !same_namespace {
            out.extend_from_slice(&header.slot.namespace.to_le_bytes());
            self.namespace = header.slot.namespace;
        }
        if slotted {
            out.extend_from_slice(&header.slot.id);
        }
        match header.kind {
            Kind::Put => push_number(out, u64::from(header.payload_len)),
            Kind::Delete => push_number(out, says.first().map_or(0, |(oldest, _)| *oldest)),
            Kind::Abort => {
                push_number(out, says.len() as u64);
                for (first, last) in says {
                    push_number(out, *first);
                    push_number(out, *last);
                }
            }
            Kind::Commit | Kind::Footer | Kind::Seal => {}
        }
        if matches!(header.kind, Kind::Put | Kind::Commit) {
            out.extend_from_slice(&header.payload_crc.to_le_bytes());
        }
        self.lsn = header.lsn;
        self.frames += 1;
    }

    /// Takes the checksums of the headers that were pushed since into the seal's own.
    pub(crate) fn cover(&mut self, header_crcs: &[u8]) {
        self.headers_crc = crc32c::append(self.headers_crc, header_crcs);
    }

    /// Bytes that the footer takes on disk.
    pub(crate) fn footer_len(&self) -> u64 {
        if self.broken { 0 } else { frame_len(self.bytes.len() as u64) }
    }

    /// The footer's payload; `None` when there is none.
    pub(crate) fn payload(&self) -> Option<&[u8]> {
        (!self.broken).then_some(&self.bytes)
    }

    /// What the seal behind the footer says, which begins at `footer`.
    pub(crate) fn seal(&self, footer: u64, (min_lsn, max_lsn): (u64, u64)) -> Seal {
        let len = self.footer_len();
        Seal {
            offset: footer + len,
            frames: self.frames,
            min_lsn,
            max_lsn,
            footer: if self.broken { 0 } else { footer },
            headers_crc: self.headers_crc,
        }
    }
}

/// A footer that tells of exactly the frames that were written.
#[derive(Debug)]
pub(crate) struct Footer {
    payload: Vec<u8>,
    seed: u32,
    pub(crate) max_lsn: u64,
    /// Of the footer's own frame.
    pub(crate) header: Header,
}

impl Footer {
    /// Reads and checks the footer of a segment that ends at `end`; `None` when there is none that
    /// can be believed. `lsns` are the lowest and the highest position in the segment as far as the
    /// manifest knows.
    pub(crate) fn read(
        file: &dyn File,
        seed: u32,
        end: u64,
        lsns: Option<(u64, u64)>,
    ) -> std::io::Result<Option<Self>> {
        let Some(seal) = read_seal(file, seed, end)? else { return Ok(None) };
        let at = seal.footer;
        if at < FRAMES_START || at + HEADER_LEN as u64 > seal.offset {
            return Ok(None);
        }
        let mut bytes = [0; HEADER_LEN];
        if read_full(file, &mut bytes, at)? < HEADER_LEN {
            return Ok(None);
        }
        let Some(header) = Header::decode(&bytes, seed) else { return Ok(None) };
        if header.kind != Kind::Footer || at + header.frame_len() != seal.offset {
            return Ok(None);
        }
        let mut payload = vec![0; header.payload_len as usize];
        let read = read_full(file, &mut payload, at + HEADER_LEN as u64)?;
        if read < payload.len() || crc32c::of(&payload) != header.payload_crc {
            return Ok(None);
        }
        let mut footer = Self { payload, seed, max_lsn: 0, header };
        Ok(footer.agrees_with(&seal, lsns).then_some(footer))
    }

    fn agrees_with(&mut self, seal: &Seal, lsns: Option<(u64, u64)>) -> bool {
        let mut told = Told { end: FRAMES_START, min_lsn: u64::MAX, ..Told::default() };
        let mut records = self.frames();
        for frame in records.by_ref() {
            told.frames += 1;
            told.end = frame.end();
            told.min_lsn = told.min_lsn.min(frame.header.lsn);
            told.max_lsn = told.max_lsn.max(frame.header.lsn);
            let crc = frame.header_crc.to_le_bytes();
            told.headers_crc = crc32c::append(told.headers_crc, &crc);
        }
        let whole = records.rest.is_empty();
        self.max_lsn = told.max_lsn;
        let range = (told.min_lsn, told.max_lsn);
        whole
            && told.end == seal.footer
            && told.frames == seal.frames
            && told.headers_crc == seal.headers_crc
            && range == (seal.min_lsn, seal.max_lsn)
            && lsns.is_none_or(|lsns| lsns == range)
    }

    /// The frames that it tells of, in the order in which they lie in the segment.
    pub(crate) fn frames(&self) -> Frames<'_> {
        Frames { rest: &self.payload, seed: self.seed, offset: FRAMES_START, lsn: 0, namespace: 0 }
    }
}

#[derive(Default)]
struct Told {
    end: u64,
    frames: u64,
    headers_crc: u32,
    min_lsn: u64,
    max_lsn: u64,
}

/// The seal that ends a segment.
pub(crate) fn read_seal(file: &dyn File, seed: u32, end: u64) -> std::io::Result<Option<Seal>> {
    let Some(at) = end.checked_sub(SEAL_BYTES).filter(|at| *at >= FRAMES_START) else {
        return Ok(None);
    };
    let mut bytes = [0; HEADER_LEN + Seal::LEN];
    if read_full(file, &mut bytes, at)? < bytes.len() {
        return Ok(None);
    }
    let Some(header) = Header::decode(&bytes, seed) else { return Ok(None) };
    let payload = &bytes[HEADER_LEN..];
    if header.kind != Kind::Seal || header.payload_crc != crc32c::of(payload) {
        return Ok(None);
    }
    Ok(Seal::decode(payload).filter(|seal| seal.offset == at))
}

/// Reads the records of a footer one by one; ends early where they make no sense.
#[derive(Debug)]
pub(crate) struct Frames<'a> {
    rest: &'a [u8],
    seed: u32,
    offset: u64,
    lsn: u64,
    namespace: u16,
}

impl Frames<'_> {
    fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.bytes()?;
            number |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn record(&mut self) -> Option<Frame> {
        let [tag] = self.bytes()?;
        if tag & !(KIND | REPLACES | LSN | NAMESPACE) != 0 {
            return None;
        }
        let kind = Kind::from_byte(tag & KIND)?;
        let slotted = matches!(kind, Kind::Put | Kind::Delete);
        let lsn = if tag & LSN == 0 { self.lsn.wrapping_add(1) } else { self.number()? };
        if tag & NAMESPACE != 0 {
            self.namespace = u16::from_le_bytes(self.bytes()?);
        }
        let slot = if slotted {
            Slot { namespace: self.namespace, id: self.bytes()? }
        } else {
            Slot { namespace: 0, id: [0; 16] }
        };
        let flags = if tag & REPLACES == 0 { 0 } else { FLAG_REPLACES };
        let mut header = Header { kind, flags, slot, payload_len: 0, payload_crc: 0, lsn };
        let mut body = Body::None;
        match kind {
            Kind::Put => header.payload_len = u32::try_from(self.number()?).ok()?,
            Kind::Commit => header.payload_len = u32::try_from(Commit::LEN).ok()?,
            Kind::Delete => {
                let oldest = self.number()?;
                body = Body::Delete(oldest);
                header = header.of(&encode_delete(oldest));
            }
            Kind::Abort => {
                let count = usize::try_from(self.number()?).ok()?;
                // Each range takes two bytes at least, so the count says nothing about memory yet.
                let mut ranges = Vec::with_capacity(count.min(self.rest.len() / 2));
                for _ in 0..count {
                    ranges.push((self.number()?, self.number()?));
                }
                header = header.of(&encode_abort(&ranges));
                body = Body::Abort(ranges.into_boxed_slice());
            }
            Kind::Footer | Kind::Seal => return None,
        }
        if matches!(kind, Kind::Put | Kind::Commit) {
            header.payload_crc = u32::from_le_bytes(self.bytes()?);
        }
        let offset = self.offset;
        self.lsn = lsn;
        self.offset = offset.checked_add(header.frame_len())?;
        let header_crc = header_crc(&header.encode(self.seed));
        Some(Frame { offset, header, header_crc, payload_ok: true, body })
    }
}

impl Iterator for Frames<'_> {
    type Item = Frame;

    fn next(&mut self) -> Option<Frame> {
        if self.rest.is_empty() {
            return None;
        }
        let before = self.rest;
        let record = self.record();
        if record.is_none() {
            // What is left is not empty, which tells a bad end from a good one.
            self.rest = before;
        }
        record
    }
}

fn push_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

#[cfg(test)]
mod tests;
