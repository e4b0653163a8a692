//! A queue in steady state: each client stores durably and then removes the oldest entry.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use larder::SpoolId;
use larder_testkit::meter::Usage;

use super::filled::Filled;
use crate::bench::{Bench, say};
use crate::clients::{self, Step};
use crate::error::Result;
use crate::payload::Source;
use crate::plan::Workload;
use crate::row::{Row, bytes, float};
use crate::subject::{Kind, Store};

const SIZE: usize = 16 << 10;
const CONCURRENCY: usize = 64;
/// A slow subject does not go through all of the payload.
const LIMIT: Duration = Duration::from_secs(15);

struct Queueing {
    store: Arc<dyn Store>,
    source: Source,
    queue: Arc<Mutex<VecDeque<SpoolId>>>,
    /// Bytes that are still to go through.
    left: Arc<AtomicU64>,
}

impl Step for Queueing {
    async fn step(&mut self) -> Result<usize> {
        let (id, data) = (self.source.id(), self.source.payload());
        let size = data.len();
        self.store.store(id, data).await?;
        let oldest = {
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.push_back(id);
            queue.pop_front()
        };
        self.store.remove(oldest.ok_or("the queue is empty")?).await?;
        Ok(size)
    }

    fn is_done(&self) -> bool {
        let size = SIZE as u64;
        let take = |left: u64| left.checked_sub(size);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err()
    }
}

pub(crate) async fn run(bench: &mut Bench) -> Result<()> {
    let plan = bench.plan.clone();
    let through = bytes(usize::try_from(plan.queue_bytes)?);
    let live = bytes(usize::try_from(plan.queue_live)?);
    let cell = format!("16 KiB x {CONCURRENCY}, {through} through {live}");
    for round in 0..plan.rounds {
        let mut kinds = plan.subjects(Workload::Queue);
        let by = round % kinds.len().max(1);
        kinds.rotate_left(by);
        for kind in kinds {
            say(&format!("queue, round {} of {}", round + 1, plan.rounds));
            bench
                .probed(async |bench| {
                    measure(bench, kind, Row::new("queue", kind.as_str(), &cell, round)).await
                })
                .await?;
        }
    }
    Ok(())
}

async fn measure(bench: &mut Bench, kind: Kind, row: Row) -> Result<Row> {
    let entries = usize::try_from(bench.plan.queue_live)? / SIZE;
    let filled = Filled::open(bench, kind, entries, SIZE).await?;
    bench.settle()?;
    let queue = Arc::new(Mutex::new(filled.ids.iter().copied().collect()));
    let left = Arc::new(AtomicU64::new(bench.plan.queue_bytes));
    let clients = (0..CONCURRENCY)
        .map(|_| Queueing {
            store: Arc::clone(&filled.store),
            source: bench.payloads.source(SIZE),
            queue: Arc::clone(&queue),
            left: Arc::clone(&left),
        })
        .collect();
    let usage = Usage::now(Some(bench.dir()));
    let measured = clients::tasks(clients, LIMIT, bench.dir()).await?;
    let on_disk = disk_bytes(&filled.folder)?;
    filled.store.close().await?;
    bench.settle()?;
    let settled = usage.spent().disk_bytes().unwrap_or_default();
    let payload = float(measured.payload_bytes);
    filled.close().await?;
    Ok(row
        .with_measured(&measured)
        .with("settled_device_bytes_per_payload_byte", float(settled) / payload)
        .with("disk_mib_at_end", float(on_disk >> 20))
        .with("payload_mib", payload / f64::from(1 << 20)))
}

/// The blocks of all files below `folder`.
fn disk_bytes(folder: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut sum = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        // A file may be gone that was there a moment ago.
        let Ok(metadata) = entry.metadata() else { continue };
        sum += if metadata.is_dir() { disk_bytes(&entry.path())? } else { metadata.blocks() * 512 };
    }
    Ok(sum)
}
