//! Durable stores, in every cell of payload size and concurrency.

use std::path::PathBuf;
use std::sync::Arc;

use larder_testkit::meter::{RawFile, Usage};

use crate::bench::{Bench, say};
use crate::clients::{self, Storing};
use crate::error::Result;
use crate::page_cache::warm;
use crate::payload::Source;
use crate::plan::Workload;
use crate::row::{self, Measured, Row};
use crate::subject::{BareLog, Kind, RecycledLarder, Sink, SteadyLarder};

/// What is kept from round to round.
struct Kept {
    /// The prewritten file of the subjects that want one, and where it is.
    file: Option<RawFile>,
    prewritten: PathBuf,
    recycled: Option<Arc<RecycledLarder>>,
    steady: Option<Arc<SteadyLarder>>,
}

pub(crate) async fn run(bench: &mut Bench) -> Result<()> {
    let (path, bytes) = (bench.dir().join("prewritten"), bench.plan.raw_bytes);
    let file = Some(RawFile::prewritten(&path, bytes)?);
    let mut kept = Kept { file, prewritten: path, recycled: None, steady: None };
    let wanted = |kinds: &[Kind]| kinds.iter().any(|kind| bench.plan.subjects.contains(kind));
    let (recycled, steady) =
        (wanted(&[Kind::Larder, Kind::LarderBlocking]), wanted(&[Kind::LarderSteady]));
    if recycled {
        let (folder, source) = (bench.fresh(), bench.payloads.source(16 << 10));
        let recycled = RecycledLarder::open(&folder, bench.plan.recycled_bytes, source).await?;
        kept.recycled = Some(Arc::new(recycled));
    }
    if steady {
        let (folder, source) = (bench.fresh(), bench.payloads.source(16 << 10));
        let steady = SteadyLarder::open(&folder, bench.plan.steady_bytes, source).await?;
        kept.steady = Some(Arc::new(steady));
    }
    let (cells, subjects) = (bench.plan.cells.clone(), bench.plan.subjects(Workload::Store));
    for round in 0..bench.plan.rounds {
        for (size, concurrency) in &cells {
            let cell = format!("{} x {concurrency}", row::bytes(*size));
            say(&format!("store, round {} of {}, {cell}", round + 1, bench.plan.rounds));
            // Another one first in each round: nobody always follows the same neighbour.
            for at in 0..subjects.len() {
                let Some(kind) = subjects.get((at + round) % subjects.len()) else { continue };
                bench
                    .probed(async |bench| {
                        let measured =
                            measure(bench, &mut kept, *kind, *size, *concurrency).await?;
                        let row = Row::new("store", kind.as_str(), &cell, round);
                        Ok(row.with_measured(&measured))
                    })
                    .await?;
            }
        }
    }
    if let Some(recycled) = kept.recycled {
        recycled.close().await?;
    }
    if let Some(steady) = kept.steady {
        steady.close().await?;
    }
    Ok(())
}

async fn measure(
    bench: &mut Bench,
    kept: &mut Kept,
    kind: Kind,
    size: usize,
    concurrency: usize,
) -> Result<Measured> {
    match kind {
        Kind::Raw => raw(bench, kept, size, concurrency),
        Kind::Bare => {
            warm(&kept.prewritten)?;
            let file = kept.file.take().ok_or("the prewritten file is gone")?;
            let log = Arc::new(BareLog::new(file));
            let sink: Arc<dyn Sink> = Arc::<BareLog>::clone(&log);
            let measured = storing(bench, &sink, size, concurrency).await;
            kept.file = log.end()?;
            measured
        }
        Kind::LarderBlocking => {
            let recycled = kept.recycled.as_ref().ok_or("the spool to write over is missing")?;
            recycled.ready().await?;
            let step = |source: &mut Source| {
                let (id, data) = (source.id(), source.payload());
                recycled.store_blocking(id, data).map(|()| size)
            };
            let source = || bench.payloads.source(size);
            clients::threads(concurrency, bench.plan.cell, bench.dir(), &step, source)
        }
        Kind::Larder => {
            let recycled = kept.recycled.clone().ok_or("the spool to write over is missing")?;
            recycled.ready().await?;
            let sink: Arc<dyn Sink> = recycled;
            storing(bench, &sink, size, concurrency).await
        }
        Kind::LarderSteady => {
            let steady = kept.steady.clone().ok_or("the spool in steady state is missing")?;
            let sink: Arc<dyn Sink> = steady;
            storing(bench, &sink, size, concurrency).await
        }
        _ => {
            let folder = bench.fresh();
            let sink = kind.sink(&folder)?.ok_or("this subject is no sink")?;
            let measured = storing(bench, &sink, size, concurrency).await;
            sink.close().await?;
            drop(sink);
            remove(&folder)?;
            measured
        }
    }
}

/// Removes a folder, or the one file that a subject is.
fn remove(path: &std::path::Path) -> Result<()> {
    Ok(if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }?)
}

async fn storing(
    bench: &Bench,
    sink: &Arc<dyn Sink>,
    size: usize,
    concurrency: usize,
) -> Result<Measured> {
    let clients = (0..concurrency)
        .map(|_| Storing { sink: Arc::clone(sink), source: bench.payloads.source(size) })
        .collect();
    clients::tasks(clients, bench.plan.cell, bench.dir()).await
}

/// One thread that appends a batch of as many payloads as there would be clients.
fn raw(bench: &Bench, kept: &mut Kept, size: usize, concurrency: usize) -> Result<Measured> {
    warm(&kept.prewritten)?;
    let file = kept.file.as_mut().ok_or("the prewritten file is gone")?;
    let batch = vec![0x5a; size * concurrency];
    let usage = Usage::now(Some(bench.dir()));
    let (batches, elapsed) = file.repeat(&batch, bench.plan.cell)?;
    let spent = usage.spent();
    let operations = batches.count() * concurrency as u64;
    let payload_bytes = operations * size as u64;
    Ok(Measured { operations, times: batches, elapsed, spent, payload_bytes })
}
