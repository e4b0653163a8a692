//! larder's spool with enough files to write over.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use larder::{Clock, Listing, Spool, SpoolId, SystemClock};
use larder_log::LogOptions;

use super::Larder;
use crate::error::Result;
use crate::page_cache::warm;
use crate::payload::Source;
use crate::subject::{Sink, Work};

/// Entries that are stored, or removed, with one call while nobody measures.
const AT_ONCE: usize = 4096;

/// A spool that keeps the files of dead segments, and is emptied between two measurements: what is
/// measured is storing alone, into blocks that the file system knows, as a prewritten file has them.
pub(crate) struct RecycledLarder {
    larder: Larder,
    folder: PathBuf,
}

impl RecycledLarder {
    /// Opens a spool in `folder` with `bytes` of files to write over.
    pub(crate) async fn open(folder: &Path, bytes: u64, mut source: Source) -> Result<Self> {
        let options = LogOptions { recycle_bytes: bytes, ..LogOptions::default() };
        let larder = Larder::open_with(folder, options)?;
        let recycled = Self { larder, folder: folder.to_path_buf() };
        let mut filled = 0;
        while filled < bytes {
            let entries: Vec<_> = (0..64).map(|_| (source.id(), source.payload())).collect();
            filled += entries.iter().map(|(_, data)| data.len() as u64).sum::<u64>();
            recycled.larder.spool.store_many(entries, false, None).await?;
        }
        recycled.empty().await?;
        Ok(recycled)
    }

    /// Has all its files ready to be written over, and in the page cache.
    pub(crate) async fn ready(&self) -> Result<()> {
        self.empty().await?;
        warm(&self.folder)
    }

    /// Removes what was stored, so that its files can be written over.
    async fn empty(&self) -> Result<()> {
        let (sender, mut listed) = larder::channel::channel(AT_ONCE);
        // One millisecond on, or what was stored in this one would be left.
        let until = SystemClock.now().saturating_add(Duration::from_millis(1));
        let handle = self.larder.spool.list(sender, until)?;
        let mut some = Vec::new();
        while let Some(listing) = listed.recv().await {
            match listing {
                Listing::Item { id, .. } => some.push(id),
                Listing::Corrupt { error, .. } => return Err(error.into()),
            }
            if some.len() == AT_ONCE {
                self.larder.spool.remove_many(std::mem::take(&mut some), false).await?;
            }
        }
        handle.await?;
        self.larder.spool.remove_many(some, false).await?;
        Ok(self.larder.spool.compact().await?)
    }

    /// Stores on this thread, which waits for the disk itself.
    pub(crate) fn store_blocking(&self, id: SpoolId, data: Bytes) -> Result<()> {
        Ok(self.larder.spool.store_blocking(id, data, true, None)?)
    }
}

impl Sink for RecycledLarder {
    fn store(&self, id: SpoolId, data: Bytes) -> Work<'_, ()> {
        self.larder.store(id, data)
    }

    fn close(&self) -> Work<'_, ()> {
        self.larder.close()
    }
}
