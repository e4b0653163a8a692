//! What the clones of a simulated disk share.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::folder::{Dir, DirOp};
use super::image::Image;
use super::{Fault, SimRandom};

#[derive(Debug)]
pub(super) struct State {
    pub(super) random: SimRandom,
    pub(super) images: BTreeMap<u64, Image>,
    pub(super) dirs: BTreeMap<PathBuf, Dir>,
    pub(super) next_image: u64,
    pub(super) locks: Vec<PathBuf>,
    /// Steps so far: every call that changes or syncs something is one.
    pub(super) steps: u64,
    pub(super) plan: BTreeMap<u64, Fault>,
    pub(super) dead: bool,
    pub(super) full: bool,
    pub(super) capacity: Option<u64>,
    /// Reads that work before those that fail.
    pub(super) sound_reads: u64,
    pub(super) read_errors: u64,
}

impl State {
    /// A disk with power, without faults.
    pub(super) fn new(
        random: SimRandom,
        images: BTreeMap<u64, Image>,
        dirs: BTreeMap<PathBuf, Dir>,
    ) -> Self {
        Self {
            random,
            next_image: images.last_key_value().map_or(1, |(id, _)| id + 1),
            images,
            dirs,
            locks: Vec::new(),
            steps: 0,
            plan: BTreeMap::new(),
            dead: false,
            full: false,
            capacity: None,
            sound_reads: 0,
            read_errors: 0,
        }
    }

    pub(super) fn find(&self, path: &Path) -> Option<u64> {
        let (dir, name) = split(path)?;
        self.dirs.get(&dir)?.now.get(&name).copied()
    }

    pub(super) fn used(&self) -> u64 {
        let ids = self.dirs.values().flat_map(|dir| dir.now.values());
        ids.filter_map(|id| self.images.get(id)).map(Image::reserved).sum()
    }

    /// Whether a file cannot grow up to `end`.
    pub(super) fn lacks_room(&self, id: u64, end: u64) -> bool {
        let held = self.images.get(&id).map_or(0, Image::reserved);
        let more = end.saturating_sub(held);
        more > 0
            && (self.full || self.capacity.is_some_and(|capacity| self.used() + more > capacity))
    }

    pub(super) fn check_alive(&self) -> io::Result<()> {
        if self.dead { Err(io::Error::other("the power is off")) } else { Ok(()) }
    }

    /// Counts a read.
    pub(super) fn read(&mut self) -> io::Result<()> {
        self.check_alive()?;
        if self.sound_reads > 0 {
            self.sound_reads -= 1;
        } else if self.read_errors > 0 {
            self.read_errors -= 1;
            return Err(io::Error::other("planned read error"));
        }
        Ok(())
    }

    /// Counts a step; says what is planned for it.
    pub(super) fn step(&mut self) -> io::Result<Option<Fault>> {
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
    pub(super) fn dir_step(&mut self, path: &Path, op: DirOp) -> io::Result<()> {
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

pub(super) fn split(path: &Path) -> Option<(PathBuf, String)> {
    Some((path.parent()?.to_path_buf(), path.file_name()?.to_string_lossy().into_owned()))
}
