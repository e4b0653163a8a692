//! Making the file of a segment: a new one, or one that is written again.

use std::io;
use std::sync::Arc;

use crate::error::is_out_of_resources;
use crate::io::{File, PathKind, cannot_allocate, write_all};
use crate::recycle::{self, FreeFile};
use crate::segment::{self, FRAMES_START, Segment, SegmentHeader};
use crate::shared::Shared;

/// A segment that was begun: durable under its name, not listed yet.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) segment: Segment,
    pub(super) header: SegmentHeader,
    /// How far the file has blocks.
    pub(super) allocated: u64,
}

/// A segment for the committer, in a file that was written before if there is one. It has at least
/// `room` bytes of blocks for frames: a segment that was begun with the last block of the disk would
/// have none for the deletes that empty it.
pub(super) fn begin_segment(
    shared: &Shared,
    header: SegmentHeader,
    room: u64,
) -> io::Result<Begun> {
    loop {
        let free = shared.manifest().free.take();
        let Some(free) = free else { break };
        match overwrite(shared, &free, header) {
            Ok(begun) => return Ok(begun),
            Err(error) if is_out_of_resources(&error) => {
                shared.manifest().free.put_back(free);
                return Err(error);
            }
            Err(error) => {
                tracing::warn!(%error, file = free.id, "cannot write a free file again");
                // It holds nothing, and another one may do.
                let _ = shared.io.unlink(&recycle::path(&shared.dir, free.id));
            }
        }
    }
    let (segment, header) = create_segment(shared, header)?;
    let allocated = match segment.file.allocate(FRAMES_START, room) {
        Ok(()) => FRAMES_START + room,
        Err(error) if cannot_allocate(&error) => FRAMES_START,
        Err(error) => {
            discard_segment(shared, segment.id);
            return Err(error);
        }
    };
    Ok(Begun { segment, header, allocated })
}

/// Makes a free file the file of a segment with a fresh id.
fn overwrite(shared: &Shared, free: &FreeFile, header: SegmentHeader) -> io::Result<Begun> {
    let from = recycle::path(&shared.dir, free.id);
    let file = shared.io.open(&from, true)?;
    let allocated = file.size()?;
    let id = allocate_name(shared)?;
    let header = SegmentHeader { id: u64::from(id), recycled: true, ..header };
    // The header first, so that no crash leaves the new name with an old one. The folder is synced
    // before any frame is written: under its old name the file must never hold frames of the new
    // id, which may be given out again as long as the manifest does not list it.
    let renamed = write_header(&*file, &header)
        .and_then(|()| shared.io.rename(&from, &segment::path(&shared.dir, header.id)))
        .and_then(|()| shared.io.sync_dir(&shared.dir));
    match renamed {
        Ok(()) => {
            let segment = Segment::new(&header, id, file, FRAMES_START, false);
            Ok(Begun { segment, header, allocated })
        }
        Err(error) => {
            discard_segment(shared, id);
            Err(error)
        }
    }
}

/// Makes a new segment file with a fresh id, durable under its name, not listed yet.
pub(crate) fn create_segment(
    shared: &Shared,
    header: SegmentHeader,
) -> io::Result<(Segment, SegmentHeader)> {
    let (id, file) = create_file(shared)?;
    let header = SegmentHeader { id: u64::from(id), ..header };
    let created = write_header(&*file, &header).and_then(|()| shared.io.sync_dir(&shared.dir));
    match created {
        Ok(()) => Ok((Segment::new(&header, id, file, FRAMES_START, false), header)),
        Err(error) => {
            discard_segment(shared, id);
            Err(error)
        }
    }
}

/// Makes an empty file with a fresh id. A strange file that has the name keeps it.
fn create_file(shared: &Shared) -> io::Result<(u32, Arc<dyn File>)> {
    loop {
        let id = allocate(shared)?;
        match shared.io.create(&segment::path(&shared.dir, u64::from(id))) {
            Ok(file) => return Ok((id, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                shared.manifest().forget(id);
            }
            Err(error) => {
                discard_segment(shared, id);
                return Err(error);
            }
        }
    }
}

/// A fresh id that no file in the folder has, for a rename, which would replace it.
fn allocate_name(shared: &Shared) -> io::Result<u32> {
    loop {
        let id = allocate(shared)?;
        match shared.io.kind(&segment::path(&shared.dir, u64::from(id))) {
            Ok(PathKind::Missing) => return Ok(id),
            Ok(_) => shared.manifest().forget(id),
            Err(error) => {
                shared.manifest().discard(id);
                return Err(error);
            }
        }
    }
}

fn allocate(shared: &Shared) -> io::Result<u32> {
    let id = shared.manifest().allocate();
    id.ok_or_else(|| io::Error::other("segment ids are used up"))
}

/// Removes a segment file that was never listed. If that fails, the next open does it.
///
/// It is never kept to be written again: its id may be given out once more, and then frames that
/// were written under it would pass for sound.
pub(crate) fn discard_segment(shared: &Shared, id: u32) {
    match shared.io.unlink(&segment::path(&shared.dir, u64::from(id))) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {}
        _ => shared.manifest().discard(id),
    }
}

pub(crate) fn write_header(file: &dyn File, header: &SegmentHeader) -> io::Result<()> {
    write_all(file, &[&header.encode()], 0)?;
    file.sync()
}
