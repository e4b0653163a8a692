//! `larder bench`: how fast is a backend here, next to what the disk can do?

mod load;

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use larder::clock::fill_random;
use larder::{Clock, SystemClock};
use larder_testkit::meter::{Histogram, RawFile, Spent, Usage};
use serde_json::json;

use self::load::{Load, Worker};
use crate::args::{BenchArgs, ContractName, Operation};
use crate::exit::{Exit, say};
use crate::output::Output;
use crate::payload::in_background;
use crate::progress;
use crate::scratch::Scratch;
use crate::stores;

/// How long the raw disk is measured at most.
const BASELINE_MAX: Duration = Duration::from_secs(5);
/// The least and the most that is written beforehand for that.
const BASELINE_FILE_MIN: u64 = 64 << 20;
const BASELINE_FILE_MAX: u64 = 1 << 30;

pub(crate) async fn run(args: BenchArgs, output: &mut Output) -> Result<(), Exit> {
    let scratch = Scratch::at(&args.uri, "bench")?;
    if args.baseline && scratch.folder().is_none() {
        return Err(Exit::usage(format!(
            "--baseline needs a folder: {} has none",
            stores::shown(&args.uri)
        )));
    }
    let size = usize::try_from(args.size).unwrap_or(usize::MAX);
    let mut payload = vec![0; size];
    fill_random(&mut payload);
    let payload = Bytes::from(payload);
    let measuring = async {
        let load = Load::open(&scratch.uri()?, &args, &payload).await?;
        let measured = measure(&load, &args, &payload, scratch.folder()).await;
        load.close().await?;
        Ok(measured)
    };
    let measured = scratch.spend(measuring).await?;

    let baseline = match scratch.folder() {
        Some(folder) if args.baseline => {
            let (folder, batch) = (folder.to_owned(), args.concurrency);
            let limit = Duration::from_secs(args.seconds).min(BASELINE_MAX);
            let bar = progress::spinner("measuring the disk");
            let baseline = in_background(move || baseline(&folder, batch, size, limit)).await;
            bar.finish_and_clear();
            Some(baseline?)
        }
        _ => None,
    };
    report(&args, &measured, baseline.as_ref(), output)
}

/// What one writer achieved with a write and an fdatasync for each batch.
#[derive(Debug)]
struct Baseline {
    payloads: u64,
    elapsed: Duration,
    batches: Histogram,
}

/// Writes batches of `batch` payloads of `size` bytes into a file in `folder` that was written
/// before, so that no write has to grow it: that is the best case. Blocks.
fn baseline(folder: &Path, batch: usize, size: usize, limit: Duration) -> Result<Baseline, Exit> {
    let path = folder.join("baseline");
    let failed = |error: std::io::Error| Exit::file(&path, &error);
    let data = vec![0x5a_u8; batch.saturating_mul(size).max(1)];
    let bytes = u64::try_from(data.len()).unwrap_or(u64::MAX);
    if bytes > BASELINE_FILE_MAX {
        return Err(Exit::usage("concurrency times size is too large for --baseline: 1 GiB"));
    }
    let file_bytes = bytes.saturating_mul(4).clamp(BASELINE_FILE_MIN, BASELINE_FILE_MAX);
    let mut file = RawFile::prewritten(&path, file_bytes).map_err(failed)?;
    let (batches, elapsed) = file.repeat(&data, limit).map_err(failed)?;
    std::fs::remove_file(&path).map_err(failed)?;
    let payloads = batches.count().saturating_mul(u64::try_from(batch).unwrap_or(u64::MAX));
    Ok(Baseline { payloads, elapsed, batches })
}

/// What all workers did together.
#[derive(Debug)]
struct Measured {
    times: Histogram,
    errors: u64,
    first_error: Option<String>,
    elapsed: Duration,
    spent: Spent,
}

async fn measure(
    load: &Load,
    args: &BenchArgs,
    payload: &Bytes,
    folder: Option<&Path>,
) -> Measured {
    let bar = progress::bar(args.seconds, "measuring");
    let ticker = bar.clone();
    let ticking = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            ticker.inc(1);
        }
    });
    let usage = Usage::now(folder);
    let started = SystemClock.instant();
    let until = started + Duration::from_secs(args.seconds);
    let workers: Vec<_> = (0..args.concurrency)
        .map(|number| tokio::spawn(work(load.worker(number, payload), until)))
        .collect();
    let mut measured = Measured {
        times: Histogram::new(),
        errors: 0,
        first_error: None,
        elapsed: Duration::ZERO,
        spent: usage.spent(),
    };
    for worker in workers {
        match worker.await {
            Ok(done) => {
                measured.times.merge(&done.times);
                measured.errors += done.errors;
                measured.first_error = measured.first_error.or(done.first_error);
            }
            Err(panicked) => {
                measured.errors += 1;
                measured.first_error = Some(panicked.to_string());
            }
        }
    }
    measured.elapsed = SystemClock.instant().saturating_duration_since(started);
    measured.spent = usage.spent();
    ticking.abort();
    bar.finish_and_clear();
    measured
}

