//! RocksDB as mail servers use it: a synced write batch for each store, on the caller's thread.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use larder::SpoolId;
use rocksdb::{DB, DBCompressionType, IteratorMode, Options, WriteBatch, WriteOptions};

use super::{Sink, Store, Work, blocking};
use crate::error::Result;

/// Memory for memtables, from which its own tuning call derives the levels.
const MEMTABLE_BYTES: usize = 512 << 20;

/// Set up by its own tuning calls (`increase_parallelism`, `optimize_level_style_compaction`),
/// without compression: there is nothing to compress in the payloads.
#[derive(Clone)]
pub(crate) struct Rocks {
    database: Arc<DB>,
}

impl Rocks {
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let mut options = Options::default();
        options.create_if_missing(true);
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        options.increase_parallelism(i32::try_from(cores).unwrap_or(2));
        options.optimize_level_style_compaction(MEMTABLE_BYTES);
        options.set_compression_per_level(&[]);
        options.set_compression_type(DBCompressionType::None);
        Ok(Self { database: Arc::new(DB::open(&options, folder)?) })
    }

    fn write(&self, batch: WriteBatch, durable: bool) -> Result<()> {
        let mut options = WriteOptions::default();
        options.set_sync(durable);
        Ok(self.database.write_opt(batch, &options)?)
    }

    fn read_all(&self) -> Result<(u64, u64)> {
        let (mut entries, mut bytes) = (0, 0);
        for item in self.database.iterator(IteratorMode::Start) {
            let (_, value) = item?;
            entries += 1;
            bytes += value.len() as u64;
        }
        Ok((entries, bytes))
    }
}

impl Sink for Rocks {
    fn store(&self, id: SpoolId, data: Bytes) -> Work<'_, ()> {
        Box::pin(async move {
            let mut batch = WriteBatch::default();
            batch.put(id.as_bytes(), &data);
            self.write(batch, true)
        })
    }

    fn close(&self) -> Work<'_, ()> {
        let rocks = self.clone();
        Box::pin(blocking(move || {
            rocks.database.cancel_all_background_work(true);
            Ok(())
        }))
    }
}

impl Store for Rocks {
    fn fill(&self, entries: Vec<(SpoolId, Bytes)>) -> Work<'_, ()> {
        let rocks = self.clone();
        Box::pin(blocking(move || {
            let mut batch = WriteBatch::default();
            for (id, data) in &entries {
                batch.put(id.as_bytes(), data);
            }
            rocks.write(batch, false)
        }))
    }

    fn load(&self, id: SpoolId) -> Work<'_, usize> {
        Box::pin(async move {
            Ok(self.database.get(id.as_bytes())?.ok_or("an entry is missing")?.len())
        })
    }

    fn remove(&self, id: SpoolId) -> Work<'_, ()> {
        Box::pin(async move { Ok(self.database.delete(id.as_bytes())?) })
    }

    fn enumerate(&self) -> Work<'_, (u64, u64)> {
        let rocks = self.clone();
        Box::pin(blocking(move || rocks.read_all()))
    }
}
