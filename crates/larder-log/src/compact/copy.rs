//! Writing a segment of copies.

use std::io;
use std::sync::atomic::Ordering;

use crate::Slot;
use crate::group::control_frame;
use crate::index::Location;
use crate::io::{read_full, write_all};
use crate::record::{HEADER_LEN, Header, Kind, Seal, push_frame};
use crate::scan::{Body, Frame};
use crate::segment::{FRAMES_START, Segment};

/// Copies are written in pieces of this size.
const CHUNK: usize = 1 << 20;

/// One entry that was copied.
#[derive(Debug)]
pub(super) struct Move {
    pub(super) slot: Slot,
    pub(super) from: Location,
    pub(super) to: Location,
}

/// Copies frames, each from its segment, to the end of a new one.
pub(super) fn copy_into(segment: &Segment, keep: &[(&Segment, &Frame)]) -> io::Result<Vec<Move>> {
    let mut moves = Vec::new();
    let mut chunk = Vec::with_capacity(CHUNK);
    let mut chunk_at = FRAMES_START;
    for (victim, frame) in keep {
        let header = &frame.header;
        let payload = read_again(victim, frame)?;
        let offset = chunk_at + chunk.len() as u64;
        push_frame(&mut chunk, header, &payload, segment.seed);
        segment.cover(header.lsn);
        let len = header.frame_len();
        match (header.kind, &frame.body) {
            (Kind::Put, _) => {
                segment.put_bytes.fetch_add(len, Ordering::Relaxed);
                let at = |id, offset| Location::new(id, offset, header.payload_len, header.lsn);
                let (from, to) = (at(victim.id, frame.offset), at(segment.id, offset));
                moves.push(Move { slot: header.slot, from, to });
            }
            (_, Body::Delete(oldest)) => segment.cover_tombstone(*oldest, header.lsn, len),
            (_, Body::Abort(ranges)) => {
                segment.cover_tombstone(oldest_of(ranges), header.lsn, len);
            }
            _ => segment.cover_tombstone(0, header.lsn, len),
        }
        if chunk.len() >= CHUNK {
            write_all(&*segment.file, &[&chunk], chunk_at)?;
            chunk_at += chunk.len() as u64;
            chunk.clear();
        }
    }
    let (min_lsn, max_lsn) = segment.lsn_range();
    let offset = chunk_at + chunk.len() as u64;
    let seal = Seal { offset, frames: keep.len() as u64, min_lsn, max_lsn };
    chunk.extend(control_frame(Kind::Seal, max_lsn, &seal.encode(), segment.seed));
    write_all(&*segment.file, &[&chunk], chunk_at)?;
    segment.file.sync()?;
    segment.end.store(chunk_at + chunk.len() as u64, Ordering::Release);
    segment.sealed.store(true, Ordering::Release);
    Ok(moves)
}

/// The lowest position that an abort cancels.
pub(super) fn oldest_of(ranges: &[(u64, u64)]) -> u64 {
    ranges.iter().map(|(first, _)| *first).min().unwrap_or(0)
}

/// The payload once more, checked once more: what is copied is never worse than what was read.
fn read_again(victim: &Segment, frame: &Frame) -> io::Result<Vec<u8>> {
    let Header { payload_len, payload_crc, .. } = frame.header;
    let mut payload = vec![0; payload_len as usize];
    let read = read_full(&*victim.file, &mut payload, frame.offset + HEADER_LEN as u64)?;
    if read < payload.len() || crc32c::crc32c(&payload) != payload_crc {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a payload changed while it was copied",
        ));
    }
    Ok(payload)
}
