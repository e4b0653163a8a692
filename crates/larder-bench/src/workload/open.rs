//! Opening a log whose process was killed.

use std::fs::File;
use std::path::Path;

use rustix::fs::{Advice, fadvise};

use crate::bench::{Bench, say};
use crate::child::{Running, mib};
use crate::error::Result;
use crate::row::{Row, bytes, float};

pub(crate) async fn run(bench: &mut Bench) -> Result<()> {
    for round in 0..bench.plan.rounds {
        for (entries, size) in bench.plan.opens.clone() {
            for cached in [true, false] {
                let from = if cached { "page cache" } else { "disk" };
                let cell = format!("{entries} x {}, from the {from}", bytes(size));
                say(&format!("open, round {} of {}, {cell}", round + 1, bench.plan.rounds));
                bench
                    .probed(async |bench| {
                        let row = Row::new("open", "larder", &cell, round);
                        measure(bench, entries, size, cached, row)
                    })
                    .await?;
            }
        }
    }
    Ok(())
}

fn measure(bench: &mut Bench, entries: u64, size: usize, cached: bool, row: Row) -> Result<Row> {
    let folder = bench.fresh();
    let mut filling = Running::start("fill", &folder, &[entries], size)?;
    filling.finding()?;
    filling.kill()?;
    bench.settle()?;
    if !cached {
        forget(&folder)?;
    }
    let mut opening = Running::start("open", &folder, &[], size)?;
    let found = opening.finding()?;
    opening.kill()?;
    std::fs::remove_dir_all(folder)?;
    if found.entries < entries {
        return Err(format!("{} of {entries} entries were there", found.entries).into());
    }
    Ok(row
        .with("seconds", found.seconds)
        .with("entries_per_s", float(found.entries) / found.seconds)
        .with("memory_mib", mib(found.memory))
        .with("peak_memory_mib", mib(found.peak)))
}

/// Takes the files of `folder` out of the page cache.
fn forget(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            forget(&path)?;
        } else {
            fadvise(File::open(path)?, 0, None, Advice::DontNeed)?;
        }
    }
    Ok(())
}
