//! Durable stores while the engine reclaims space, next to the same stores while it does not.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

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
/// Removed entries of 32: as many dead bytes as live ones, which the background leaves alone.
const HALF: usize = 16;
/// So many more that the background compacts at its usual rate: three segments.
const OVER_HALF: usize = 19;

pub(crate) async fn run(bench: &mut Bench) -> Result<()> {
    for round in 0..bench.plan.rounds {
        say(&format!("calm, round {} of {}", round + 1, bench.plan.rounds));
        quiet_and_by_hand(bench, round).await?;
        in_the_background(bench, round).await?;
    }
    Ok(())
}

/// Nothing in the background; then compaction that somebody asked for, as fast as it goes.
async fn quiet_and_by_hand(bench: &mut Bench, round: usize) -> Result<()> {
    let folder = bench.fresh();
    let options =
        LogOptions { auto_compact: false, scrub_bytes_per_second: 0, ..LogOptions::default() };
    let larder = Arc::new(Larder::open_with(&folder, options)?);
    bench
        .probed(async |bench| {
            let measured = storing(bench, &larder, &folder, bench.plan.cell).await?;
            Ok(Row::new("calm", "larder, quiet", CELL, round).with_measured(&measured))
        })
        .await?;
    bench
        .probed(async |bench| {
            litter(bench, &larder, HALF).await?;
            let row = Row::new("calm", "larder, compacting by hand", CELL, round);
            compacting(bench, &larder, &folder, row).await
        })
        .await?;
    larder.spool.shutdown().await?;
    Ok(std::fs::remove_dir_all(folder)?)
}

/// Compaction and the scrubber as they run by themselves, at their default rates; the scrubber begins
/// its next pass at once.
async fn in_the_background(bench: &mut Bench, round: usize) -> Result<()> {
    bench
        .probed(async |bench| {
            let folder = bench.fresh();
            let options = LogOptions { scrub_interval: Duration::ZERO, ..LogOptions::default() };
            let larder = Arc::new(Larder::open_with(&folder, options)?);
            litter(bench, &larder, OVER_HALF).await?;
            let before = larder.log.stats();
            // Long enough for a segment to be copied at that rate.
            let measured = storing(bench, &larder, &folder, 6 * bench.plan.cell).await?;
            let after = larder.log.stats();
            larder.spool.shutdown().await?;
            std::fs::remove_dir_all(folder)?;
            let compacted = after.compacted_bytes.saturating_sub(before.compacted_bytes);
            let scrubbed = after.scrubbed_bytes.saturating_sub(before.scrubbed_bytes);
            Ok(Row::new("calm", "larder, background", CELL, round)
                .with_measured(&measured)
                .with("compacted_mib_meanwhile", mib(compacted))
                .with("scrubbed_mib_meanwhile", mib(scrubbed)))
        })
        .await
}

async fn storing(
    bench: &Bench,
    larder: &Arc<Larder>,
    folder: &Path,
    limit: Duration,
) -> Result<Measured> {
    let client = || Storing {
        sink: Arc::clone(larder) as Arc<dyn Sink>,
        source: bench.payloads.source(1 << 10),
    };
    let clients = (0..CONCURRENCY).map(|_| client()).collect();
    clients::tasks(clients, limit, folder).await
}

/// Stores much and removes so many of every 32 entries of it: each segment then has to be copied.
async fn litter(bench: &Bench, larder: &Larder, removed: usize) -> Result<()> {
    let mut source = bench.payloads.source(GARBAGE_SIZE);
    let mut gone = Vec::new();
    for _ in 0..bench.plan.garbage_bytes / (GARBAGE_SIZE as u64 * 64) {
        let entries: Vec<_> = (0..64).map(|_| (source.id(), source.payload())).collect();
        let is_gone = |(at, _): &(usize, _)| (at * removed) % 32 < removed;
        gone.extend(entries.iter().enumerate().filter(is_gone).map(|(_, (id, _))| *id));
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
    let measured = storing(bench, larder, folder, bench.plan.cell).await?;
    let meanwhile = log.stats().compacted_bytes.saturating_sub(before.compacted_bytes);
    let took = compaction.await??.saturating_duration_since(begun);
    let share = took.as_secs_f64() / measured.elapsed.as_secs_f64();
    Ok(row
        .with_measured(&measured)
        .with("compacted_mib_meanwhile", mib(meanwhile))
        .with("compaction_share_of_time", share.min(1.0)))
}
