//! Moving whole stretches of bytes through calls that may do less than they are asked for.

use std::io::{self, IoSlice};
use std::num::NonZeroUsize;

use super::File;

/// The unit in which a disk writes: a part of one is not begun with, since it would be written twice.
const BLOCK: u64 = 4096;

/// Reads exactly `buf.len()` bytes, or fewer at the end of the file; returns how many.
pub(crate) fn read_full(file: &dyn File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buf.len() {
        match file.read_at(&mut buf[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Writes all of `parts`, going on after short writes.
pub(crate) fn write_all(file: &dyn File, parts: &[&[u8]], offset: u64) -> io::Result<()> {
    write_pieces(file, parts, offset, None)
}

/// [`write_all`] for what is synced next: of a long stretch the disk begins with the first pieces
/// while the rest is still being copied, so that the sync waits for the last piece alone.
///
/// # Errors
/// As [`write_all`], and what the disk says of pieces it began with: no better than a failed sync.
pub(crate) fn write_and_begin(file: &dyn File, parts: &[&[u8]], offset: u64) -> io::Result<()> {
    let bytes: usize = parts.iter().map(|part| part.len()).sum();
    // Less than two pieces have nothing to overlap with.
    let piece = file.begin_bytes().map(NonZeroUsize::get).filter(|piece| bytes / 2 >= *piece);
    write_pieces(file, parts, offset, piece)
}

fn write_pieces(
    file: &dyn File,
    parts: &[&[u8]],
    mut offset: u64,
    piece: Option<usize>,
) -> io::Result<()> {
    let piece_max = piece.unwrap_or(usize::MAX);
    let mut slices: Vec<IoSlice<'_>> =
        parts.iter().flat_map(|part| part.chunks(piece_max)).map(IoSlice::new).collect();
    let mut rest = slices.as_mut_slice();
    let mut begun = offset - offset % BLOCK;
    while !rest.is_empty() {
        match file.write_at(&rest[..window(rest, piece_max)], offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                offset += written as u64;
                IoSlice::advance_slices(&mut rest, written);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        // The last piece is the sync's own.
        let whole = offset - offset % BLOCK;
        if piece.is_some() && whole > begun && !rest.is_empty() {
            file.begin_sync(begun, whole - begun)?;
            begun = whole;
        }
    }
    Ok(())
}

/// How many of the slices go into one call: what every system that we know takes, and no more than a
/// piece needs.
fn window(slices: &[IoSlice<'_>], bytes_max: usize) -> usize {
    const PARTS_MAX: usize = 1024;
    let mut bytes = 0;
    let full = slices.iter().take(PARTS_MAX).position(|slice| {
        bytes += slice.len();
        bytes >= bytes_max
    });
    full.map_or(slices.len().min(PARTS_MAX), |last| last + 1)
}

#[cfg(test)]
mod tests;
