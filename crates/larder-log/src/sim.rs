//! A simulated disk: what a real one may do at its worst, repeatable from a number.
//!
//! Writes stay volatile, sector by sector, until the file is synced; names until the folder is. A
//! crash keeps any subset of both, so data may survive without the write before it, a file without
//! its length, and a name without its file's bytes. Faults can be planned for any step.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::io::{DirEntry, File, Io, Lock, PathKind};
use crate::lock::{LockError, LockState};

mod image;

use image::{Dir, DirOp, Image};

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

#[derive(Debug)]
struct State {
    random: SimRandom,
    images: BTreeMap<u64, Image>,
    dirs: BTreeMap<PathBuf, Dir>,
    next_image: u64,
    locks: Vec<PathBuf>,
    /// Steps so far: every call that changes or syncs something is one.
    steps: u64,
    plan: BTreeMap<u64, Fault>,
    dead: bool,
    full: bool,
    capacity: Option<u64>,
    read_errors: u64,
}

impl SimDisk {
    /// An empty disk.
    pub fn new(seed: u64) -> Self {
        let state = State {
            random: SimRandom::new(seed),
            images: BTreeMap::new(),
            dirs: BTreeMap::from([(PathBuf::from("/"), Dir::default())]),
            next_image: 1,
            locks: Vec::new(),
            steps: 0,
            plan: BTreeMap::new(),
            dead: false,
            full: false,
            capacity: None,
            read_errors: 0,
        };
        Self { state: Arc::new(Mutex::new(state)) }
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

    /// From now on the files can take up so many bytes together.
    pub fn set_capacity(&self, bytes: u64) {
        self.lock().capacity = Some(bytes);
    }

    /// Bytes of all files.
    pub fn used(&self) -> u64 {
        self.lock().used()
    }

    /// The next so many reads fail.
    pub fn fail_reads(&self, count: u64) {
        self.lock().read_errors = count;
    }

    /// What a power failure leaves at this moment: a new disk. The old one is dead.
    #[must_use = "the old disk is dead"]
    pub fn crash(&self, seed: u64) -> Self {
        let mut state = self.lock();
        state.dead = true;
        let mut random = SimRandom::new(seed);
        let dirs: BTreeMap<PathBuf, Dir> =
            state.dirs.iter().map(|(path, dir)| (path.clone(), dir.survive(&mut random))).collect();
        let images =
            state.images.iter().map(|(id, image)| (*id, image.survive(&mut random))).collect();
        Self::from_parts(&state, seed, images, dirs)
    }

    /// What the death of the process leaves: everything that was written. The old disk is dead.
    #[must_use = "the old disk is dead"]
    pub fn kill(&self, seed: u64) -> Self {
        let mut state = self.lock();
        state.dead = true;
        let (images, dirs) = (state.images.clone(), state.dirs.clone());
        Self::from_parts(&state, seed, images, dirs)
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

    fn from_parts(
        state: &State,
        seed: u64,
        images: BTreeMap<u64, Image>,
        dirs: BTreeMap<PathBuf, Dir>,
    ) -> Self {
        let state = State {
            random: SimRandom::new(seed ^ 0x5eed),
            images,
            dirs,
            next_image: state.next_image,
            locks: Vec::new(),
            steps: 0,
            plan: BTreeMap::new(),
            dead: false,
            full: false,
            capacity: None,
            read_errors: 0,
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn find(&self, path: &Path) -> Option<u64> {
        let (dir, name) = split(path)?;
        self.dirs.get(&dir)?.now.get(&name).copied()
    }

    fn used(&self) -> u64 {
        let ids = self.dirs.values().flat_map(|dir| dir.now.values());
        ids.filter_map(|id| self.images.get(id)).map(Image::reserved).sum()
    }

    /// Whether a file cannot grow up to `end`.
    fn lacks_room(&self, id: u64, end: u64) -> bool {
        let held = self.images.get(&id).map_or(0, Image::reserved);
        let more = end.saturating_sub(held);
        more > 0
            && (self.full || self.capacity.is_some_and(|capacity| self.used() + more > capacity))
    }

    fn check_alive(&self) -> io::Result<()> {
        if self.dead { Err(io::Error::other("the power is off")) } else { Ok(()) }
    }

    /// Counts a step; says what is planned for it.
    fn step(&mut self) -> io::Result<Option<Fault>> {
        self.check_alive()?;
        let fault = self.plan.remove(&self.steps);
        self.steps += 1;
        match fault {
            Some(Fault::Crash) => {
                self.dead = true;
                Ok(Some(Fault::Crash))
            }
            Some(Fault::Error) => Err(io::Error::other("planned error")),
            fault => Ok(fault),
        }
    }

    /// A step on names: a crash either had it or not.
    fn dir_step(&mut self, path: &Path, op: DirOp) -> io::Result<()> {
        let fault = self.step()?;
        if fault == Some(Fault::NoSpace) || (self.full && matches!(op, DirOp::Create(..))) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if fault != Some(Fault::Crash) || self.random.chance(2) {
            self.dirs.get_mut(path).ok_or(io::ErrorKind::NotFound)?.apply(op);
        }
        self.check_alive()
    }
}

impl Io for SimDisk {
    fn kind(&self, path: &Path) -> io::Result<PathKind> {
        let state = self.lock();
        state.check_alive()?;
        Ok(match state.find(path) {
            _ if state.dirs.contains_key(path) => PathKind::Folder,
            Some(_) => PathKind::Other,
            None => PathKind::Missing,
        })
    }

    /// Folders are durable at once: their loss is the loss of everything, which tests nothing.
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.step()?;
        state.check_alive()?;
        state.dirs.entry(path.to_path_buf()).or_default();
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let state = self.lock();
        state.check_alive()?;
        let entries = state.dirs.get(dir).ok_or(io::ErrorKind::NotFound)?;
        let entry = |(name, id): (&String, &u64)| DirEntry {
            name: name.clone(),
            len: state.images.get(id).map_or(0, |image| image.bytes().len() as u64),
            is_file: true,
        };
        Ok(entries.now.iter().map(entry).collect())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut state = self.lock();
        if state.find(path).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let (dir, name) = split(path).ok_or(io::ErrorKind::InvalidInput)?;
        let id = state.next_image;
        state.next_image += 1;
        state.images.insert(id, Image::default());
        state.dir_step(&dir, DirOp::Create(name, id))?;
        Ok(Arc::new(SimFile { disk: self.clone(), id }))
    }

    fn open(&self, path: &Path, _write: bool) -> io::Result<Arc<dyn File>> {
        let state = self.lock();
        state.check_alive()?;
        let id = state.find(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(SimFile { disk: self.clone(), id }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock();
        let id = state.find(from).ok_or(io::ErrorKind::NotFound)?;
        let (from_dir, from_name) = split(from).ok_or(io::ErrorKind::InvalidInput)?;
        let (to_dir, to_name) = split(to).ok_or(io::ErrorKind::InvalidInput)?;
        if from_dir == to_dir {
            return state.dir_step(&from_dir, DirOp::Rename(from_name, to_name, id));
        }
        state.dir_step(&to_dir, DirOp::Create(to_name, id))?;
        state.dir_step(&from_dir, DirOp::Unlink(from_name))
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.check_alive()?;
        state.find(path).ok_or(io::ErrorKind::NotFound)?;
        let (dir, name) = split(path).ok_or(io::ErrorKind::InvalidInput)?;
        state.dir_step(&dir, DirOp::Unlink(name))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock();
        match state.step()? {
            Some(Fault::Crash) => return state.check_alive(),
            Some(Fault::SyncError { .. }) => return Err(io::Error::other("planned sync error")),
            _ => {}
        }
        state.dirs.get_mut(dir).ok_or(io::ErrorKind::NotFound)?.sync();
        Ok(())
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn Lock>, LockError> {
        let mut state = self.lock();
        state.check_alive()?;
        if state.locks.iter().any(|held| held == path) {
            return Err(LockError::Held(Some(std::process::id())));
        }
        state.locks.push(path.to_path_buf());
        Ok(Box::new(SimLock { disk: self.clone(), path: path.to_path_buf() }))
    }

    fn lock_owner(&self, path: &Path) -> io::Result<LockState> {
        let held = self.lock().locks.iter().any(|held| held == path);
        Ok(if held { LockState::Held(Some(std::process::id())) } else { LockState::Free })
    }

    fn random(&self) -> io::Result<[u8; 16]> {
        let mut state = self.lock();
        let (a, b) = (state.random.next(), state.random.next());
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&a.to_le_bytes());
        bytes[8..].copy_from_slice(&b.to_le_bytes());
        Ok(bytes)
    }
}

#[derive(Debug)]
struct SimLock {
    disk: SimDisk,
    path: PathBuf,
}

impl Lock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.disk.lock().locks.retain(|held| *held != self.path);
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    id: u64,
}

impl SimFile {
    fn with<T>(&self, work: impl FnOnce(&mut Image, &mut SimRandom) -> T) -> io::Result<T> {
        let mut state = self.disk.lock();
        let State { images, random, .. } = &mut *state;
        let image = images.get_mut(&self.id).ok_or(io::ErrorKind::NotFound)?;
        Ok(work(image, random))
    }
}

impl File for SimFile {
    fn size(&self) -> io::Result<u64> {
        self.disk.lock().check_alive()?;
        self.with(|image, _| image.bytes().len() as u64)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        {
            let mut state = self.disk.lock();
            state.check_alive()?;
            if state.read_errors > 0 {
                state.read_errors -= 1;
                return Err(io::Error::other("planned read error"));
            }
        }
        self.with(|image, _| {
            let from = usize::try_from(offset).unwrap_or(usize::MAX).min(image.bytes().len());
            let bytes = &image.bytes()[from..];
            let len = bytes.len().min(buf.len());
            buf[..len].copy_from_slice(&bytes[..len]);
            len
        })
    }

    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let (fault, full) = {
            let mut state = self.disk.lock();
            let end = offset + bytes.len() as u64;
            (state.step()?, state.lacks_room(self.id, end))
        };
        self.with(|image, random| {
            match fault {
                Some(Fault::Crash) => {
                    let part = random.below(bytes.len() as u64 + 1);
                    image.write(offset, &bytes[..usize::try_from(part).unwrap_or(0)]);
                    Err(io::Error::other("the power is off"))
                }
                Some(Fault::ShortWrite) if bytes.len() > 1 => {
                    let part = usize::try_from(1 + random.below(bytes.len() as u64 - 1));
                    let part = part.unwrap_or(1);
                    image.write(offset, &bytes[..part]);
                    Ok(part)
                }
                fault if fault == Some(Fault::NoSpace) || full => {
                    // What still fits is written: a short write first, then the error.
                    let room = image.reserved().saturating_sub(offset);
                    let part = usize::try_from(room).unwrap_or(0).min(bytes.len());
                    image.write(offset, &bytes[..part]);
                    if part > 0 { Ok(part) } else { Err(io::ErrorKind::StorageFull.into()) }
                }
                _ => {
                    image.write(offset, &bytes);
                    Ok(bytes.len())
                }
            }
        })?
    }

    fn sync(&self) -> io::Result<()> {
        let fault = self.disk.lock().step()?;
        self.with(|image, random| match fault {
            Some(Fault::Crash) => {
                // Some of it may have reached the disk, which the crash decides anyway.
                Err(io::Error::other("the power is off"))
            }
            Some(Fault::SyncError { lost }) => {
                image.fail_sync(lost, random);
                Err(io::Error::other("planned sync error"))
            }
            _ => {
                image.sync();
                Ok(())
            }
        })?
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        let (fault, full) = {
            let mut state = self.disk.lock();
            (state.step()?, state.lacks_room(self.id, offset + len))
        };
        self.disk.lock().check_alive()?;
        if fault == Some(Fault::NoSpace) || full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.with(|image, _| image.grow(offset + len))
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.disk.lock().step()?;
        self.disk.lock().check_alive()?;
        self.with(|image, _| image.truncate(len))
    }
}

/// A small generator of numbers, the same on every machine.
#[derive(Clone, Debug)]
pub struct SimRandom(u64);

impl SimRandom {
    /// Starts from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x2545_f491_4f6c_dd1d)
    }

    /// The next number.
    #[expect(clippy::should_implement_trait, reason = "it never ends, so it is no iterator")]
    pub fn next(&mut self) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`, 0 if that is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        if limit == 0 { 0 } else { self.next() % limit }
    }

    /// True once in `n`.
    pub fn chance(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

fn split(path: &Path) -> Option<(PathBuf, String)> {
    Some((path.parent()?.to_path_buf(), path.file_name()?.to_string_lossy().into_owned()))
}

#[cfg(test)]
mod tests;
