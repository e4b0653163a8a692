//! Loads of random entries that are in the page cache, or in the memory of their store.

use std::sync::Arc;

use larder::SpoolId;

use super::filled::Filled;
use crate::bench::{Bench, say};
use crate::clients::{self, Step};
use crate::error::Result;
use crate::payload::Source;
use crate::plan::Workload;
use crate::row::Row;
use crate::subject::Store;

const CONCURRENCIES: [usize; 2] = [1, 64];

struct Loading {
    store: Arc<dyn Store>,
    ids: Arc<Vec<SpoolId>>,
    source: Source,
}

impl Step for Loading {
    async fn step(&mut self) -> Result<usize> {
        let at = self.source.below(self.ids.len());
        let id = self.ids.get(at).ok_or("there is nothing to load")?;
        self.store.load(*id).await?;
        Ok(0)
    }
}

pub(crate) async fn run(bench: &mut Bench) -> Result<()> {
    let mut filled = Filled::all(bench, Workload::Load).await?;
    for round in 0..bench.plan.rounds {
        for concurrency in CONCURRENCIES {
            let cell = format!("{} x 1 KiB, {concurrency} at once", bench.plan.entries);
            say(&format!("load, round {} of {}, {cell}", round + 1, bench.plan.rounds));
            for one in &filled {
                bench
                    .probed(async |bench| {
                        let clients = (0..concurrency)
                            .map(|_| Loading {
                                store: Arc::clone(&one.store),
                                ids: Arc::clone(&one.ids),
                                source: bench.payloads.source(0),
                            })
                            .collect();
                        let measured =
                            clients::tasks(clients, bench.plan.cell, bench.dir()).await?;
                        let row = Row::new("load", one.kind.as_str(), &cell, round);
                        Ok(row.with_measured(&measured))
                    })
                    .await?;
            }
        }
        filled.rotate_left(1);
    }
    for one in filled {
        one.close().await?;
    }
    Ok(())
}
