//! Durable stores while the engine reclaims space, next to the same stores while it does not.

use std::path::Path;
use std::sync::Arc;

use larder::{Clock, Spool, SystemClock};
use larder_log::{CompactMode, LogOptions};

use crate::bench::{Bench, say};
use crate::child::mib;
use crate::clients::{self, Storing};
use crate::error::Result;
use crate::row::{Measured, Row};
use crate::subject::{Larder, Sink};

const CELL: &str = "1 KiB x 8";
const CONCURRENCY: usize = 8;
const GARBAGE_SIZE: usize = 16 << 10;

pub(crate) async fn run(bench: &mut Bench) -> Result<()> {
    for round in 0..bench.plan.rounds {
        say(&format!("calm, round {} of {}", round + 1, bench.plan.rounds));
        let folder = bench.fresh();
        let options = LogOptions { auto_compact: false, ..LogOptions::default() };
        let larder = Arc::new(Larder::open_with(&folder, options)?);
        bench
            .probed(async |bench| {
                let measured = storing(bench, &larder, &folder).await?;
                Ok(Row::new("calm", "larder, quiet", CELL, round).with_measured(&measured))
            })
            .await?;
        bench
            .probed(async |bench| {
                litter(bench, &larder).await?;
                let row = Row::new("calm", "larder, compacting", CELL, round);
                compacting(bench, &larder, &folder, row).await
            })
            .await?;
        larder.spool.shutdown().await?;
        std::fs::remove_dir_all(folder)?;
    }
    Ok(())
}

async fn storing(bench: &Bench, larder: &Arc<Larder>, folder: &Path) -> Result<Measured> {
    let client = || Storing {
        sink: Arc::clone(larder) as Arc<dyn Sink>,
        source: bench.payloads.source(1 << 10),
    };
    let clients = (0..CONCURRENCY).map(|_| client()).collect();
    clients::tasks(clients, bench.plan.cell, folder).await
}

/// Stores much and removes every other entry of it: each segment then has to be copied.
async fn litter(bench: &Bench, larder: &Larder) -> Result<()> {
    let mut source = bench.payloads.source(GARBAGE_SIZE);
    let mut gone = Vec::new();
    for _ in 0..bench.plan.garbage_bytes / (GARBAGE_SIZE as u64 * 64) {
        let entries: Vec<_> = (0..64).map(|_| (source.id(), source.payload())).collect();
        gone.extend(entries.iter().step_by(2).map(|(id, _)| *id));
        larder.spool.store_many(entries, false, None).await?;
    }
    larder.spool.remove_many(gone, true).await?;
    bench.settle()
}

async fn compacting(bench: &Bench, larder: &Arc<Larder>, folder: &Path, row: Row) -> Result<Row> {
    let log = &larder.log;
    let before = log.stats();
    let begun = SystemClock.instant();
    let compaction = tokio::task::spawn_blocking({
        let log = log.clone();
        move || log.compact(CompactMode::Full).map(|_| SystemClock.instant())
    });
    let measured = storing(bench, larder, folder).await?;
    let meanwhile = log.stats().compacted_bytes.saturating_sub(before.compacted_bytes);
    let took = compaction.await??.saturating_duration_since(begun);
    let share = took.as_secs_f64() / measured.elapsed.as_secs_f64();
    Ok(row
        .with_measured(&measured)
        .with("compacted_mib_meanwhile", mib(meanwhile))
        .with("compaction_share_of_time", share.min(1.0)))
}
