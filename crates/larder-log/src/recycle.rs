//! Dead segment files, kept to be written again.
//!
//! A sync of blocks that a file already has, and that were written before, changes none of the file
//! system's own records; in a file that grows, every sync does. So a file whose segment is dead is
//! renamed and waits for the next segment. What it holds means nothing: checksums of frames are
//! seeded with the segment's id.
//!
//! That holds because ids are never used twice: a free file has only ever held frames of segments
//! that the manifest listed, and those ids lie below its next one. A file that was begun and never
//! listed is removed instead, since its id may be used again.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::LogOptions;
use crate::io::Io;
use crate::segment::Segment;

/// A segment keeps the unused end of its file up to this part of a full segment: cutting it off
/// would change the file system's records, and throw written blocks away.
const SLACK_DIVISOR: u64 = 4;

/// Files that wait to be written again, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct FreeList {
    files: Vec<FreeFile>,
    bytes_max: u64,
    /// The disk was found full: others need the room more, until a new file could be made.
    disk_full: bool,
    /// Their bytes, for those who must not wait for the lock that this list is under.
    level: Arc<AtomicU64>,
}

/// A file that waits, named after the last segment that it was.
#[derive(Debug)]
pub(crate) struct FreeFile {
    pub(crate) id: u64,
    pub(crate) len: u64,
    /// The segment it was, for as long as somebody may read it.
    was: Option<Arc<Segment>>,
}

impl FreeFile {
    pub(crate) fn found(id: u64, len: u64) -> Self {
        Self { id, len, was: None }
    }

    /// Whether nobody reads the segment that it was. Its segment is off the table, so nobody will.
    fn is_unread(&mut self) -> bool {
        self.was.as_mut().is_none_or(|segment| {
            Arc::get_mut(segment).is_some_and(|segment| Arc::get_mut(&mut segment.file).is_some())
        })
    }
}

impl FreeList {
    /// A list of what was found at open. What there is no room for is removed.
    pub(crate) fn adopt(
        io: &dyn Io,
        dir: &Path,
        found: Vec<FreeFile>,
        options: &LogOptions,
    ) -> Self {
        let mut list = Self { bytes_max: options.recycle_bytes, ..Self::default() };
        for file in found {
            if is_suitable(file.len, options) && list.has_room(file.len) {
                list.files.push(file);
            } else if let Err(error) = io.unlink(&path(dir, file.id)) {
                tracing::warn!(%error, file = file.id, "cannot remove a free file");
            }
        }
        list.note_level();
        list
    }

    /// Bytes of all files, kept up to date.
    pub(crate) fn level(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.level)
    }

    /// A file that nobody reads any more.
    pub(crate) fn take(&mut self) -> Option<FreeFile> {
        let at = self.files.iter_mut().position(FreeFile::is_unread)?;
        let file = self.files.remove(at);
        self.note_level();
        Some(file)
    }

    /// Undoes [`Self::take`].
    pub(crate) fn put_back(&mut self, file: FreeFile) {
        self.files.push(file);
        self.note_level();
    }

    /// Makes room for `len` bytes at the cost of files that are still being read. Whether there is.
    pub(crate) fn make_room(&mut self, io: &dyn Io, dir: &Path, len: u64) -> bool {
        while !self.has_room(len)
            && let Some(at) = self.files.iter_mut().position(|file| !file.is_unread())
        {
            remove(io, dir, &self.files.remove(at));
        }
        self.note_level();
        self.has_room(len)
    }

    /// Adds the file of a segment that is off the table and the manifest.
    pub(crate) fn add(&mut self, segment: &Arc<Segment>, len: u64) {
        let was = Some(Arc::clone(segment));
        self.files.push(FreeFile { id: u64::from(segment.id), len, was });
        self.note_level();
    }

    /// The disk is full: gives everything back to the file system, and keeps no more until
    /// [`Self::disk_has_room`]. Whether there was anything.
    pub(crate) fn release(&mut self, io: &dyn Io, dir: &Path) -> bool {
        self.disk_full = true;
        let files = std::mem::take(&mut self.files);
        for file in &files {
            remove(io, dir, file);
        }
        self.note_level();
        !files.is_empty()
    }

    /// Whether others need the room more.
    pub(crate) fn is_disk_full(&self) -> bool {
        self.disk_full
    }

    /// A new file was made.
    pub(crate) fn disk_has_room(&mut self) {
        self.disk_full = false;
    }

    fn has_room(&self, len: u64) -> bool {
        !self.disk_full && self.bytes() + len <= self.bytes_max
    }

    fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.len).sum()
    }

    fn note_level(&self) {
        self.level.store(self.bytes(), Ordering::Relaxed);
    }
}

/// Whether a file of this length is worth keeping: neither half a segment nor two.
pub(crate) fn is_suitable(len: u64, options: &LogOptions) -> bool {
    let (full, slack) = (options.segment_bytes, slack(options));
    len >= full - slack && len <= full + slack
}

/// Whether a file of `len` bytes whose segment ends at `end` keeps what is behind that.
pub(crate) fn keeps_slack(len: u64, end: u64, options: &LogOptions) -> bool {
    options.recycle_bytes > 0 && len.saturating_sub(end) <= slack(options)
}

/// How much of the unused end of a file stays.
fn slack(options: &LogOptions) -> u64 {
    options.segment_bytes / SLACK_DIVISOR
}

/// Cuts what is behind the end of a sealed segment. Not being able to is no failure.
pub(crate) fn cut_tail(segment: &Segment) {
    let end = segment.end.load(Ordering::Acquire);
    let whole = segment.is_sealed() && !segment.damaged.load(Ordering::Relaxed);
    if whole && segment.file.size().is_ok_and(|len| len > end) {
        let _ = segment.file.truncate(end);
    }
}

/// Does `work`; on a full disk gives up free files one by one for it, then repeats it.
pub(crate) fn with_room<T>(
    io: &dyn Io,
    dir: &Path,
    free: &mut Vec<FreeFile>,
    mut work: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    loop {
        match work() {
            Err(error) if crate::error::is_no_space(&error) => match free.pop() {
                Some(file) => remove(io, dir, &file),
                None => return Err(error),
            },
            done => return done,
        }
    }
}

/// The path of a free file.
pub(crate) fn path(dir: &Path, id: u64) -> PathBuf {
    dir.join(format!("free-{id:016x}.log"))
}

/// The id in the name of a free file.
pub(crate) fn parse_name(name: &str) -> Option<u64> {
    crate::segment::parse_id(name.strip_prefix("free-")?)
}

/// What cannot be removed now is met at the next open.
fn remove(io: &dyn Io, dir: &Path, file: &FreeFile) {
    match io.unlink(&path(dir, file.id)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, file = file.id, "cannot remove a free file");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
