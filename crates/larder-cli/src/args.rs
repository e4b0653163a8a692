//! The command line, as it is promised to scripts.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use larder::address::parse_bytes;
use larder::{SeqNo, SpoolId};

use crate::exit::Exit;

/// Keep it fresh, keep it safe, keep it in order: a tiered cache, a durable spool and
/// compare-and-set consensus.
///
/// A store is named by an address: memory: or log:PATH.
#[derive(Debug, Parser)]
#[command(name = "larder", version, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Larder {
    /// Print JSON: one object or one object a line; errors on stderr are objects too
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  larder serve
  echo hello | larder spool put log:./mail -
  larder spool ls log:./mail
  echo v1 | larder consensus cas log:./state leader --expected none --seqno 1 -

Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 condition not met, 5 unavailable";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the daemon: all three contracts over HTTP
    Serve(ServeArgs),
    /// Read and write one cache entry
    Cache(CacheArgs),
    /// Work with a spool
    Spool(SpoolArgs),
    /// Work with versioned keys
    Consensus(ConsensusArgs),
    /// Put a backend on trial: does it keep every promise of its contract?
    #[command(after_help = "\
Examples:
  larder check memory: --contract spool
  larder check log:./scratch --contract consensus

A log: address gets new folders in that place, which are removed again. Any other address should
name a place that may be filled. Exit code 1 when a promise is broken.")]
    Check(CheckArgs),
    /// Measure a backend, by default durable writes on a fresh folder
    #[command(after_help = "\
Examples:
  larder bench log:./scratch --contract spool --concurrency 64 --size 1KiB --baseline
  larder bench memory: --contract cache --op get

A log: address gets a new folder in that place, which is removed again. The last line of stdout is
one JSON object. --baseline also writes batches of the same size straight to a file that exists
already, with an fdatasync each. Bytes written are those of the whole disk of the folder: let nobody
else write to it meanwhile.")]
    Bench(BenchArgs),
    /// Check an embedded folder offline: segments, checksums, torn and damaged entries
    #[command(after_help = "Example:\n  larder verify ./larder-data/spool\n\n\
        Changes nothing. Exit code 1 when something is damaged; a torn tail is no damage.")]
    Verify {
        /// The folder
        path: PathBuf,
    },
    /// Print the records of an embedded folder
    #[command(after_help = "Example:\n  larder dump ./larder-data/spool --json\n\n\
        Changes nothing. Payloads are not printed.")]
    Dump {
        /// The folder
        path: PathBuf,
    },
    /// Check a config file
    Config(ConfigArgs),
}

/// Without a config it serves all three contracts from the folder given with --data.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  larder serve
  larder serve --data /var/lib/larder --listen 127.0.0.1:7071
  larder serve --config larder.toml

