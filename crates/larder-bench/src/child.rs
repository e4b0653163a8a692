//! Processes of their own within a measurement: to be killed, or to have their memory measured.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use larder::spool::{LogSpool, LogSpoolOptions};
use larder::{Clock, Spool, SpoolId, SystemClock};
use serde::{Deserialize, Serialize};

use crate::args::ChildArgs;
use crate::bench::print;
use crate::error::Result;
use crate::payload::{Payloads, Source};
use crate::row::float;

/// Entries that one call stores or removes.
const AT_ONCE: u64 = 1000;

/// What a child does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Task {
    /// Fill a spool and keep it open
    Fill,
    /// Open a spool and keep it open
    Open,
    /// Fill a spool in steps, then remove half and give memory back
    Index,
}

/// What a child found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Finding {
    pub(crate) entries: u64,
    pub(crate) seconds: f64,
    /// Memory of its own, now and at most.
    pub(crate) memory: u64,
    pub(crate) peak: u64,
    /// What `advise_low_memory` said that it gave back.
    pub(crate) given_back: i64,
}

/// A child that runs until it is killed.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Running {
    pub(crate) fn start(task: &str, folder: &Path, entries: &[u64], size: usize) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["child", task]).arg(folder).arg("--size").arg(size.to_string());
        for entries in entries {
            command.arg("--entries").arg(entries.to_string());
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().ok_or("a child has no output")?;
        Ok(Self { child, lines: BufReader::new(stdout).lines() })
    }

    /// The next thing it found.
    pub(crate) fn finding(&mut self) -> Result<Finding> {
        let line = self.lines.next().ok_or("a child ended before it was done")??;
        Ok(serde_json::from_str(&line)?)
    }

    /// Ends it with SIGKILL.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Harmless when it ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Does what a parent asked for.
pub(crate) fn run(arguments: &ChildArgs) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let last = arguments.entries.last().copied().unwrap_or_default();
    match arguments.task {
        Task::Open => {
            let begun = SystemClock.instant();
            let spool = open(&arguments.folder)?;
            let seconds = SystemClock.instant().saturating_duration_since(begun).as_secs_f64();
            let entries = runtime.block_on(spool.stats())?.entries;
            tell(&Finding { entries, seconds, ..memory()? })?;
            wait_for_the_end();
        }
        Task::Fill => {
            let spool = open(&arguments.folder)?;
            let mut source = Payloads::new().source(arguments.size);
            runtime.block_on(fill(&spool, &mut source, last, |_| ()))?;
            let (id, data) = (source.id(), source.payload());
            runtime.block_on(spool.store(id, data, true, None))?;
            tell(&memory()?)?;
            wait_for_the_end();
        }
        Task::Index => {
            let spool = open(&arguments.folder)?;
            let mut source = Payloads::new().source(arguments.size);
            runtime.block_on(spool.store(source.id(), source.payload(), true, None))?;
            tell(&memory()?)?;
            // At once: what a growing list leaves behind would count as memory of the index.
            let mut ids = Vec::with_capacity(usize::try_from(last)?);
            for entries in &arguments.entries {
                let more = entries.saturating_sub(ids.len() as u64);
                runtime.block_on(fill(&spool, &mut source, more, |id| ids.push(id)))?;
                // The ids are not the index.
                let kept = size_of_val(&ids[..]) as u64;
                let found = memory()?;
                tell(&Finding { entries: *entries, memory: found.memory - kept, ..found })?;
            }
            ids.truncate(ids.len() / 2);
            for some in ids.chunks(usize::try_from(AT_ONCE)?) {
                runtime.block_on(spool.remove_many(some.to_vec(), false))?;
            }
            tell(&memory()?)?;
            let begun = SystemClock.instant();
            let given_back = i64::try_from(runtime.block_on(spool.advise_low_memory())?)?;
            let seconds = SystemClock.instant().saturating_duration_since(begun).as_secs_f64();
            tell(&Finding { seconds, given_back, ..memory()? })?;
        }
    }
    Ok(())
}

fn open(folder: &Path) -> Result<LogSpool> {
    Ok(LogSpool::open(folder, LogSpoolOptions::default())?)
}

async fn fill(
    spool: &LogSpool,
    source: &mut Source,
    entries: u64,
    mut tell: impl FnMut(SpoolId),
) -> Result<()> {
    let mut left = entries;
    while left > 0 {
        let count = left.min(AT_ONCE);
        let batch: Vec<_> = (0..count).map(|_| (source.id(), source.payload())).collect();
        for (id, _) in &batch {
            tell(*id);
        }
        spool.store_many(batch, false, None).await?;
        left -= count;
    }
    Ok(())
}

fn tell(finding: &Finding) -> Result<()> {
    print(&serde_json::to_string(finding)?);
    Ok(())
}

/// Waits to be killed; ends when the parent does.
fn wait_for_the_end() {
    // Whatever this answers, the parent is gone.
    let _ = std::io::stdin().read(&mut [0]);
}

/// The memory that this process has to itself, and the most that it ever used.
fn memory() -> Result<Finding> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let kib = |key: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().ok()
    };
    let memory = kib("RssAnon").ok_or("the system does not tell the memory of a process")? << 10;
    let peak = kib("VmHWM").unwrap_or_default() << 10;
    Ok(Finding { memory, peak, ..Finding::default() })
}

/// Bytes as MiB.
pub(crate) fn mib(bytes: u64) -> f64 {
    float(bytes) / f64::from(1 << 20)
}
