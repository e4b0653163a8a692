//! larder's spool over the embedded engine, with its defaults.

mod recycled;
mod steady;

use std::path::Path;

use bytes::Bytes;
use larder::spool::{LogSpool, LogSpoolOptions};
use larder::{Clock, Spool, SpoolEntry, SpoolId, SystemClock};
use larder_log::{Log, LogOptions};

pub(crate) use self::recycled::RecycledLarder;
pub(crate) use self::steady::SteadyLarder;
use super::{Sink, Store, Work};
use crate::error::Result;

/// Entries on their way through a channel.
const CHANNEL: usize = 1024;

/// The spool as it is opened, and the engine below it.
#[derive(Clone)]
pub(crate) struct Larder {
    pub(crate) spool: LogSpool,
    pub(crate) log: Log,
}

impl Larder {
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        Self::open_with(folder, LogOptions::default())
    }

    pub(crate) fn open_with(folder: &Path, options: LogOptions) -> Result<Self> {
        let log = Log::open(folder, options)?;
        let spool = LogSpool::with_log(log.clone(), LogSpoolOptions::default().store_deadline);
        Ok(Self { spool, log })
    }
}

impl Sink for Larder {
    fn store(&self, id: SpoolId, data: Bytes) -> Work<'_, ()> {
        Box::pin(async move { Ok(self.spool.store(id, data, true, None).await?) })
    }

    fn close(&self) -> Work<'_, ()> {
        Box::pin(async { Ok(self.spool.shutdown().await?) })
    }
}

impl Store for Larder {
    fn fill(&self, entries: Vec<(SpoolId, Bytes)>) -> Work<'_, ()> {
        Box::pin(async move { Ok(self.spool.store_many(entries, false, None).await?) })
    }

    fn load(&self, id: SpoolId) -> Work<'_, usize> {
        Box::pin(async move { Ok(self.spool.load(id).await?.len()) })
    }

    fn remove(&self, id: SpoolId) -> Work<'_, ()> {
        Box::pin(async move { Ok(self.spool.remove(id).await?) })
    }

    fn enumerate(&self) -> Work<'_, (u64, u64)> {
        Box::pin(async {
            let (sender, mut receiver) = larder::channel::channel(CHANNEL);
            let handle = self.spool.enumerate(sender, SystemClock.now())?;
            let (mut entries, mut bytes) = (0, 0);
            while let Some(entry) = receiver.recv().await {
                match entry {
                    SpoolEntry::Item { data, .. } => bytes += data.len() as u64,
                    SpoolEntry::Corrupt { error, .. } => return Err(error.into()),
                }
                entries += 1;
            }
            handle.await?;
            Ok((entries, bytes))
        })
    }
}
