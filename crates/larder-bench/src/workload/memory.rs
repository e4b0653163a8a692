//! What the index takes for an entry, and what `advise_low_memory` gives back.
//!
//! Memory of a process is what it is: one round says it.

use crate::bench::{Bench, say};
use crate::child::{Running, mib};
use crate::error::Result;
use crate::row::{Row, float};

/// As small as the spool's payloads are in an index that is larger than its data.
const SIZE: usize = 8;

pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    let steps = bench.plan.index_entries.clone();
    let folder = bench.fresh();
    let mut child = Running::start("index", &folder, &steps, SIZE)?;
    let empty = child.finding()?.memory;
    for entries in &steps {
        say(&format!("memory, {entries} entries"));
        let found = child.finding()?;
        let index = found.memory.saturating_sub(empty);
        let row = Row::new("memory", "larder", &format!("{entries} entries"), 0)
            .with("bytes_per_entry", float(index) / float(*entries))
            .with("memory_mib", mib(index));
        bench.rows.push(row);
    }
    let (before, after) = (child.finding()?, child.finding()?);
    let last = steps.last().copied().unwrap_or_default();
    let cell = format!("advise_low_memory, {last} entries and half of them removed");
    let row = Row::new("memory", "larder", &cell, 0)
        .with("before_mib", mib(before.memory.saturating_sub(empty)))
        .with("after_mib", mib(after.memory.saturating_sub(empty)))
        .with("said_mib", mib(u64::try_from(after.given_back).unwrap_or_default()))
        .with("seconds", after.seconds);
    bench.rows.push(row);
    child.kill()?;
    Ok(std::fs::remove_dir_all(folder)?)
}
