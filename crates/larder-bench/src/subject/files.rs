//! A file for each payload, as mail servers of old do it.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use larder::SpoolId;

use super::{Sink, Store, Work, blocking};
use crate::error::Result;

/// Folders that the files are spread over; made beforehand, so that no store has to make one.
const FOLDERS: usize = 256;

/// Temporary file, write, fdatasync, rename. The folder is not synced, as the known peer does it: a
/// loss of power may take the name of a file that was acknowledged.
#[derive(Clone)]
pub(crate) struct Files {
    folder: PathBuf,
}

impl Files {
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder.join("new"))?;
        for number in 0..FOLDERS {
            fs::create_dir_all(folder.join(format!("{number:02x}")))?;
        }
        Ok(Self { folder: folder.to_owned() })
    }

    fn path(&self, id: SpoolId) -> PathBuf {
        let name = id.to_string();
        // The last digits are the random ones.
        let spread = name.get(30..).unwrap_or("00");
        self.folder.join(spread).join(name)
    }

    fn write(&self, id: SpoolId, data: &[u8], sync: bool) -> Result<()> {
        let temporary = self.folder.join("new").join(id.to_string());
        let mut file = File::create_new(&temporary)?;
        file.write_all(data)?;
        if sync {
            file.sync_data()?;
        }
        drop(file);
        fs::rename(temporary, self.path(id))?;
        Ok(())
    }

    fn read_all(&self) -> Result<(u64, u64)> {
        let (mut entries, mut bytes) = (0, 0);
        for number in 0..FOLDERS {
            for entry in fs::read_dir(self.folder.join(format!("{number:02x}")))? {
                bytes += fs::read(entry?.path())?.len() as u64;
                entries += 1;
            }
        }
        Ok((entries, bytes))
    }
}

impl Sink for Files {
    fn store(&self, id: SpoolId, data: Bytes) -> Work<'_, ()> {
        let files = self.clone();
        Box::pin(blocking(move || files.write(id, &data, true)))
    }
}

impl Store for Files {
    fn fill(&self, entries: Vec<(SpoolId, Bytes)>) -> Work<'_, ()> {
        let files = self.clone();
        Box::pin(blocking(move || {
            entries.iter().try_for_each(|(id, data)| files.write(*id, data, false))
        }))
    }

    fn load(&self, id: SpoolId) -> Work<'_, usize> {
        let path = self.path(id);
        Box::pin(blocking(move || Ok(fs::read(path)?.len())))
    }

    fn remove(&self, id: SpoolId) -> Work<'_, ()> {
        let path = self.path(id);
        Box::pin(blocking(move || Ok(fs::remove_file(path)?)))
    }

    fn enumerate(&self) -> Work<'_, (u64, u64)> {
        let files = self.clone();
        Box::pin(blocking(move || files.read_all()))
    }
}
