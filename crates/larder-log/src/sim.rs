//! A simulated disk: what a real one may do at its worst, repeatable from a number.
//!
//! Writes stay volatile, sector by sector, until the file is synced; names until the folder is. A
//! crash keeps any subset of both, so data may survive without the write before it, a file without
//! its length, and a name without its file's bytes. Faults can be planned for any step.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

mod door;
mod file;
mod folder;
mod image;
mod random;
mod state;

use folder::{Dir, DirOp};
pub use random::SimRandom;
use state::{State, split};

/// What happens at a planned step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Power fails in the middle of the step; every later call fails.
    Crash,
    /// The sync fails. The pages are clean afterwards: a second sync succeeds and helps nobody.
    SyncError {
        /// Whether the page cache forgets the bytes, too.
        lost: bool,
    },
    /// The sync answers success, and some of the bytes never reach the disk.
    LyingSync,
    /// The write, or the reservation of blocks, finds the disk full.
    NoSpace,
    /// The write takes only a part of the bytes.
    ShortWrite,
    /// The call fails with an I/O error, without any effect.
    Error,
}

/// A simulated disk. Clones share it.
#[derive(Clone, Debug)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

impl SimDisk {
    /// An empty disk.
    pub fn new(seed: u64) -> Self {
        let dirs = BTreeMap::from([(PathBuf::from("/"), Dir::default())]);
        Self::with_state(State::new(SimRandom::new(seed), BTreeMap::new(), dirs))
    }

    /// Plans a fault for the step with this number, counted from the creation of the disk.
    pub fn plan(&self, step: u64, fault: Fault) {
        self.lock().plan.insert(step, fault);
    }

    /// Steps so far.
    pub fn steps(&self) -> u64 {
        self.lock().steps
    }

    /// Whether a planned crash has happened.
    pub fn is_dead(&self) -> bool {
        self.lock().dead
    }

    /// From now on every write that needs room fails, until it is called with false.
    pub fn set_full(&self, full: bool) {
        self.lock().full = full;
    }

    /// Whether [`Self::set_full`] was called last with true.
    pub fn is_full(&self) -> bool {
        self.lock().full
    }

    /// From now on the files can take up so many bytes together.
    pub fn set_capacity(&self, bytes: u64) {
        self.lock().capacity = Some(bytes);
    }

    /// Bytes of all files.
    pub fn used(&self) -> u64 {
        self.lock().used()
    }

    /// The next so many reads fail. Returns how many of those planned before did not.
    pub fn fail_reads(&self, count: u64) -> u64 {
        self.fail_reads_after(0, count)
    }

    /// [`Self::fail_reads`] after so many reads that work.
    pub fn fail_reads_after(&self, reads: u64, count: u64) -> u64 {
        let mut state = self.lock();
        state.sound_reads = reads;
        std::mem::replace(&mut state.read_errors, count)
    }

    /// What a power failure leaves at this moment: a new disk. The old one is dead.
    #[must_use = "the old disk is dead"]
    pub fn crash(&self, seed: u64) -> Self {
        let mut state = self.lock();
        state.dead = true;
        let mut random = SimRandom::new(seed);
        let dirs: BTreeMap<PathBuf, Dir> =
            state.dirs.iter().map(|(path, dir)| (path.clone(), dir.survive(&mut random))).collect();
        // A file without a name is gone for good.
        let named: BTreeSet<u64> =
            dirs.values().flat_map(|dir| dir.now.values().copied()).collect();
        let named = named.iter().filter_map(|id| Some((*id, state.images.get(id)?)));
        let images = named.map(|(id, image)| (id, image.survive(&mut random))).collect();
        Self::with_state(State::new(SimRandom::new(seed ^ 0x5eed), images, dirs))
    }

    /// What the death of the process leaves: everything that was written. The old disk is dead.
    #[must_use = "the old disk is dead"]
    pub fn kill(&self, seed: u64) -> Self {
        let mut state = self.lock();
        state.dead = true;
        let (images, dirs) = (state.images.clone(), state.dirs.clone());
        Self::with_state(State::new(SimRandom::new(seed ^ 0x5eed), images, dirs))
    }

    /// The bytes of a file as a reader sees them.
    pub fn read(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.lock();
        Some(state.images.get(&state.find(path)?)?.bytes().to_vec())
    }

    /// Changes the bytes of a file behind everybody's back, as rot does.
    pub fn tamper(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.lock();
        let Some(id) = state.find(path) else { return };
        if let Some(image) = state.images.get_mut(&id) {
            image.tamper(change);
        }
    }

    /// The files of a folder, sorted.
    pub fn files(&self, dir: &Path) -> Vec<PathBuf> {
        let state = self.lock();
        let names = state.dirs.get(dir).map(|entries| entries.now.keys());
        names.into_iter().flatten().map(|name| dir.join(name)).collect()
    }

    /// Removes a file behind everybody's back.
    pub fn lose(&self, path: &Path) {
        let mut state = self.lock();
        let Some((dir, name)) = split(path) else { return };
        if let Some(dir) = state.dirs.get_mut(&dir) {
            dir.apply(DirOp::Unlink(name));
            dir.sync();
        }
    }

    fn with_state(state: State) -> Self {
        Self { state: Arc::new(Mutex::new(state)) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
