//! How much is measured.

use std::time::Duration;

use crate::args::SpoolArgs;
use crate::subject::Kind;

/// The extent of a run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) rounds: usize,
    /// How long the clients of one cell are measured.
    pub(crate) cell: Duration,
    /// How long the disk is probed before and after each measurement.
    pub(crate) probe: Duration,
    /// How often a measurement is made at most when the disk is slow beside it, and how long it is
    /// waited before each for the disk to become fast.
    pub(crate) attempts: usize,
    pub(crate) patience: Duration,
    pub(crate) workloads: Vec<Workload>,
    pub(crate) subjects: Vec<Kind>,
    /// Payload size and concurrency of the cells of `store`.
    pub(crate) cells: Vec<(usize, usize)>,
    /// Entries that loads and enumerations find.
    pub(crate) entries: usize,
    /// What goes through a queue, and what it holds.
    pub(crate) queue_bytes: u64,
    pub(crate) queue_live: u64,
    /// Entries of the logs that are opened after a crash, and the payload size of each.
    pub(crate) opens: Vec<(u64, usize)>,
    /// How many entries the memory of the index is measured at.
    pub(crate) index_entries: Vec<u64>,
    /// What is written and half removed before compaction is watched.
    pub(crate) garbage_bytes: u64,
    /// What a spool in steady state holds.
    pub(crate) steady_bytes: u64,
    /// What a spool has to write over.
    pub(crate) recycled_bytes: u64,
    pub(crate) raw_bytes: u64,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Workload {
    /// Durable stores
    Store,
    /// Loads from the page cache
    Load,
    /// Enumerations with payloads
    Enumerate,
    /// Durable stores, each with a removal of the oldest entry
    Queue,
    /// Opening after kill -9
    Open,
    /// Memory of the index, and what `advise_low_memory` gives back
    Memory,
    /// Latency of stores while compaction and the scrubber run
    Calm,
    /// Cache hits in memory
    Hit,
    /// How often a small memory has what is asked for
    Ratio,
    /// Cache hits in a far tier
    Far,
    /// A thousand callers who want what nobody has
    Stampede,
    /// Redis stopped under load
    Outage,
    /// Compare-and-sets, a key for each writer
    Swap,
    /// Reads of the newest version
    Head,
}

impl Workload {
    /// In the order of the report.
    pub(crate) const ALL: [Self; 14] = [
        Self::Store,
        Self::Load,
        Self::Enumerate,
        Self::Queue,
        Self::Open,
        Self::Memory,
        Self::Calm,
        Self::Hit,
        Self::Ratio,
        Self::Far,
        Self::Stampede,
        Self::Outage,
        Self::Swap,
        Self::Head,
    ];

    /// Those of the cache.
    pub(crate) const CACHE: [Self; 5] =
        [Self::Hit, Self::Ratio, Self::Far, Self::Stampede, Self::Outage];
    /// Those of consensus; all others are of the spool.
    const CONSENSUS: [Self; 2] = [Self::Swap, Self::Head];

    fn spool() -> Vec<Self> {
        Self::ALL
            .into_iter()
            .filter(|workload| {
                !Self::CACHE.contains(workload) && !Self::CONSENSUS.contains(workload)
            })
            .collect()
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Load => "load",
            Self::Enumerate => "enumerate",
            Self::Queue => "queue",
            Self::Open => "open",
            Self::Memory => "memory",
            Self::Calm => "calm",
            Self::Hit => "hit",
            Self::Ratio => "ratio",
            Self::Far => "far",
            Self::Stampede => "stampede",
            Self::Outage => "outage",
            Self::Swap => "swap",
            Self::Head => "head",
        }
    }
}

impl Workload {
    /// What the tables are headed with.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Store => "Durable stores",
            Self::Load => "Loads from the page cache",
            Self::Enumerate => "Enumerations with payloads",
            Self::Queue => "Queue: store and remove the oldest",
            Self::Open => "Opening after kill -9",
            Self::Memory => "Memory of the index",
            Self::Calm => "Stores during compaction and scrubbing",
            Self::Hit => "Hits in memory, Zipf 0.99",
            Self::Ratio => "Hit ratio of a memory that is too small",
            Self::Far => "Hits in Redis, copied into memory",
            Self::Stampede => "A stampede on what nobody has",
            Self::Outage => "Redis stopped for ten seconds under load",
            Self::Swap => "Compare-and-set, a key for each writer",
            Self::Head => "Reads of the newest version",
        }
    }

    /// Whether subjects are compared by their rates.
    pub(crate) fn is_a_comparison(self) -> bool {
        matches!(
            self,
            Self::Store | Self::Load | Self::Enumerate | Self::Queue | Self::Hit | Self::Far
        )
    }
}

/// Opening, probing twice and tidying up around a cell, as measured.
const AROUND: Duration = Duration::from_millis(250);
const SIZES: [usize; 3] = [1 << 10, 16 << 10, 256 << 10];
const CONCURRENCIES: [usize; 4] = [1, 8, 64, 512];

