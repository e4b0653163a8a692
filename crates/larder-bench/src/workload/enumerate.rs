//! Enumerations: every entry with its payload.

use larder::{Clock, SystemClock};
use larder_testkit::meter::Usage;

use super::filled::Filled;
use crate::bench::{Bench, say};
use crate::error::Result;
use crate::plan::Workload;
use crate::row::{Row, float};

pub(crate) async fn run(bench: &mut Bench) -> Result<()> {
    let mut filled = Filled::all(bench, Workload::Enumerate).await?;
    let cell = format!("{} x 1 KiB", bench.plan.entries);
    for round in 0..bench.plan.rounds {
        say(&format!("enumerate, round {} of {}", round + 1, bench.plan.rounds));
        for one in &filled {
            bench
                .probed(async |bench| {
                    let row = Row::new("enumerate", one.kind.as_str(), &cell, round);
                    enumerate(bench, one, row).await
                })
                .await?;
        }
        filled.rotate_left(1);
    }
    for one in filled {
        one.close().await?;
    }
    Ok(())
}

/// Enumerates again and again for as long as a cell takes, once at least.
async fn enumerate(bench: &Bench, one: &Filled, row: Row) -> Result<Row> {
    let usage = Usage::now(None);
    let started = SystemClock.instant();
    let (mut entries, mut bytes) = (0, 0);
    loop {
        let (more, more_bytes) = one.store.enumerate().await?;
        if more != one.ids.len() as u64 {
            return Err(format!("{more} of {} entries came", one.ids.len()).into());
        }
        entries += more;
        bytes += more_bytes;
        let elapsed = SystemClock.instant().saturating_duration_since(started);
        if elapsed >= bench.plan.cell {
            let seconds = elapsed.as_secs_f64();
            return Ok(row
                .with("ops_per_s", float(entries) / seconds)
                .with("mib_per_s", float(bytes) / seconds / f64::from(1 << 20))
                .with("cpu_us_per_op", usage.spent().cpu.as_secs_f64() * 1e6 / float(entries)));
        }
    }
}
