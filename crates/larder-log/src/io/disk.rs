//! The disk of this machine.

#[cfg(target_os = "linux")]
use std::io::IoSliceMut;
use std::io::{self, IoSlice};
use std::num::NonZeroUsize;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Advice, DirEntry, File, FileIdentity, Io, Lock, PathKind, StoreFault};
use crate::Space;
use crate::lock::{self, LockError, LockState};

#[cfg(target_os = "linux")]
mod writeback;

/// Measured with groups of 8 MiB: half of it costs more calls than it overlaps, twice as much
/// overlaps less, and groups of half a MiB lose by any split.
#[cfg(target_os = "linux")]
const BEGIN_BYTES: NonZeroUsize = NonZeroUsize::new(1 << 20).unwrap();

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
    /// The file system writes when it is synced, not before.
    never_begins: AtomicBool,
}

impl DiskFile {
    fn new(file: std::fs::File) -> Self {
        Self { file, always_waits: AtomicBool::new(false), never_begins: AtomicBool::new(false) }
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

    #[cfg(target_os = "linux")]
    fn begin_bytes(&self) -> Option<NonZeroUsize> {
        (!self.never_begins.load(Ordering::Relaxed)).then_some(BEGIN_BYTES)
    }

    #[cfg(target_os = "linux")]
    fn begin_sync(&self, offset: u64, len: u64) -> io::Result<()> {
        match writeback::begin(&self.file, offset, len) {
            Err(error) if writeback::is_unsupported(&error) => {
                self.never_begins.store(true, Ordering::Relaxed);
                Ok(())
            }
            begun => begun,
        }
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