impl Plan {
    /// The plan that the arguments ask for.
    pub(crate) fn new(arguments: &SpoolArgs) -> Self {
        let mut plan = if arguments.smoke {
            Self::smoke()
        } else if arguments.quick {
            Self::quick()
        } else {
            Self::full()
        };
        if !arguments.only.is_empty() {
            plan.workloads.clone_from(&arguments.only);
        }
        if !arguments.subjects.is_empty() {
            plan.subjects.retain(|kind| arguments.subjects.contains(kind));
        }
        if !arguments.sizes.is_empty() || !arguments.concurrency.is_empty() {
            plan.cells = cells();
            plan.cells.retain(|(size, concurrency)| {
                let wanted = |some: &[usize], one| some.is_empty() || some.contains(one);
                wanted(&arguments.sizes, size) && wanted(&arguments.concurrency, concurrency)
            });
        }
        plan.rounds = arguments.rounds.unwrap_or(plan.rounds).max(1);
        if let Some(millis) = arguments.cell_ms {
            plan.cell = Duration::from_millis(millis.max(1));
        }
        plan
    }

    /// One without any workload, for runs that have an extent of their own.
    pub(crate) fn bare() -> Self {
        Self { workloads: Vec::new(), ..Self::full() }
    }

    fn full() -> Self {
        Self {
            rounds: 5,
            cell: Duration::from_millis(600),
            probe: Duration::from_millis(25),
            attempts: 4,
            patience: Duration::from_secs(10),
            workloads: Workload::spool(),
            subjects: Kind::all(),
            cells: cells(),
            entries: 200_000,
            queue_bytes: 4 << 30,
            queue_live: 256 << 20,
            opens: vec![(1_000_000, 1024), (10_000_000, 8)],
            index_entries: [1, 3, 5, 7, 10].map(|millions| millions * 1_000_000).to_vec(),
            garbage_bytes: 1 << 30,
            steady_bytes: 256 << 20,
            recycled_bytes: 2 << 30,
            raw_bytes: 2 << 30,
        }
    }

    fn quick() -> Self {
        Self {
            rounds: 3,
            cell: Duration::from_millis(250),
            cells: vec![
                (1 << 10, 1),
                (1 << 10, 64),
                (1 << 10, 512),
                (16 << 10, 64),
                (256 << 10, 64),
            ],
            entries: 50_000,
            queue_bytes: 256 << 20,
            queue_live: 128 << 20,
            opens: vec![(200_000, 1024)],
            index_entries: vec![1_000_000],
            garbage_bytes: 256 << 20,
            raw_bytes: 512 << 20,
            ..Self::full()
        }
    }

    fn smoke() -> Self {
        Self {
            rounds: 1,
            cell: Duration::from_millis(5),
            cells: SIZES.iter().flat_map(|size| [(*size, 1), (*size, 64)]).collect(),
            probe: Duration::from_millis(1),
            attempts: 1,
            patience: Duration::ZERO,
            entries: 200,
            queue_bytes: 4 << 20,
            queue_live: 1 << 20,
            opens: vec![(1000, 64)],
            index_entries: vec![1000],
            garbage_bytes: 4 << 20,
            steady_bytes: 1 << 20,
            recycled_bytes: 1 << 20,
            raw_bytes: 8 << 20,
            ..Self::full()
        }
    }
}

impl Plan {
    /// The subjects that take part in a workload, of those that were asked for.
    pub(crate) fn subjects(&self, workload: Workload) -> Vec<Kind> {
        let of_all = self.subjects.iter().copied();
        of_all.filter(|kind| kind.takes_part(workload)).collect()
    }

    /// About how long it takes; what is opened and written beforehand included.
    pub(crate) fn estimate(&self) -> Duration {
        self.workloads
            .iter()
            .map(|workload| match workload {
                Workload::Store => {
                    let cells = self.rounds * self.cells.len() * self.subjects.len();
                    (self.cell + AROUND) * u32::try_from(cells).unwrap_or(u32::MAX)
                }
                Workload::Load => self.reads(*workload, 2),
                Workload::Enumerate => self.reads(*workload, 1),
                Workload::Queue => self.queues(),
                Workload::Open => {
                    let entries: u64 = self.opens.iter().map(|(entries, _)| entries).sum();
                    // Both from the page cache and from the disk.
                    self.each_round(rate(2 * entries, 700_000))
                }
                Workload::Memory => {
                    rate(self.index_entries.iter().max().copied().unwrap_or_default(), 500_000)
                }
                Workload::Hit
                | Workload::Ratio
                | Workload::Far
                | Workload::Stampede
                | Workload::Outage
                | Workload::Swap
                | Workload::Head => Duration::ZERO,
                Workload::Calm => {
                    self.each_round(2 * (self.cell + AROUND) + rate(self.garbage_bytes, 300 << 20))
                }
            })
            .sum()
    }

    fn each_round(&self, takes: Duration) -> Duration {
        takes * u32::try_from(self.rounds).unwrap_or(u32::MAX)
    }

    fn reads(&self, workload: Workload, cells: u32) -> Duration {
        let subjects = u32::try_from(self.subjects(workload).len()).unwrap_or(u32::MAX);
        let filling = rate(self.entries as u64, 20_000);
        filling * subjects + self.each_round((self.cell + AROUND) * cells * subjects)
    }

    fn queues(&self) -> Duration {
        let subjects = u32::try_from(self.subjects(Workload::Queue).len()).unwrap_or(u32::MAX);
        let longest = Duration::from_secs(15);
        let each =
            rate(self.queue_bytes, 100 << 20).min(longest) + rate(self.queue_live, 200 << 20);
        self.each_round(each * subjects)
    }
}

fn rate(amount: u64, per_second: u64) -> Duration {
    Duration::from_millis(amount.saturating_mul(1000) / per_second)
}

fn cells() -> Vec<(usize, usize)> {
    SIZES
        .iter()
        .flat_map(|size| CONCURRENCIES.iter().map(move |concurrency| (*size, *concurrency)))
        .collect()
}
