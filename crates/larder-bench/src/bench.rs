//! A run: where it happens, how the disk is at the moment, and what was found.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use larder::{Clock, SystemClock};
use larder_testkit::meter::RawFile;
use tempfile::TempDir;

use crate::error::Result;
use crate::payload::Payloads;
use crate::plan::Plan;
use crate::row::Row;

/// Syncs are slow when half of them take longer than this.
const SLOW: Duration = Duration::from_millis(1);
/// A run of the benchmarks.
pub(crate) struct Bench {
    pub(crate) plan: Plan,
    pub(crate) payloads: Payloads,
    pub(crate) rows: Vec<Row>,
    dir: TempDir,
    probe: RawFile,
    folders: u64,
}

impl Bench {
    /// A run in a new folder inside `dir`, which is removed at its end.
    pub(crate) fn new(dir: &Path, plan: Plan) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let dir = tempfile::Builder::new().prefix("larder-bench-").tempdir_in(dir)?;
        let probe = RawFile::prewritten(&dir.path().join("probe"), 16 << 20)?;
        Ok(Self { plan, payloads: Payloads::new(), rows: Vec::new(), dir, probe, folders: 0 })
    }

    /// The folder of this run.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The path of a new folder, which is not made.
    pub(crate) fn fresh(&mut self) -> PathBuf {
        self.folders += 1;
        self.dir.path().join(format!("{:04}", self.folders))
    }

    /// The median time of an append of 1 KiB to a prewritten file with an fdatasync.
    pub(crate) fn probe(&mut self) -> Result<Duration> {
        self.settle()?;
        let (times, _) = self.probe.repeat(&[0x5a; 1024], self.plan.probe)?;
        Ok(Duration::from_secs_f64(times.quantile(500) / 1e6))
    }

    /// Waits until nothing of earlier measurements is on its way to the disk.
    pub(crate) fn settle(&self) -> Result<()> {
        rustix::fs::syncfs(File::open(self.dir.path())?)?;
        Ok(())
    }

    /// Measures with a probe of the disk before and after, and again while the disk is slow; the
    /// last attempt counts in any case and tells how it was.
    pub(crate) async fn probed(
        &mut self,
        mut measure: impl AsyncFnMut(&mut Self) -> Result<Row>,
    ) -> Result<()> {
        let mut attempt = 1;
        loop {
            let before = self.fast_disk()?;
            let row = measure(self).await?;
            let slower = before.max(self.probe()?);
            if slower > SLOW && attempt < self.plan.attempts {
                say(&format!("  syncs took {slower:?} meanwhile: again"));
                attempt += 1;
                continue;
            }
            let slow = if slower > SLOW { 1.0 } else { 0.0 };
            let row = row
                .with("probe_p50_us", slower.as_secs_f64() * 1e6)
                .with("slow_disk", slow)
                .with("attempts", crate::row::float(attempt as u64));
            self.rows.push(row);
            return Ok(());
        }
    }

    /// Waits a while for fast syncs and says how long they take.
    fn fast_disk(&mut self) -> Result<Duration> {
        let until = SystemClock.instant() + self.plan.patience;
        loop {
            let took = self.probe()?;
            if took <= SLOW || SystemClock.instant() >= until {
                return Ok(took);
            }
        }
    }
}

/// Tells the person at the terminal how far it is.
#[expect(clippy::print_stderr, reason = "progress belongs on standard error")]
pub(crate) fn say(text: &str) {
    eprintln!("{text}");
}

/// Writes a result.
#[expect(clippy::print_stdout, reason = "results belong on standard output")]
pub(crate) fn print(text: &str) {
    println!("{text}");
}
