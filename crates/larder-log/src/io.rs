//! The only door to the disk.
//!
//! Everything that the log does to files goes through [`Io`] and [`File`], so that the simulated
//! disk can stand in for the real one and another way of doing I/O can be added without touching
//! the log.

use std::fmt::Debug;
#[cfg(target_os = "linux")]
use std::io::IoSliceMut;
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::Space;
use crate::lock::{self, LockError, LockState};

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
pub(crate) fn write_all(file: &dyn File, parts: &[&[u8]], mut offset: u64) -> io::Result<()> {
    /// What one vectored call takes on every system that we know.
    const PARTS_MAX: usize = 1024;
    let mut slices: Vec<IoSlice<'_>> =
        parts.iter().filter(|part| !part.is_empty()).map(|part| IoSlice::new(part)).collect();
    let mut rest = slices.as_mut_slice();
    while !rest.is_empty() {
        let window = rest.len().min(PARTS_MAX);
        match file.write_at(&rest[..window], offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                offset += written as u64;
                IoSlice::advance_slices(&mut rest, written);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The disk of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiskIo;

impl Io for DiskIo {
    fn kind(&self, path: &Path) -> io::Result<PathKind> {
        match std::fs::metadata(path) {
            Ok(meta) if meta.is_dir() => Ok(PathKind::Folder),
            Ok(_) => Ok(PathKind::Other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(PathKind::Missing),
            Err(error) => Err(error),
        }
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        // From the first folder that exists downwards, each new name is made durable in its parent.
        let mut missing: Vec<PathBuf> = Vec::new();
        let mut at = path;
        while !at.as_os_str().is_empty() && !at.exists() {
            missing.push(at.to_path_buf());
            let Some(parent) = at.parent() else { break };
            at = parent;
        }
        for dir in missing.iter().rev() {
            match std::fs::create_dir(dir) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
            let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
            self.sync_dir(parent.unwrap_or(Path::new(".")))?;
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            let meta = match std::fs::metadata(entry.path()) {
                Ok(meta) => meta,
                // Gone since the folder was read, or a link to nothing.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            entries.push(DirEntry {
                name: entry.file_name().to_string_lossy().into_owned(),
                len: if meta.is_file() { meta.len() } else { 0 },
                is_file: meta.is_file(),
            });
        }
        Ok(entries)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = std::fs::File::options().read(true).write(true).create_new(true).open(path)?;
        Ok(Arc::new(DiskFile::new(file)))
    }

    fn open(&self, path: &Path, write: bool) -> io::Result<Arc<dyn File>> {
        let file = std::fs::File::options().read(true).write(write).open(path)?;
        Ok(Arc::new(DiskFile::new(file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        std::fs::File::open(dir)?.sync_all()
    }

    fn replace(&self, dir: &Path, from: &str, to: &str) -> Result<(), StoreFault> {
        // Opened first: without a descriptor for the sync nothing is renamed.
        let folder = std::fs::File::open(dir).map_err(StoreFault::Unchanged)?;
        self.rename(&dir.join(from), &dir.join(to)).map_err(StoreFault::Unknown)?;
        folder.sync_all().map_err(StoreFault::Unknown)
    }

    fn identity(&self, path: &Path) -> io::Result<Option<FileIdentity>> {
        Ok(Some(identity(&std::fs::metadata(path)?)))
    }

    fn space(&self, dir: &Path) -> io::Result<Option<Space>> {
        let found = rustix::fs::statvfs(dir)?;
        Ok(Some(Space {
            total_bytes: found.f_blocks.saturating_mul(found.f_frsize),
            free_bytes: found.f_bavail.saturating_mul(found.f_frsize),
            total_inodes: found.f_files,
            free_inodes: found.f_favail,
        }))
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn Lock>, LockError> {
        lock::take(path)
    }

    fn lock_owner(&self, path: &Path) -> io::Result<LockState> {
        lock::owner(path)
    }

    fn random(&self) -> io::Result<[u8; 16]> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        Ok(bytes)
    }
}

#[derive(Debug)]
struct DiskFile {
    file: std::fs::File,
    /// The file system cannot read without waiting.
    always_waits: AtomicBool,
}

impl DiskFile {
    fn new(file: std::fs::File) -> Self {
        Self { file, always_waits: AtomicBool::new(false) }
    }
}

impl File for DiskFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    #[cfg(target_os = "linux")]
    fn read_now(&self, buf: &mut [u8], offset: u64) -> io::Result<bool> {
        use rustix::io::{Errno, ReadWriteFlags, preadv2};
        if self.always_waits.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let len = buf.len();
        match preadv2(&self.file, &mut [IoSliceMut::new(buf)], offset, ReadWriteFlags::NOWAIT) {
            Ok(read) => Ok(read == len),
            Err(Errno::AGAIN | Errno::INTR) => Ok(false),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::PERM) => {
                self.always_waits.store(true, Ordering::Relaxed);
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    #[cfg(target_os = "linux")]
    fn advise(&self, offset: u64, len: u64, advice: Advice) {
        use rustix::fs::{Advice as Hint, fadvise};
        let hint = match advice {
            Advice::WillNeed => Hint::WillNeed,
            Advice::DontNeed => Hint::DontNeed,
        };
        // To the end of the file is said by no length at all.
        let _ = fadvise(&self.file, offset, std::num::NonZeroU64::new(len), hint);
    }

    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        Ok(rustix::io::pwritev(&self.file, parts, offset)?)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};
        Ok(fallocate(&self.file, FallocateFlags::empty(), offset, len)?)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn identity(&self) -> io::Result<Option<FileIdentity>> {
        Ok(Some(identity(&self.file.metadata()?)))
    }
}

fn identity(meta: &std::fs::Metadata) -> FileIdentity {
    FileIdentity { device: meta.dev(), inode: meta.ino() }
}
