//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::child::Task;
use crate::plan::Workload;
use crate::subject::Kind;

/// larder next to its peers and to what the disk itself can do
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Measure the spool
    Spool(SpoolArgs),
    /// Measure the cache: in memory, and over a private Redis server
    Cache(CacheArgs),
    /// Measure consensus: in PostgreSQL and etcd on private servers, and in the embedded engine
    Consensus(ConsensusArgs),
    /// Write one report of the JSON files of several runs
    Report(ReportArgs),
    /// A process of its own within a measurement
    #[command(hide = true)]
    Child(ChildArgs),
}

#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  larder-bench spool --quick
  larder-bench spool --dir /mnt/ext4 --json results.json --markdown results.md
  larder-bench spool --only store --sizes 1KiB --concurrency 64,512 --subjects larder,bare

Rounds interleave the subjects; the tables show medians, ratios are taken within a round. Beside each
measurement the disk is probed; one that met slow syncs (median above 1 ms) is repeated.")]
pub(crate) struct SpoolArgs {
    /// The main cells only, for a first look in under two minutes
    #[arg(long)]
    pub(crate) quick: bool,
    /// Every cell for some milliseconds: shows that it works, and nothing else
    #[arg(long, conflicts_with = "quick")]
    pub(crate) smoke: bool,
    /// Only these workloads
    #[arg(long, value_delimiter = ',')]
    pub(crate) only: Vec<Workload>,
    /// Only these subjects
    #[arg(long, value_delimiter = ',')]
    pub(crate) subjects: Vec<Kind>,
    /// Only these payload sizes of `store`
    #[arg(long, value_delimiter = ',', value_parser = size)]
    pub(crate) sizes: Vec<usize>,
    /// Only these concurrencies of `store`
    #[arg(long, value_delimiter = ',')]
    pub(crate) concurrency: Vec<usize>,
    /// How often everything is measured
    #[arg(long, value_name = "N")]
    pub(crate) rounds: Option<usize>,
    /// Milliseconds for each cell in each round
    #[arg(long, value_name = "MS")]
    pub(crate) cell_ms: Option<u64>,
    /// A folder on the disk that is meant; a new folder in it is used and removed again
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) dir: PathBuf,
    /// Write every figure of every round there
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write the report there as Markdown, too
    #[arg(long, value_name = "FILE")]
    pub(crate) markdown: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct CacheArgs {
    /// Every cell for some milliseconds: shows that it works, and nothing else
    #[arg(long)]
    pub(crate) smoke: bool,
    /// Only these workloads: hit, ratio, far, stampede, outage
    #[arg(long, value_delimiter = ',')]
    pub(crate) only: Vec<Workload>,
    /// How often everything is measured
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(crate) rounds: usize,
    /// Milliseconds for each cell in each round
    #[arg(long, value_name = "MS", default_value_t = 600)]
    pub(crate) cell_ms: u64,
    /// Write every figure of every round there
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write the report there as Markdown, too
    #[arg(long, value_name = "FILE")]
    pub(crate) markdown: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ConsensusArgs {
    /// Every cell for some milliseconds: shows that it works, and nothing else
    #[arg(long)]
    pub(crate) smoke: bool,
    /// Only subjects with one of these words in their names
    #[arg(long, value_delimiter = ',')]
    pub(crate) subjects: Vec<String>,
    /// How often everything is measured
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(crate) rounds: usize,
    /// Milliseconds for each cell in each round
    #[arg(long, value_name = "MS", default_value_t = 600)]
    pub(crate) cell_ms: u64,
    /// A folder for the embedded engine; a new one in it is used and removed again. The servers have theirs
    /// where `TMPDIR` says, which should be on the same disk
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) dir: PathBuf,
    /// Write every figure of every round there
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write the report there as Markdown, too
    #[arg(long, value_name = "FILE")]
    pub(crate) markdown: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ReportArgs {
    /// What `--json` wrote
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Write the report there as Markdown, too
    #[arg(long, value_name = "FILE")]
    pub(crate) markdown: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ChildArgs {
    pub(crate) task: Task,
    pub(crate) folder: PathBuf,
    #[arg(long)]
    pub(crate) entries: Vec<u64>,
    #[arg(long, default_value_t = 0)]
    pub(crate) size: usize,
}

/// Reads `16KiB` and the like.
fn size(text: &str) -> Result<usize, String> {
    let (digits, factor) = match text.strip_suffix("KiB") {
        Some(digits) => (digits, 1 << 10),
        None => (text, 1),
    };
    let number: usize = digits.trim().parse().map_err(|_| format!("{text:?} is not a size"))?;
    number.checked_mul(factor).ok_or_else(|| format!("{text} is too large"))
}
