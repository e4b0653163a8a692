//! Reading a footer once more. It shares nothing with the reader at open but the layout of a
//! frame's header.

use crate::Slot;
use crate::crc32c;
use crate::record::{FLAG_REPLACES, Header, Kind, Seal, encode_abort, encode_delete, header_crc};
use crate::scan::{Body, Frame};
use crate::segment::FRAMES_START;

/// The frames that a footer tells of, if it fits its seal; `seed` is that of the segment.
pub(super) fn read(payload: &[u8], seal: &Seal, seed: u32) -> Option<Vec<Frame>> {
    let mut reader = Reader { rest: payload, lsn: 0, namespace: 0 };
    let (mut frames, mut checksums) = (Vec::new(), Vec::new());
    let mut offset = FRAMES_START;
    while !reader.rest.is_empty() {
        let (header, body) = reader.next()?;
        let header_crc = header_crc(&header.encode(seed));
        checksums.extend(header_crc.to_le_bytes());
        frames.push(Frame { offset, header, header_crc, payload_ok: true, body });
        offset += header.frame_len();
    }
    let lsns = || frames.iter().map(|frame| frame.header.lsn);
    let fits = seal.frames == frames.len() as u64
        && seal.footer == offset
        && lsns().min() == Some(seal.min_lsn)
        && lsns().max() == Some(seal.max_lsn)
        && seal.headers_crc == crc32c::of(&checksums);
    fits.then_some(frames)
}

struct Reader<'a> {
    rest: &'a [u8],
    lsn: u64,
    namespace: u16,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<(Header, Body)> {
        let tag = self.take(1)?[0];
        self.lsn = if tag & 0x10 == 0 { self.lsn.checked_add(1)? } else { self.number()? };
        if tag & 0x20 != 0 {
            self.namespace = u16::from_le_bytes(self.take(2)?.try_into().ok()?);
        }
        let kind = match tag & 0xc7 {
            1 => Kind::Put,
            2 => Kind::Delete,
            3 => Kind::Commit,
            4 => Kind::Abort,
            _ => return None,
        };
        let mut header = Header::control(kind, self.lsn, &[]);
        header.flags = if tag & 0x08 == 0 { 0 } else { FLAG_REPLACES };
        if matches!(kind, Kind::Put | Kind::Delete) {
            let id = self.take(16)?.try_into().ok()?;
            header.slot = Slot { namespace: self.namespace, id };
        }
        Some(match kind {
            Kind::Delete => {
                let oldest = self.number()?;
                (header.of(&encode_delete(oldest)), Body::Delete(oldest))
            }
            Kind::Abort => {
                let mut ranges = Vec::new();
                for _ in 0..self.number()? {
                    ranges.push((self.number()?, self.number()?));
                }
                (header.of(&encode_abort(&ranges)), Body::Abort(ranges.into()))
            }
            _ => {
                header.payload_len = 24;
                if kind == Kind::Put {
                    header.payload_len = u32::try_from(self.number()?).ok()?;
                }
                header.payload_crc = u32::from_le_bytes(self.take(4)?.try_into().ok()?);
                (header, Body::None)
            }
        })
    }

    /// Seven bits a byte, the lowest first; the last one has no top bit.
    fn number(&mut self) -> Option<u64> {
        let len = self.rest.iter().position(|byte| byte & 0x80 == 0)? + 1;
        let bytes = self.take(len)?;
        bytes
            .iter()
            .rev()
            .try_fold(0u64, |number, byte| Some(number.checked_mul(128)? | u64::from(byte & 0x7f)))
    }

    fn take(&mut self, len: usize) -> Option<&[u8]> {
        let (part, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(part)
    }
}
