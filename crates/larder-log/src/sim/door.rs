//! The simulated disk as the log's door to names.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::file::SimFile;
use super::folder::DirOp;
use super::image::Image;
use super::state::split;
use super::{Fault, SimDisk};
use crate::io::{DirEntry, File, Io, Lock, PathKind};
use crate::lock::{LockError, LockState};

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
