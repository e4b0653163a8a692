//! A piece of a segment in memory, with several entries in it.

use std::io;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::chunk::Chunk;
use super::split;
use crate::io::{Advice, File, read_full};
use crate::record::HEADER_LEN;
use crate::segment::Segment;

/// A block fits the second-level cache, where its entries are checked and copied out of.
const BLOCK: u64 = 256 << 10;
/// What is read for nothing between two entries rather than being skipped.
const GAP: u64 = 64 << 10;
/// What is read behind the beginning of the last entry: mostly all of it.
const TAIL: u64 = 8 << 10;
/// How far the system is asked to read ahead.
const AHEAD: u64 = 2 << 20;

#[derive(Debug, Default)]
pub(super) struct Block {
    segment: u32,
    at: u64,
    bytes: Vec<u8>,
    /// Where payloads are copied to.
    chunk: Chunk,
    /// The system was asked to read up to here.
    asked: u64,
}

impl Block {
    /// Whether the header of the record at `place` is here.
    pub(super) fn holds(&self, place: u64) -> bool {
        let (segment, offset) = split(place);
        segment == self.segment && self.get(offset, HEADER_LEN).is_some()
    }

    /// `len` bytes at `offset`, if they are here.
    pub(super) fn get(&self, offset: u64, len: usize) -> Option<&[u8]> {
        let from = self.position(offset, len)?;
        self.bytes.get(from..from + len)
    }

    /// Where `len` bytes at `offset` begin here, if all of them are.
    fn position(&self, offset: u64, len: usize) -> Option<usize> {
        let from = usize::try_from(offset.checked_sub(self.at)?).ok()?;
        (from.checked_add(len)? <= self.bytes.len()).then_some(from)
    }

    /// Reads from the first of `places` on, as far as others lie close by.
    pub(super) fn load(&mut self, segment: &Segment, places: &[u64]) -> io::Result<()> {
        let mut offsets = places.iter().map(|place| split(*place));
        let Some((_, from)) = offsets.next() else { return Ok(()) };
        let mut end = from + TAIL;
        let mut full = false;
        for (id, offset) in offsets {
            full = offset + TAIL > from + BLOCK;
            if id != segment.id || offset > end + GAP || full {
                break;
            }
            end = offset + TAIL;
        }
        // Records that are referred to lie before the end.
        let end = end.min(segment.end.load(Ordering::Acquire)).max(from + HEADER_LEN as u64);
        if self.segment != segment.id {
            self.asked = 0;
        }
        if full && end + BLOCK > self.asked {
            let start = self.asked.max(end);
            segment.file.advise(start, AHEAD, Advice::WillNeed);
            self.asked = start + AHEAD;
        }
        self.segment = segment.id;
        self.at = from;
        let read = self.read(&*segment.file, end - from);
        // Bytes that nobody wants may be the ones that cannot be read.
        read.or_else(|_| self.read(&*segment.file, HEADER_LEN as u64))
    }

    fn read(&mut self, file: &dyn File, len: u64) -> io::Result<()> {
        self.bytes.resize(usize::try_from(len).unwrap_or(HEADER_LEN), 0);
        let read = read_full(file, &mut self.bytes, self.at);
        self.bytes.truncate(*read.as_ref().unwrap_or(&0));
        read.map(drop)
    }

    /// A payload, copied: a slice of the block would keep all of it in memory. What is not here is
    /// read; fewer bytes than `len` at the end of the file.
    pub(super) fn take(&mut self, segment: &Segment, at: u64, len: u32) -> io::Result<Bytes> {
        let len = len as usize;
        if let Some(from) = self.position(at, len) {
            return Ok(self.chunk.copy(&self.bytes[from..from + len]));
        }
        let from = usize::try_from(at.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let here = self.bytes.get(from..).unwrap_or_default();
        let mut payload = vec![0; len];
        payload[..here.len()].copy_from_slice(here);
        let read = read_full(&*segment.file, &mut payload[here.len()..], at + here.len() as u64)?;
        payload.truncate(here.len() + read);
        Ok(payload.into())
    }
}
