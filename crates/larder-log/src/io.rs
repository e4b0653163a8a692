//! The only door to the disk.
//!
//! Everything that the log does to files goes through [`Io`] and [`File`], so that the simulated
//! disk can stand in for the real one and another way of doing I/O can be added without touching
//! the log.

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use crate::Space;
use crate::lock::{LockError, LockState};

mod disk;
mod transfer;

pub use disk::DiskIo;
pub(crate) use transfer::{read_full, write_all, write_and_begin};

/// One name in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// The name, without the folder. Names that are not UTF-8 are shown lossily.
    pub name: String,
    /// Length in bytes; 0 for what is not a plain file.
    pub len: u64,
    /// Whether it is a plain file.
    pub is_file: bool,
}

/// What a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathKind {
    /// Nothing.
    Missing,
    /// A folder.
    Folder,
    /// Anything else.
    Other,
}

/// What is known of a file that was not replaced, or not durably.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "it was replaced or it may have been")]
pub enum StoreFault {
    /// The old file is in its place.
    Unchanged(io::Error),
    /// The old file or the new one is there after a power loss.
    Unknown(io::Error),
}

impl StoreFault {
    pub(crate) fn into_error(self) -> io::Error {
        match self {
            Self::Unchanged(error) | Self::Unknown(error) => error,
        }
    }
}

/// What tells one file or folder from every other one of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "other disks build it")]
pub struct FileIdentity {
    /// The file system.
    pub device: u64,
    /// The number in it.
    pub inode: u64,
}

/// A held lock; dropping it releases the folder.
pub trait Lock: Debug + Send + Sync {}

/// A disk. All calls block. An error leaves the effect open unless said otherwise.
#[expect(clippy::missing_errors_doc, reason = "each passes on what the system says")]
pub trait Io: Debug + Send + Sync {
    /// What `path` names.
    fn kind(&self, path: &Path) -> io::Result<PathKind>;
    /// Creates a folder with its missing parents, and makes the new names survive power loss.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// The names in a folder, in no order.
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>>;
    /// Creates a file that must not exist, for reading and writing.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Opens a file that must exist; for reading only unless `write`.
    fn open(&self, path: &Path, write: bool) -> io::Result<Arc<dyn File>>;
    /// Renames, replacing what `to` named. Atomic, durable only after `sync_dir`.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a name. Open handles keep working. Durable only after `sync_dir`.
    fn unlink(&self, path: &Path) -> io::Result<()>;
    /// Makes the names of a folder survive power loss.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Renames a file in the folder `dir` over another one there, and makes that survive power loss.
    ///
    /// # Errors
    /// [`StoreFault::Unchanged`] for whatever fails before the renaming.
    fn replace(&self, dir: &Path, from: &str, to: &str) -> Result<(), StoreFault> {
        self.rename(&dir.join(from), &dir.join(to)).map_err(StoreFault::Unknown)?;
        self.sync_dir(dir).map_err(StoreFault::Unknown)
    }
    /// Which file or folder `path` names; `None` on a disk that cannot tell.
    fn identity(&self, _path: &Path) -> io::Result<Option<FileIdentity>> {
        Ok(None)
    }
    /// What is left of the file system that holds `dir`; `None` on a disk that cannot tell.
    fn space(&self, _dir: &Path) -> io::Result<Option<Space>> {
        Ok(None)
    }
    /// Takes the lock file at `path`, writing this process's id into it.
    ///
    /// # Errors
    /// [`LockError::Held`] when somebody else has it; then nothing was changed.
    fn lock(&self, path: &Path) -> Result<Box<dyn Lock>, LockError>;
    /// Whether the lock file at `path` is held, without changing anything.
    fn lock_owner(&self, path: &Path) -> io::Result<LockState>;
    /// Sixteen random bytes.
    fn random(&self) -> io::Result<[u8; 16]>;
}

/// An open file. Positions are explicit, so that one handle serves many threads.
#[expect(clippy::missing_errors_doc, reason = "each passes on what the system says")]
pub trait File: Debug + Send + Sync {
    /// The length in bytes.
    fn size(&self) -> io::Result<u64>;
    /// Reads at `offset`; fewer bytes than asked for are not an error, none means the end.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Fills `buf` if that needs no waiting for the disk. False when it may, when the file ends
    /// before, or where this cannot be told: then only [`File::read_at`] knows.
    fn read_now(&self, _buf: &mut [u8], _offset: u64) -> io::Result<bool> {
        Ok(false)
    }
    /// Says what the page cache should do with a part of the file. A hint: it never fails.
    fn advise(&self, _offset: u64, _len: u64, _advice: Advice) {}
    /// Writes at `offset`; may write fewer bytes than given.
    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<usize>;
    /// From how many bytes on it pays to [begin](File::begin_sync) while more is being written; `None`
    /// where that cannot be done.
    fn begin_bytes(&self) -> Option<NonZeroUsize> {
        None
    }
    /// Has the disk begin with a part of what [`File::sync`] will have to wait for, without waiting.
    /// It says nothing about what survives.
    fn begin_sync(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }
    /// Makes everything written so far survive power loss (and the length, if needed to read it).
    fn sync(&self) -> io::Result<()>;
    /// Reserves blocks for `offset .. offset + len`, growing the file with zeros.
    ///
    /// # Errors
    /// `Unsupported` where the file system cannot; the caller then does without.
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()>;
    /// Cuts the file to `len`.
    fn truncate(&self, len: u64) -> io::Result<()>;
    /// Which file this is; `None` on a disk that cannot tell.
    fn identity(&self) -> io::Result<Option<FileIdentity>> {
        Ok(None)
    }
}

/// What will become of a part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// It is read soon.
    WillNeed,
    /// It is not read for long; its memory may go.
    DontNeed,
}

/// Whether the file system said that it cannot reserve blocks.
pub(crate) fn cannot_allocate(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, Unsupported};
    matches!(error.kind(), Unsupported | InvalidInput)
}
