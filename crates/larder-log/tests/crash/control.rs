//! Logs that are broken on purpose: what the schedules are worth shows in whether they notice.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use larder_log::sim::SimDisk;
use larder_log::{DirEntry, File, Io, Lock, LockError, LockState, PathKind};

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Breakage {
    /// The committer answers before it syncs.
    AnswersBeforeSync,
    /// Recovery serves what may exist in the page cache only.
    TrustsPageCache,
    /// No folder is ever synced.
    ForgetsNames,
}

impl Breakage {
    /// The log's way to the disk.
    pub(crate) fn door(breakage: Option<Self>, disk: &SimDisk) -> Door {
        let opening = Arc::new(AtomicBool::new(true));
        let io: Arc<dyn Io> = match breakage {
            None | Some(Self::AnswersBeforeSync) => Arc::new(disk.clone()),
            Some(breakage) => {
                let (disk, opening) = (disk.clone(), Arc::clone(&opening));
                Arc::new(CarelessDisk { disk, breakage, opening })
            }
        };
        Door { io, opening }
    }
}

/// The way to the disk while a log is opened, and afterwards.
pub(crate) struct Door {
    io: Arc<dyn Io>,
    opening: Arc<AtomicBool>,
}

impl Door {
    pub(crate) fn io(&self) -> Arc<dyn Io> {
        Arc::clone(&self.io)
    }

    /// Opening is over.
    pub(crate) fn opened(&self) {
        self.opening.store(false, Ordering::Relaxed);
    }
}

/// A disk that leaves out what a careless log would leave out.
#[derive(Debug)]
struct CarelessDisk {
    disk: SimDisk,
    breakage: Breakage,
    opening: Arc<AtomicBool>,
}

impl CarelessDisk {
    fn wrap(&self, path: &Path, file: Arc<dyn File>) -> Arc<dyn File> {
        let segment = path.extension().is_some_and(|extension| extension == "log");
        let trusts = self.breakage == Breakage::TrustsPageCache && segment;
        let opening = trusts.then(|| Arc::clone(&self.opening));
        Arc::new(CarelessFile { file, opening })
    }
}

impl Io for CarelessDisk {
    fn kind(&self, path: &Path) -> io::Result<PathKind> {
        self.disk.kind(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.disk.list(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(self.wrap(path, self.disk.create(path)?))
    }

    fn open(&self, path: &Path, write: bool) -> io::Result<Arc<dyn File>> {
        Ok(self.wrap(path, self.disk.open(path, write)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.disk.unlink(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        if self.breakage == Breakage::ForgetsNames { Ok(()) } else { self.disk.sync_dir(dir) }
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn Lock>, LockError> {
        Io::lock(&self.disk, path)
    }

    fn lock_owner(&self, path: &Path) -> io::Result<LockState> {
        self.disk.lock_owner(path)
    }

    fn random(&self) -> io::Result<[u8; 16]> {
        self.disk.random()
    }
}

#[derive(Debug)]
struct CarelessFile {
    file: Arc<dyn File>,
    /// Set: syncs are left out for as long as this holds.
    opening: Option<Arc<AtomicBool>>,
}

impl File for CarelessFile {
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        self.file.write_at(parts, offset)
    }

    fn sync(&self) -> io::Result<()> {
        let left_out = self.opening.as_ref().is_some_and(|opening| opening.load(Ordering::Relaxed));
        if left_out { Ok(()) } else { self.file.sync() }
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.file.allocate(offset, len)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }
}
