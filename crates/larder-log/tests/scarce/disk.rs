//! A simulated disk that tells how much is free, for a process that may run out of descriptors.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use larder_log::sim::SimDisk;
use larder_log::{DirEntry, File, Io, Lock, LockError, LockState, PathKind, Space, StoreFault};

#[derive(Clone, Debug)]
pub(crate) struct Scarce {
    pub(crate) disk: SimDisk,
    out_of_descriptors: Arc<AtomicBool>,
    space: Arc<Mutex<Option<Space>>>,
}

impl Scarce {
    pub(crate) fn new(disk: SimDisk) -> Self {
        Self { disk, out_of_descriptors: Arc::default(), space: Arc::default() }
    }

    /// From now on nothing can be opened, until it is called with false.
    pub(crate) fn exhaust(&self, out: bool) {
        self.out_of_descriptors.store(out, Ordering::Relaxed);
    }

    /// From now on this is what is left of the file system.
    pub(crate) fn tell(&self, space: Space) {
        *self.space.lock().unwrap() = Some(space);
    }

    fn descriptor(&self) -> io::Result<()> {
        if self.out_of_descriptors.load(Ordering::Relaxed) {
            return Err(rustix::io::Errno::MFILE.into());
        }
        Ok(())
    }
}

impl Io for Scarce {
    fn kind(&self, path: &Path) -> io::Result<PathKind> {
        self.disk.kind(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.descriptor()?;
        self.disk.list(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.descriptor()?;
        self.disk.create(path)
    }

    fn open(&self, path: &Path, write: bool) -> io::Result<Arc<dyn File>> {
        self.descriptor()?;
        self.disk.open(path, write)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.disk.unlink(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.descriptor()?;
        self.disk.sync_dir(dir)
    }

    fn replace(&self, dir: &Path, from: &str, to: &str) -> Result<(), StoreFault> {
        self.descriptor().map_err(StoreFault::Unchanged)?;
        self.disk.replace(dir, from, to)
    }

    fn space(&self, _dir: &Path) -> io::Result<Option<Space>> {
        Ok(*self.space.lock().unwrap())
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn Lock>, LockError> {
        self.descriptor()?;
        self.disk.lock(path)
    }

    fn lock_owner(&self, path: &Path) -> io::Result<LockState> {
        self.disk.lock_owner(path)
    }

    fn random(&self) -> io::Result<[u8; 16]> {
        self.disk.random()
    }
}
