//! The disk of this machine, with a hand on every read of a segment.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::{Arc, Mutex};

use larder_log::{DirEntry, DiskIo, File, Io, Lock, LockError, LockState, PathKind};

/// Does a read in place of the file: offset and buffer, and the file itself.
type Hand = dyn FnMut(&dyn File, &mut [u8], u64) -> io::Result<usize> + Send;

/// A disk under control; clones are the same disk.
#[derive(Clone, Default)]
pub(crate) struct Tap(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    hand: Option<Box<Hand>>,
    cold: bool,
}

impl std::fmt::Debug for Tap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tap").finish_non_exhaustive()
    }
}

impl Tap {
    /// From now on `hand` does the reads, one at a time.
    pub(crate) fn on_read(
        &self,
        hand: impl FnMut(&dyn File, &mut [u8], u64) -> io::Result<usize> + Send + 'static,
    ) {
        self.0.lock().unwrap().hand = Some(Box::new(hand));
    }

    /// The files read themselves again.
    pub(crate) fn let_go(&self) {
        self.0.lock().unwrap().hand = None;
    }

    /// Whether nothing is in the page cache.
    pub(crate) fn set_cold(&self, cold: bool) {
        self.0.lock().unwrap().cold = cold;
    }

    /// Out of the lock while it works: it may write to the log.
    fn read(&self, file: &dyn File, buf: &mut [u8], offset: u64) -> Option<io::Result<usize>> {
        let mut hand = self.0.lock().unwrap().hand.take()?;
        let read = hand(file, buf, offset);
        self.0.lock().unwrap().hand.get_or_insert(hand);
        Some(read)
    }

    fn wrap(&self, file: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(TapFile { tap: self.clone(), file })
    }
}

impl Io for Tap {
    fn kind(&self, path: &Path) -> io::Result<PathKind> {
        DiskIo.kind(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        DiskIo.create_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        DiskIo.list(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(self.wrap(DiskIo.create(path)?))
    }

    fn open(&self, path: &Path, write: bool) -> io::Result<Arc<dyn File>> {
        Ok(self.wrap(DiskIo.open(path, write)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        DiskIo.rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        DiskIo.unlink(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        DiskIo.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn Lock>, LockError> {
        DiskIo.lock(path)
    }

    fn lock_owner(&self, path: &Path) -> io::Result<LockState> {
        DiskIo.lock_owner(path)
    }

    fn random(&self) -> io::Result<[u8; 16]> {
        DiskIo.random()
    }
}

#[derive(Debug)]
struct TapFile {
    tap: Tap,
    file: Arc<dyn File>,
}

impl File for TapFile {
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        match self.tap.read(&*self.file, buf, offset) {
            Some(read) => read,
            None => self.file.read_at(buf, offset),
        }
    }

    fn read_now(&self, buf: &mut [u8], offset: u64) -> io::Result<bool> {
        if self.tap.0.lock().unwrap().cold {
            return Ok(false);
        }
        match self.tap.read(&*self.file, buf, offset) {
            Some(read) => Ok(read? == buf.len()),
            None => self.file.read_now(buf, offset),
        }
    }

    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        self.file.write_at(parts, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.file.allocate(offset, len)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }
}
