//! larder's spool with enough files to write over.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use larder::{Spool, SpoolId};
use larder_log::LogOptions;

use super::Larder;
use crate::error::Result;
use crate::payload::Source;
use crate::subject::{Sink, Work};

/// Entries that are stored, or removed, with one call while nobody measures.
const AT_ONCE: usize = 4096;

/// A spool that keeps the files of dead segments, and is emptied between two measurements: what is
/// measured is storing alone, into blocks that the file system knows, as a prewritten file has them.
pub(crate) struct RecycledLarder {
    larder: Larder,
    stored: Mutex<Vec<SpoolId>>,
}

impl RecycledLarder {
    /// Opens a spool in `folder` with `bytes` of files to write over.
    pub(crate) async fn open(folder: &Path, bytes: u64, mut source: Source) -> Result<Self> {
        let options = LogOptions { recycle_bytes: bytes, ..LogOptions::default() };
        let larder = Larder::open_with(folder, options)?;
        let recycled = Self { larder, stored: Mutex::default() };
        let mut filled = 0;
        while filled < bytes {
            let entries: Vec<_> = (0..64).map(|_| (source.id(), source.payload())).collect();
            for (id, data) in &entries {
                recycled.tell(*id);
                filled += data.len() as u64;
            }
            recycled.larder.spool.store_many(entries, false, None).await?;
        }
        recycled.empty().await?;
        Ok(recycled)
    }

    /// Removes what was stored, so that its files can be written over.
    pub(crate) async fn empty(&self) -> Result<()> {
        let stored = std::mem::take(&mut *self.lock());
        for some in stored.chunks(AT_ONCE) {
            self.larder.spool.remove_many(some.to_vec(), false).await?;
        }
        Ok(self.larder.spool.compact().await?)
    }

    /// Stores on this thread, which waits for the disk itself.
    pub(crate) fn store_blocking(&self, id: SpoolId, data: Bytes) -> Result<()> {
        self.larder.spool.store_blocking(id, data, true, None)?;
        self.tell(id);
        Ok(())
    }

    fn tell(&self, id: SpoolId) {
        self.lock().push(id);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<SpoolId>> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink for RecycledLarder {
    fn store(&self, id: SpoolId, data: Bytes) -> Work<'_, ()> {
        Box::pin(async move {
            self.larder.spool.store(id, data, true, None).await?;
            self.tell(id);
            Ok(())
        })
    }

    fn close(&self) -> Work<'_, ()> {
        self.larder.close()
    }
}
