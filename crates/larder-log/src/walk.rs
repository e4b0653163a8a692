//! The second pair of eyes: a walk over a segment that shares no loop with the one at open, for
//! checking a folder from outside.

use std::io;

use crate::crc32c;
use crate::io::{File, read_full};
use crate::record::{
    ALIGN, Commit, HEADER_LEN, Header, Kind, Seal, decode_abort, decode_delete, header_crc, take,
};
use crate::scan::{Body, Event, Frame, Scan};

const PIECE: usize = 256 << 10;

/// Reads a file front to back, frame by frame.
pub(crate) struct Walk<'a> {
    file: &'a dyn File,
    seed: u32,
    at: u64,
    limit: u64,
    piece: Vec<u8>,
    piece_at: u64,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(file: &'a dyn File, seed: u32, from: u64, limit: u64) -> io::Result<Self> {
        let limit = limit.min(file.size()?);
        Ok(Self { file, seed, at: from, limit, piece: Vec::new(), piece_at: 0 })
    }

    /// The next thing in the file.
    pub(crate) fn step(&mut self) -> io::Result<Option<Event>> {
        if self.at >= self.limit {
            return Ok(None);
        }
        let from = self.at;
        if let Some(header) = self.header_at(from)? {
            return self.frame(from, header).map(Some);
        }
        let mut any = false;
        let mut last = from;
        while self.at < self.limit {
            if self.at > from && self.header_at(self.at)?.is_some() {
                return Ok(Some(Event::Damage { from, to: self.at }));
            }
            let word = self.bytes(self.at, 8)?;
            if let Some(i) = word.iter().rposition(|byte| *byte != 0) {
                any = true;
                last = self.at + i as u64 + 1;
            }
            self.at += ALIGN;
        }
        Ok(any.then_some(Event::Damage { from, to: last }))
    }

    /// Goes on at `at`, where something has changed since.
    pub(crate) fn read_again(&mut self, at: u64) {
        self.at = at;
        self.piece.clear();
    }

    /// Everything up to the limit.
    pub(crate) fn all(mut self) -> io::Result<Scan> {
        let mut scan = Scan { events: Vec::new(), end: self.at };
        while let Some(event) = self.step()? {
            if matches!(event, Event::Frame(_)) {
                scan.end = event.end();
            }
            scan.events.push(event);
        }
        Ok(scan)
    }

    fn header_at(&mut self, at: u64) -> io::Result<Option<([u8; HEADER_LEN], Header)>> {
        let seed = self.seed;
        let bytes = self.bytes(at, HEADER_LEN)?;
        if bytes.len() < HEADER_LEN || bytes[4] == 0 {
            return Ok(None);
        }
        Ok(Header::decode(bytes, seed).map(|header| (take(bytes, 0), header)))
    }

    fn frame(&mut self, offset: u64, found: ([u8; HEADER_LEN], Header)) -> io::Result<Event> {
        let (raw, header) = found;
        let mut crc = 0;
        let mut small = Vec::new();
        let (mut at, end) = (
            offset + HEADER_LEN as u64,
            offset + HEADER_LEN as u64 + u64::from(header.payload_len),
        );
        while at < end.min(self.limit) {
            let want = PIECE.min(usize::try_from(end - at).unwrap_or(PIECE));
            let bytes = self.bytes(at, want)?;
            if bytes.is_empty() {
                break;
            }
            crc = crc32c::append(crc, bytes);
            if header.kind != Kind::Put {
                small.extend_from_slice(bytes);
            }
            at += bytes.len() as u64;
        }
        let payload_ok = at == end && crc == header.payload_crc;
        let body = match header.kind {
            _ if !payload_ok => Body::None,
            Kind::Put => Body::None,
            Kind::Delete => Body::Delete(decode_delete(&small)),
            Kind::Commit => Commit::decode(&small).map_or(Body::None, Body::Commit),
            Kind::Abort => Body::Abort(decode_abort(&small).into_boxed_slice()),
            Kind::Seal => Seal::decode(&small).map_or(Body::None, Body::Seal),
            Kind::Footer => Body::Footer(small.into_boxed_slice()),
        };
        self.at = offset + header.frame_len();
        Ok(Event::Frame(Frame { offset, header, header_crc: header_crc(&raw), payload_ok, body }))
    }

    fn bytes(&mut self, at: u64, len: usize) -> io::Result<&[u8]> {
        let len = len.min(usize::try_from(self.limit.saturating_sub(at)).unwrap_or(len));
        let start = usize::try_from(at.wrapping_sub(self.piece_at)).unwrap_or(usize::MAX);
        if start.saturating_add(len) > self.piece.len() {
            let left = usize::try_from(self.limit.saturating_sub(at)).unwrap_or(PIECE);
            self.piece.resize(PIECE.min(left), 0);
            let read = read_full(self.file, &mut self.piece, at)?;
            self.piece.truncate(read);
            self.piece_at = at;
            return Ok(&self.piece[..len.min(read)]);
        }
        Ok(&self.piece[start..start + len])
    }
}
