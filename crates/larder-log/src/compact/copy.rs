//! Writing segments of copies.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Tempo;
use crate::crc32c;
use crate::footer::{FOOTER_BYTES_MAX, HINT_BYTES_MAX, Hints, SEAL_BYTES};
use crate::group::control_frame;
use crate::io::{read_full, write_all};
use crate::record::{HEADER_LEN, Kind, header_crc, padding};
use crate::scan::{Body, Frame};
use crate::segment::{FRAMES_START, Origin, Segment, SegmentHeader};
use crate::shared::Shared;
use crate::writer::{create_segment, discard_segment};

/// Copies are read and written in pieces of this size; nothing larger is held in memory.
const PIECE: usize = 256 << 10;

/// How much is written before it is synced.
const SYNC_EVERY: u64 = 1 << 20;

/// Told how many bytes are to be written; may wait, and refuse by an error.
type Ask<'a> = &'a dyn Fn(u64) -> io::Result<()>;

/// Why a frame was not copied.
pub(super) enum CopyFault {
    Io(io::Error),
    /// The payload is not what its checksum says.
    Rotten,
}

impl From<io::Error> for CopyFault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Segments of copies in the making. What was not finished is removed again when it is dropped.
pub(super) struct Output<'a> {
    shared: &'a Shared,
    as_of_lsn: u64,
    pub(super) tempo: Tempo,
    done: Vec<Arc<Segment>>,
    open: Option<Open>,
    /// Bytes of the frames that were copied.
    pub(super) copied_bytes: u64,
}

/// The segment that copies are appended to.
struct Open {
    segment: Segment,
    /// Bytes that are not written yet, and where they go.
    piece: Vec<u8>,
    piece_at: u64,
    hints: Hints,
    synced_at: u64,
}

impl<'a> Output<'a> {
    /// `as_of_lsn`: what was cancelled up to there will not be copied.
    pub(super) fn new(shared: &'a Shared, as_of_lsn: u64, tempo: Tempo) -> Self {
        Self { shared, as_of_lsn, tempo, done: Vec::new(), open: None, copied_bytes: 0 }
    }

    /// Copies a frame, checking its payload once more: a copy is never worse than what was read.
    pub(super) fn push(&mut self, victim: &Segment, frame: &Frame) -> Result<(), CopyFault> {
        let len = frame.header.frame_len();
        let limit = self.shared.options.segment_bytes;
        if self.open.as_ref().is_some_and(|open| !open.fits(len, limit)) {
            self.seal()?;
        }
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.begin()?,
        };
        let copied =
            open.copy(victim, frame, &|bytes| self.shared.ask_compactor(bytes, self.tempo));
        self.open = Some(open);
        copied?;
        self.copied_bytes += len;
        Ok(())
    }

    /// Seals what was copied: synced, not listed yet.
    pub(super) fn finish(mut self) -> io::Result<Vec<Arc<Segment>>> {
        self.seal()?;
        Ok(std::mem::take(&mut self.done))
    }

    fn begin(&self) -> io::Result<Open> {
        let header = SegmentHeader {
            store: self.shared.store,
            id: 0,
            base_lsn: 0,
            as_of_lsn: self.as_of_lsn,
            origin: Origin::Compaction,
            recycled: false,
        };
        let (segment, _) = create_segment(self.shared, header)?;
        Ok(Open {
            segment,
            piece: Vec::new(),
            piece_at: FRAMES_START,
            synced_at: 0,
            hints: Hints::default(),
        })
    }

    fn seal(&mut self) -> io::Result<()> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        let sealed = open.seal(&|bytes| self.shared.ask_compactor(bytes, self.tempo));
        match sealed {
            Ok(()) => self.done.push(Arc::new(open.segment)),
            Err(_) => discard_segment(self.shared, open.segment.id),
        }
        sealed
    }
}

impl Drop for Output<'_> {
    fn drop(&mut self) {
        if let Some(open) = &self.open {
            discard_segment(self.shared, open.segment.id);
        }
        self.shared.discard(&self.done);
    }
}