Prints `listening on http://ADDRESS` once it accepts connections. SIGTERM ends it gracefully.
LARDER_LOG sets what is logged to stderr, as in LARDER_LOG=debug.")]
pub(crate) struct ServeArgs {
    /// Config file (TOML); every field of it has a default
    #[arg(long, value_name = "F")]
    pub(crate) config: Option<PathBuf>,
    /// Where to listen; port 0 takes any free one [default: 127.0.0.1:7070]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<SocketAddr>,
    /// Folder of the stores that the config does not place [default: ./larder-data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct CacheArgs {
    #[command(subcommand)]
    pub(crate) action: CacheAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CacheAction {
    /// Write a value to stdout
    #[command(after_help = "Example:\n  larder cache get memory: user:1 > value")]
    Get {
        /// Address of the cache
        uri: String,
        key: String,
    },
    /// Store a value
    #[command(after_help = "Example:\n  echo hello | larder cache put memory: user:1 - --ttl 30s")]
    Put {
        /// Address of the cache
        uri: String,
        key: String,
        /// File with the value; - is stdin
        #[arg(default_value = "-")]
        file: PathBuf,
        /// How long the value lives, as in 30s or 500ms; without it for ever
        #[arg(long, value_parser = humantime::parse_duration)]
        ttl: Option<Duration>,
        /// When the value is due for a refresh
        #[arg(long, value_parser = humantime::parse_duration)]
        stale_after: Option<Duration>,
    },
    /// Remove a value
    #[command(after_help = "Example:\n  larder cache rm memory: user:1")]
    Rm {
        /// Address of the cache
        uri: String,
        key: String,
    },
    /// Show the size, age and source of a value, or without a key the use of the cache
    #[command(after_help = "Example:\n  larder cache stat memory: user:1 --json")]
    Stat {
        /// Address of the cache
        uri: String,
        key: Option<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct SpoolArgs {
    #[command(subcommand)]
    pub(crate) action: SpoolAction,
}

#[derive(Debug, Args)]
pub(crate) struct SpoolWrite {
    /// Do not wait for the disk: an acknowledged write may be lost with the power
    #[arg(long)]
    pub(crate) no_sync: bool,
    /// Give up when the spool has not accepted the write by then, as in 500ms
    #[arg(long, value_parser = humantime::parse_duration)]
    pub(crate) deadline: Option<Duration>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SpoolAction {
    /// Store payloads and print their ids, durably
    #[command(after_help = "\
Examples:
  echo hello | larder spool put log:./mail -
  larder spool put log:./mail ./folder        prints `id path` for each file below it
  larder spool put log:./mail a.eml --deadline 500ms

Symbolic links and special files in a folder are left out.")]
    Put {
        /// Address of the spool
        uri: String,
        /// Files, folders (file by file, recursively), or - for stdin
        #[arg(default_value = "-", value_name = "FILE|FOLDER|-")]
        sources: Vec<PathBuf>,
        #[command(flatten)]
        write: SpoolWrite,
    },
    /// Write a payload to stdout
    #[command(after_help = "Example:\n  larder spool get log:./mail 019c0f…e1 > mail.eml")]
    Get {
        /// Address of the spool
        uri: String,
        id: SpoolId,
    },
    /// Remove entries, durably; one that is not there is no error
    #[command(after_help = "Example:\n  larder spool rm log:./mail 019c0f…e1 019c0f…e2")]
    Rm {
        /// Address of the spool
        uri: String,
        #[arg(required = true, value_name = "ID")]
        ids: Vec<SpoolId>,
        /// Do not wait for the disk: the loss of power may bring the entries back
        #[arg(long)]
        no_sync: bool,
    },
    /// List the entries, damaged ones included, and whether the listing is complete
    #[command(after_help = "Examples:\n  larder spool ls log:./mail\n  \
        larder spool ls log:./mail --json | jq -r 'select(.id) | .id'")]
    Ls {
        /// Address of the spool
        uri: String,
    },
    /// Show counts and sizes
    #[command(after_help = "Example:\n  larder spool stat log:./mail --json")]
    Stat {
        /// Address of the spool
        uri: String,
    },
    /// Give back the space of what was removed
    #[command(after_help = "Example:\n  larder spool compact log:./mail")]
    Compact {
        /// Address of the spool
        uri: String,
    },
    /// Read every payload and check it; exit code 1 when one is damaged
    #[command(after_help = "Example:\n  larder spool verify log:./mail")]
    Verify {
        /// Address of the spool
        uri: String,
    },
    /// Copy every entry into another spool, under the same ids, durably
    #[command(after_help = "Example:\n  larder spool copy log:./mail log:/backup/mail")]
    Copy {
        /// Address of the spool to read
        uri: String,
        /// Address of the spool to write
        to: String,
        #[command(flatten)]
        write: SpoolWrite,
    },
    /// Make the two layers of a tiered spool agree again
    #[command(after_help = "Example:\n  larder spool repair ADDRESS-OF-A-TIERED-SPOOL")]
    Repair {
        /// Address of the spool
        uri: String,
    },
    /// Confirm that reported damage was seen, so that writes are accepted again
    #[command(after_help = "Example:\n  larder spool acknowledge log:./mail")]
    Acknowledge {
        /// Address of the spool
        uri: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ConsensusArgs {
    #[command(subcommand)]
    pub(crate) action: ConsensusAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConsensusAction {
    /// Write the newest data of a key to stdout and its seqno to stderr
    #[command(after_help = "Example:\n  larder consensus head log:./state leader --json")]
    Head {
        /// Address of the store
        uri: String,
        key: String,
    },
    /// Replace the data of a key if its seqno is the expected one
    ///
    /// Prints the committed seqno, or with exit code 4 the current one.
    #[command(after_help = "\
Examples:
  echo v1 | larder consensus cas log:./state leader --expected none --seqno 1 -
  echo v2 | larder consensus cas log:./state leader --expected 1 -")]
    Cas {
        /// Address of the store
        uri: String,
        key: String,
        /// File with the new data; - is stdin
        #[arg(default_value = "-")]
        file: PathBuf,
        /// The seqno that the key must have now; none when it must have no data
        #[arg(long, value_name = "N|none", value_parser = expected)]
        expected: Expected,
        /// The new seqno [default: the expected one plus 1; 0 for none]
        #[arg(long, value_name = "N")]
        seqno: Option<SeqNo>,
    },
    /// List versions, oldest first: seqno and data in base64
    #[command(after_help = "Example:\n  larder consensus scan log:./state leader --from 5")]
    Scan {
        /// Address of the store
        uri: String,
        key: String,
        /// The lowest seqno to list
        #[arg(long, value_name = "N", default_value = "0")]
        from: SeqNo,
        /// How many versions at most
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
    },
    /// Delete the versions below a seqno and print how many there were
    #[command(after_help = "Example:\n  larder consensus truncate log:./state leader --seqno 5")]
    Truncate {
        /// Address of the store
        uri: String,
        key: String,
        /// The lowest seqno to keep; at most that of the head
        #[arg(long, value_name = "N")]
        seqno: SeqNo,
    },
    /// Print each newer head of a key as it comes, at least the last one, until it is interrupted
    ///
    /// One line a head: its seqno and its data in base64.
    #[command(after_help = "\
Examples:
  larder consensus watch postgres://me@db/shop leader
  larder consensus watch postgres://me@db/shop leader --after 7 --count 1")]
    Watch {
        /// Address of the store
        uri: String,
        key: String,
        /// Leave out heads up to this seqno
        #[arg(long, value_name = "N")]
        after: Option<SeqNo>,
        /// End after so many heads
        #[arg(long, value_name = "N")]
        count: Option<u64>,
        /// Fail with exit code 4 when no newer head comes for so long
        #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
        within: Option<Duration>,
    },
    /// List the keys that have data
    #[command(after_help = "Example:\n  larder consensus keys log:./state")]
    Keys {
        /// Address of the store
        uri: String,
    },
}

/// The condition of a compare-and-set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected(pub(crate) Option<SeqNo>);

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Address of the backend
    pub(crate) uri: String,
    /// The contract whose promises are tried
    #[arg(long)]
    pub(crate) contract: CheckedContract,
    /// Repeats the random choices of an earlier run
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Address of the backend
    pub(crate) uri: String,
    /// The contract that is used
    #[arg(long)]
    pub(crate) contract: ContractName,
    /// What is repeated [default: store, put or cas]
    #[arg(long)]
    pub(crate) op: Option<Operation>,
    /// How many workers repeat it, each waiting for its own answer
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = concurrency)]
    pub(crate) concurrency: usize,
    /// Bytes of a payload, as in 1024 or 16KiB
    #[arg(long, value_name = "BYTES", default_value = "1KiB", value_parser = payload_size)]
    pub(crate) size: u64,
    /// How long to measure
    #[arg(long, value_name = "S", default_value_t = 5,
        value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) seconds: u64,
    /// Do not wait for the disk
    #[arg(long)]
    pub(crate) no_sync: bool,
    /// Also measure plain appends with fdatasync, one batch of all workers at a time
    #[arg(long)]
    pub(crate) baseline: bool,
}

/// The contracts that have laws.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CheckedContract {
    Cache,
    Spool,
    Consensus,
    Bus,
}

/// The three contracts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ContractName {
    Cache,
    Spool,
    Consensus,
}

impl ContractName {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Cache => "cache",
            Self::Spool => "spool",
            Self::Consensus => "consensus",
        }
    }
}

