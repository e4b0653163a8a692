//! Stores that hold entries before they are measured.

use std::path::PathBuf;
use std::sync::Arc;

use larder::SpoolId;

use crate::bench::{Bench, say};
use crate::error::Result;
use crate::plan::Workload;
use crate::row;
use crate::subject::{Kind, Store};

/// Entries that one call stores.
const AT_ONCE: usize = 256;

/// An open store and what it holds.
pub(super) struct Filled {
    pub(super) kind: Kind,
    pub(super) store: Arc<dyn Store>,
    pub(super) ids: Arc<Vec<SpoolId>>,
    pub(super) folder: PathBuf,
}

impl Filled {
    /// Opens a fresh store and fills it.
    pub(super) async fn open(
        bench: &mut Bench,
        kind: Kind,
        entries: usize,
        size: usize,
    ) -> Result<Self> {
        say(&format!("{}: {entries} entries of {}", kind.as_str(), row::bytes(size)));
        let folder = bench.fresh();
        let store = kind.store(&folder)?.ok_or("this subject gives nothing back")?;
        let mut source = bench.payloads.source(size);
        let mut ids = Vec::with_capacity(entries);
        while ids.len() < entries {
            let count = AT_ONCE.min(entries - ids.len());
            let batch: Vec<_> = (0..count).map(|_| (source.id(), source.payload())).collect();
            ids.extend(batch.iter().map(|(id, _)| *id));
            store.fill(batch).await?;
        }
        Ok(Self { kind, store, ids: Arc::new(ids), folder })
    }

    /// One of each kind that takes part in `workload`.
    pub(super) async fn all(bench: &mut Bench, workload: Workload) -> Result<Vec<Self>> {
        let (entries, mut all) = (bench.plan.entries, Vec::new());
        for kind in bench.plan.subjects(workload) {
            all.push(Self::open(bench, kind, entries, 1 << 10).await?);
        }
        Ok(all)
    }

    /// Closes the store and removes its folder.
    pub(super) async fn close(self) -> Result<()> {
        self.store.close().await?;
        drop(self.store);
        Ok(std::fs::remove_dir_all(self.folder)?)
    }
}