impl Open {
    fn end(&self) -> u64 {
        self.piece_at + self.piece.len() as u64
    }

    /// Whether a frame of this length goes in, with what the footer says of it.
    fn fits(&self, len: u64, limit: u64) -> bool {
        let footer = self.hints.footer_len() + HINT_BYTES_MAX;
        footer <= FOOTER_BYTES_MAX && self.end() + len + footer + SEAL_BYTES <= limit
    }

    fn copy(&mut self, victim: &Segment, frame: &Frame, ask: Ask<'_>) -> Result<(), CopyFault> {
        let header = &frame.header;
        let encoded = header.encode(self.segment.seed);
        self.piece.extend_from_slice(&encoded);
        let payload_len = header.payload_len as usize;
        let (mut done, mut crc) = (0, 0);
        while done < payload_len {
            if self.piece.len() >= PIECE {
                self.flush(ask)?;
            }
            let from = self.piece.len();
            self.piece.resize(from + PIECE.min(payload_len - done), 0);
            let at = frame.offset + (HEADER_LEN + done) as u64;
            let read = read_full(&*victim.file, &mut self.piece[from..], at)?;
            if from + read < self.piece.len() {
                return Err(CopyFault::Rotten);
            }
            crc = crc32c::append(crc, &self.piece[from..]);
            done += read;
        }
        if crc != header.payload_crc {
            return Err(CopyFault::Rotten);
        }
        let padded = self.piece.len() + padding(payload_len);
        self.piece.resize(padded, 0);
        let header_crc = header_crc(&encoded);
        self.hints.push_frame(&Frame { header_crc, ..frame.clone() });
        self.count(frame);
        if self.piece.len() >= PIECE {
            self.flush(ask)?;
        }
        Ok(())
    }

    fn count(&mut self, frame: &Frame) {
        let (segment, lsn, len) = (&self.segment, frame.header.lsn, frame.header.frame_len());
        segment.cover(lsn);
        match (frame.header.kind, &frame.body) {
            (Kind::Put, _) => {
                segment.put_bytes.fetch_add(len, Ordering::Relaxed);
            }
            (Kind::Abort, _) => segment.cover_abort(oldest(&frame.body), lsn, len),
            (_, body) => segment.cover_tombstone(oldest(body), lsn, len),
        }
    }

    fn flush(&mut self, ask: Ask<'_>) -> io::Result<()> {
        ask(self.piece.len() as u64)?;
        write_all(&*self.segment.file, &[&self.piece], self.piece_at)?;
        self.piece_at += self.piece.len() as u64;
        self.piece.clear();
        // In small portions, so that nobody else's sync has to wait for a whole segment's bytes.
        if self.piece_at - self.synced_at >= SYNC_EVERY {
            self.segment.file.sync()?;
            self.synced_at = self.piece_at;
        }
        Ok(())
    }

    fn seal(&mut self, ask: Ask<'_>) -> io::Result<()> {
        let (footer, range) = (self.end(), self.segment.lsn_range());
        let (seed, lsn) = (self.segment.seed, range.1);
        let seal = self.hints.seal(footer, range);
        if let Some(payload) = self.hints.payload() {
            self.piece.extend(control_frame(Kind::Footer, lsn, payload, seed));
        }
        self.piece.extend(control_frame(Kind::Seal, lsn, &seal.encode(), seed));
        self.segment.tail_bytes.store(self.end() - footer, Ordering::Relaxed);
        self.flush(ask)?;
        self.segment.file.sync()?;
        self.segment.end.store(self.piece_at, Ordering::Release);
        self.segment.sealed.store(true, Ordering::Release);
        Ok(())
    }
}

/// The lowest position that a delete or abort cancels.
pub(super) fn oldest(body: &Body) -> u64 {
    match body {
        Body::Delete(oldest) => *oldest,
        Body::Abort(ranges) => ranges.iter().map(|(first, _)| *first).min().unwrap_or(0),
        _ => 0,
    }
}