/// What a benchmark repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Operation {
    /// Store a new payload in a spool
    Store,
    /// Load one of a few thousand payloads
    Load,
    /// Store a payload and remove the oldest one
    Queue,
    /// Read a cache entry
    Get,
    /// Write a cache entry
    Put,
    /// Compare-and-set, each worker on a key of its own
    Cas,
    /// Read the head of a key
    Head,
}

impl Operation {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Load => "load",
            Self::Queue => "queue",
            Self::Get => "get",
            Self::Put => "put",
            Self::Cas => "cas",
            Self::Head => "head",
        }
    }

    /// Whether it writes a payload.
    pub(crate) fn writes(self) -> bool {
        matches!(self, Self::Store | Self::Queue | Self::Put | Self::Cas)
    }
}

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    pub(crate) action: ConfigAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigAction {
    /// Say whether a config file is valid, and where it is not; opens nothing
    #[command(after_help = "Example:\n  larder config check larder.toml")]
    Check { file: PathBuf },
}

/// Parses the command line; help and mistakes end the program with the returned code.
pub(crate) fn parse() -> Result<Larder, ExitCode> {
    let error = match Larder::try_parse() {
        Ok(larder) => return Ok(larder),
        Err(error) => error,
    };
    if !error.use_stderr() {
        // Help and version: when the reader of the pipe has left, there is nobody to tell.
        let _ = error.print();
        return Err(ExitCode::SUCCESS);
    }
    let json = std::env::args_os().any(|argument| argument == "--json");
    Err(Exit::usage(one_line(&error)).report(json))
}

/// The mistake without the usage text that clap prints around it.
fn one_line(error: &clap::Error) -> String {
    let rendered = error.render().to_string();
    let told = rendered
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"))
        .filter(|line| !line.is_empty() && !line.starts_with("[possible values"));
    let told = told.collect::<Vec<_>>().join(" ");
    if matches!(
        error.kind(),
        clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
            | clap::error::ErrorKind::MissingSubcommand
    ) {
        return "a command is missing: see larder --help".to_owned();
    }
    let told = told.strip_prefix("error: ").unwrap_or(&told);
    format!("{told} (see --help)")
}

fn expected(text: &str) -> Result<Expected, String> {
    if text == "none" {
        return Ok(Expected(None));
    }
    match text.parse() {
        Ok(seqno) => Ok(Expected(Some(seqno))),
        Err(_) => Err("expected a seqno, or none when the key must have no data".to_owned()),
    }
}

fn concurrency(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=65_536).contains(number));
    number.ok_or_else(|| "expected a number from 1 to 65536".to_owned())
}

fn payload_size(text: &str) -> Result<u64, String> {
    let size = parse_bytes(text).filter(|size| *size <= 1 << 30);
    size.ok_or_else(|| "expected a size up to 1GiB, such as 1024 or 16KiB".to_owned())
}
