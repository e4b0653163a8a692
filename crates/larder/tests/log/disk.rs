//! The disk of this machine, with a hand on its valve.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};

use larder_log::{
    DirEntry, DiskIo, File, Io, Lock, LockError, LockState, Log, LogOptions, PathKind,
};

/// What the disk does to syncs, writes and reads of segments. Nothing is ever in its page cache.
#[derive(Debug, Default)]
struct Valve {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    stalled: bool,
    waiting: usize,
    failing: bool,
    full: bool,
    reads: Reads,
}

#[derive(Debug, Default)]
struct Reads {
    stalled: bool,
    waiting: usize,
    error: Option<i32>,
}

/// A disk under control; clones are the same disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct TestDisk(Arc<Valve>);

impl TestDisk {
    pub(crate) fn open(&self, path: &Path, options: LogOptions) -> Log {
        Log::open_with(Arc::new(self.clone()), path, options).unwrap()
    }

    /// Syncs wait from now on.
    pub(crate) fn stall(&self) {
        self.0.state.lock().unwrap().stalled = true;
    }

    /// Syncs go on.
    pub(crate) fn resume(&self) {
        self.0.state.lock().unwrap().stalled = false;
        self.0.changed.notify_all();
    }

    /// Waits until a sync is stuck.
    pub(crate) fn until_stuck(&self) {
        let state = self.0.state.lock().unwrap();
        let limit = std::time::Duration::from_secs(20);
        let waited = self.0.changed.wait_timeout_while(state, limit, |state| state.waiting == 0);
        assert!(!waited.unwrap().1.timed_out(), "no sync was begun");
    }

    /// Syncs answer EIO from now on.
    pub(crate) fn fail(&self) {
        self.0.state.lock().unwrap().failing = true;
    }

    /// Whether writes answer ENOSPC.
    pub(crate) fn set_full(&self, full: bool) {
        self.0.state.lock().unwrap().full = full;
    }

    /// Reads wait from now on.
    pub(crate) fn stall_reads(&self) {
        self.0.state.lock().unwrap().reads.stalled = true;
    }

    /// Reads go on.
    pub(crate) fn resume_reads(&self) {
        self.0.state.lock().unwrap().reads.stalled = false;
        self.0.changed.notify_all();
    }

    /// Waits until so many reads are stuck.
    pub(crate) fn until_reads_are_stuck(&self, count: usize) {
        let state = self.0.state.lock().unwrap();
        let limit = std::time::Duration::from_secs(20);
        let few = |state: &mut State| state.reads.waiting < count;
        let waited = self.0.changed.wait_timeout_while(state, limit, few).unwrap();
        assert!(!waited.1.timed_out(), "{} reads were begun", waited.0.reads.waiting);
    }

    /// Whether more reads than that are begun within a moment that is long enough to begin them.
    pub(crate) fn begins_more_reads_than(&self, count: usize) -> bool {
        let state = self.0.state.lock().unwrap();
        let moment = std::time::Duration::from_millis(300);
        let few = |state: &mut State| state.reads.waiting <= count;
        !self.0.changed.wait_timeout_while(state, moment, few).unwrap().1.timed_out()
    }

    /// What reads answer from now on.
    pub(crate) fn set_read_error(&self, errno: Option<i32>) {
        self.0.state.lock().unwrap().reads.error = errno;
    }

    fn read(&self) -> io::Result<()> {
        let mut state = self.0.state.lock().unwrap();
        state.reads.waiting += 1;
        self.0.changed.notify_all();
        let mut state = self.0.changed.wait_while(state, |state| state.reads.stalled).unwrap();
        state.reads.waiting -= 1;
        state.reads.error.map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno)))
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.0.state.lock().unwrap();
        state.waiting += 1;
        self.0.changed.notify_all();
        let mut state = self.0.changed.wait_while(state, |state| state.stalled).unwrap();
        state.waiting -= 1;
        if state.failing { Err(io::Error::from_raw_os_error(5)) } else { Ok(()) }
    }

    fn room(&self) -> io::Result<()> {
        let full = self.0.state.lock().unwrap().full;
        if full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn wrap(&self, file: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(TestFile { disk: self.clone(), file })
    }
}

impl Io for TestDisk {
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
        self.room()?;
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
struct TestFile {
    disk: TestDisk,
    file: Arc<dyn File>,
}

impl File for TestFile {
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.read()?;
        self.file.read_at(buf, offset)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        self.disk.room()?;
        self.file.write_at(parts, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.sync()?;
        self.file.sync()
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.disk.room()?;
        self.file.allocate(offset, len)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }
}