struct Done {
    times: Histogram,
    errors: u64,
    first_error: Option<String>,
}

async fn work(mut worker: Worker, until: std::time::Instant) -> Done {
    let mut done = Done { times: Histogram::new(), errors: 0, first_error: None };
    let mut begun = SystemClock.instant();
    while begun < until {
        let result = worker.step().await;
        let ended = SystemClock.instant();
        match result {
            Ok(()) => done.times.record(ended.saturating_duration_since(begun)),
            Err(exit) => {
                done.errors += 1;
                done.first_error.get_or_insert_with(|| exit.message().to_owned());
                // Refusals cost nothing; a worker that only collects them would burn a core.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        begun = ended;
    }
    done
}

fn report(
    args: &BenchArgs,
    measured: &Measured,
    baseline: Option<&Baseline>,
    output: &mut Output,
) -> Result<(), Exit> {
    let count = measured.times.count();
    let rate = per_second(count, measured.elapsed);
    let payload_bytes =
        if args.operation()?.writes() { count.saturating_mul(args.size) } else { 0 };
    let device = measured.spent.disk_bytes().map(|bytes| ratio(float(bytes), float(payload_bytes)));
    let mut object = json!({
        "ops_per_s": rounded(rate),
        "p50_us": rounded(measured.times.quantile(500)),
        "p99_us": rounded(measured.times.quantile(990)),
        "p999_us": rounded(measured.times.quantile(999)),
        "cpu_us_per_op": rounded(ratio(measured.spent.cpu.as_secs_f64() * 1e6, float(count))),
        "device_bytes_per_payload_byte": device.map(rounded),
        "errors": measured.errors,
    });
    object["contract"] = args.contract.as_str().into();
    object["op"] = args.operation()?.as_str().into();
    object["concurrency"] = args.concurrency.into();
    object["size"] = args.size.into();
    object["seconds"] = rounded(measured.elapsed.as_secs_f64()).into();
    object["sync"] = (!args.no_sync).into();
    if let Some(baseline) = baseline {
        let raw = per_second(baseline.payloads, baseline.elapsed);
        object["baseline_ops_per_s"] = rounded(raw).into();
        object["baseline_p50_us"] = rounded(baseline.batches.quantile(500)).into();
        object["baseline_p99_us"] = rounded(baseline.batches.quantile(990)).into();
        object["ratio_to_baseline"] = rounded(ratio(rate, raw)).into();
    }
    if !output.json() {
        for (name, value) in object.as_object().into_iter().flatten() {
            output.text(&format!("{name:<30} {value}"))?;
        }
    }
    output.object(&object)?;
    output.flush()?;
    match &measured.first_error {
        None => Ok(()),
        Some(error) if count == 0 => Err(Exit::failed(format!("every operation failed: {error}"))),
        Some(error) => {
            say(&format!("larder: {} operations failed, the first one: {error}", measured.errors));
            Ok(())
        }
    }
}

impl BenchArgs {
    /// The operation that was asked for, or the default of the contract.
    fn operation(&self) -> Result<Operation, Exit> {
        let known: &[Operation] = match self.contract {
            ContractName::Spool => &[Operation::Store, Operation::Load, Operation::Queue],
            ContractName::Cache => &[Operation::Put, Operation::Get],
            ContractName::Consensus => &[Operation::Cas, Operation::Head],
        };
        let operation = self.op.or(known.first().copied()).unwrap_or(Operation::Store);
        if known.contains(&operation) {
            return Ok(operation);
        }
        let known = known.iter().map(|known| known.as_str()).collect::<Vec<_>>().join(", ");
        let (contract, operation) = (self.contract.as_str(), operation.as_str());
        Err(Exit::usage(format!("a {contract} has no operation {operation}: use one of {known}")))
    }
}

fn per_second(count: u64, elapsed: Duration) -> f64 {
    ratio(float(count), elapsed.as_secs_f64())
}

fn ratio(of: f64, to: f64) -> f64 {
    if to > 0.0 { of / to } else { 0.0 }
}

fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

#[allow(clippy::cast_precision_loss, reason = "rates and ratios")]
fn float(number: u64) -> f64 {
    number as f64
}
