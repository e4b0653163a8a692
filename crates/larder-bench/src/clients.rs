//! Closed-loop clients: each waits for its answer before it asks again.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use larder::{Clock, SystemClock};
use larder_testkit::meter::{Histogram, Usage};

use crate::error::Result;
use crate::payload::Source;
use crate::row::Measured;

/// What one client repeats; answers how many bytes of payload it stored.
pub(crate) trait Step: Send + 'static {
    fn step(&mut self) -> impl Future<Output = Result<usize>> + Send;

    /// Whether there is nothing left to do; asked before each step.
    fn is_done(&self) -> bool {
        false
    }
}

/// Runs `clients` as tasks for as long as `limit`, each for one step at least; the device below `folder` is watched.
///
/// A client hands itself to the scheduler before each step, as a request that arrives would be, and
/// its time begins before that: a subject that blocks a worker makes the others wait, and that is
/// counted.
pub(crate) async fn tasks<S: Step>(
    clients: Vec<S>,
    limit: Duration,
    folder: &Path,
) -> Result<Measured> {
    let usage = Usage::now(Some(folder));
    let started = SystemClock.instant();
    let until = started + limit;
    let running: Vec<_> =
        clients.into_iter().map(|client| tokio::spawn(task(client, until))).collect();
    let mut total = Total::default();
    for client in running {
        total.add(&client.await??);
    }
    Ok(total.measured(started, &usage))
}

async fn task(mut client: impl Step, until: Instant) -> Result<Total> {
    let mut total = Total::default();
    let mut begun = SystemClock.instant();
    while !client.is_done() {
        tokio::task::yield_now().await;
        let bytes = client.step().await?;
        begun = total.count(begun, bytes);
        if begun >= until {
            break;
        }
    }
    Ok(total)
}

/// As [`tasks`], with a thread for each client and steps that block.
pub(crate) fn threads<F>(
    concurrency: usize,
    limit: Duration,
    folder: &Path,
    step: &F,
    source: impl Fn() -> Source,
) -> Result<Measured>
where
    F: Fn(&mut Source) -> Result<usize> + Sync,
{
    let usage = Usage::now(Some(folder));
    let started = SystemClock.instant();
    let until = started + limit;
    let mut all = Total::default();
    std::thread::scope(|scope| -> Result<()> {
        let running: Vec<_> = (0..concurrency)
            .map(|_| {
                let mut source = source();
                scope.spawn(move || -> Result<Total> {
                    let mut total = Total::default();
                    let mut begun = SystemClock.instant();
                    loop {
                        let bytes = step(&mut source)?;
                        begun = total.count(begun, bytes);
                        if begun >= until {
                            return Ok(total);
                        }
                    }
                })
            })
            .collect();
        for client in running {
            all.add(&client.join().map_err(|_| "a client panicked")??);
        }
        Ok(())
    })?;
    Ok(all.measured(started, &usage))
}

#[derive(Default)]
struct Total {
    times: Histogram,
    bytes: u64,
}

impl Total {
    /// Counts a step that began at `begun`, and says when it ended.
    fn count(&mut self, begun: Instant, bytes: usize) -> Instant {
        let ended = SystemClock.instant();
        self.times.record(ended.saturating_duration_since(begun));
        self.bytes += bytes as u64;
        ended
    }

    fn add(&mut self, other: &Self) {
        self.times.merge(&other.times);
        self.bytes += other.bytes;
    }

    fn measured(self, started: Instant, usage: &Usage) -> Measured {
        Measured {
            elapsed: SystemClock.instant().saturating_duration_since(started),
            spent: usage.spent(),
            operations: self.times.count(),
            times: self.times,
            payload_bytes: self.bytes,
        }
    }
}

/// Stores new payloads of one size, durably.
pub(crate) struct Storing {
    pub(crate) sink: Arc<dyn crate::subject::Sink>,
    pub(crate) source: Source,
}

impl Step for Storing {
    async fn step(&mut self) -> Result<usize> {
        let (id, data) = (self.source.id(), self.source.payload());
        let bytes = data.len();
        self.sink.store(id, data).await?;
        Ok(bytes)
    }
}
