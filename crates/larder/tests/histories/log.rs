//! The embedded engine on a simulated disk: calls that fail before, after and instead, reads that fail, a disk that
//! is full for a moment; power failures and deaths of the process.

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use larder::consensus::LogConsensus;
use larder::{
    CaSResult, Consensus, ConsensusError, Durability, KeyStream, SeqNo, SharedConsensus,
    VersionedData,
};
use larder_log::sim::{Fault, SimDisk};
use larder_log::{Log, LogOptions};
use larder_testkit::{Random, Unreliable};
use tokio::time::sleep;

use larder::recipes::Resolution;

use crate::clients::{Manner, Retell};
use crate::{Engine, Test, Wrong, run, runs};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("log::failing_calls_leave_one_order", || Box::pin(failing_calls())),
    ("log::crashes_leave_one_order", || Box::pin(crashes())),
    ("log::a_disk_that_does_not_sync_is_found_out", || Box::pin(a_lying_disk())),
    ("log::a_resolution_that_is_not_true_is_found_out", || Box::pin(lying_resolutions())),
];

/// The store of the process that lives at the moment.
#[derive(Clone, Debug)]
struct Living(Arc<Mutex<(SimDisk, LogConsensus)>>);

impl Living {
    fn on(disk: SimDisk) -> Self {
        let store = open(&disk);
        Self(Arc::new(Mutex::new((disk, store))))
    }

    fn store(&self) -> LogConsensus {
        self.0.lock().unwrap().1.clone()
    }

    fn disk(&self) -> SimDisk {
        self.0.lock().unwrap().0.clone()
    }

    /// Ends the process, or the power, and starts another one on what is left.
    fn restart(&self, random: &mut Random) {
        let mut living = self.0.lock().unwrap();
        let seed = random.word();
        let disk = if random.happens(70) { living.0.crash(seed) } else { living.0.kill(seed) };
        let store = open(&disk);
        *living = (disk, store);
    }
}

fn open(disk: &SimDisk) -> LogConsensus {
    let options = LogOptions { segment_bytes: 64 << 10, ..LogOptions::default() };
    let log = Log::open_with(Arc::new(disk.clone()), Path::new("/c"), options).unwrap();
    LogConsensus::with_log(log, "simulated").unwrap()
}

impl Consensus for Living {
    fn list_keys(&self) -> KeyStream {
        self.store().list_keys()
    }

    async fn head(&self, key: &str) -> Result<Option<VersionedData>, ConsensusError> {
        self.store().head(key).await
    }

    async fn compare_and_set(
        &self,
        key: &str,
        expected: Option<SeqNo>,
        new: VersionedData,
    ) -> Result<CaSResult, ConsensusError> {
        self.store().compare_and_set(key, expected, new).await
    }

    async fn scan(
        &self,
        key: &str,
        from: SeqNo,
        limit: usize,
    ) -> Result<Vec<VersionedData>, ConsensusError> {
        self.store().scan(key, from, limit).await
    }

    async fn truncate(&self, key: &str, seqno: SeqNo) -> Result<usize, ConsensusError> {
        self.store().truncate(key, seqno).await
    }

    fn durability(&self) -> Durability {
        Durability::Power
    }
}

#[derive(Default)]
struct Embedded {
    living: Mutex<Option<Living>>,
    /// At how many steps, once it is open, a sync loses something and says nothing.
    lies: u64,
    retell: Option<Retell>,
}

impl Embedded {
    fn living(&self) -> Living {
        self.living.lock().unwrap().clone().unwrap()
    }
}

impl Engine for Embedded {
    async fn open(&self, random: &mut Random) -> Vec<SharedConsensus> {
        let disk = SimDisk::new(random.word());
        let living = Living::on(disk.clone());
        for step in disk.steps()..disk.steps() + self.lies {
            disk.plan(step, Fault::LyingSync);
        }
        *self.living.lock().unwrap() = Some(living.clone());
        vec![SharedConsensus::new(Unreliable::new(living, random.word(), 8))]
    }

    async fn disturb(&self, random: &mut Random) {
        let disk = self.living().disk();
        if random.happens(50) {
            disk.fail_reads(1 + random.word() % 4);
        } else {
            disk.set_full(true);
        }
        sleep(Duration::from_millis(random.word() % 10)).await;
        self.calm().await;
    }

    async fn restart(&self, random: &mut Random) {
        sleep(Duration::from_millis(random.word() % 60)).await;
        self.living().restart(random);
    }

    async fn calm(&self) {
        let disk = self.living().disk();
        disk.fail_reads(0);
        disk.set_full(false);
    }

    /// A disk that cannot be read does not promise that it can be read later.
    fn manner(&self) -> Manner {
        let plain = Manner { all_passes: false, ..Manner::PLAIN };
        self.retell.map_or(plain, |retell| Manner { retell, ..plain })
    }
}

async fn failing_calls() {
    let tally = runs(&Embedded::default(), "LARDER_HISTORIES", 30, false).await;
    assert!(tally.committed > 0 && tally.resolved() > 0, "{tally:?}");
}

async fn crashes() {
    let tally = runs(&Embedded::default(), "LARDER_HISTORY_RESTARTS", 8, true).await;
    assert!(tally.committed > 0 && tally.unknown > 0, "{tally:?}");
}

/// Acknowledging before the sync is what the check has to find.
async fn a_lying_disk() {
    for seed in 1..=40 {
        let engine = Embedded { lies: 100_000, ..Embedded::default() };
        // A store that finds itself damaged is not opened: a panic here, and no finding.
        let tried = AssertUnwindSafe(run(&engine, seed, true)).catch_unwind().await;
        if let Ok(Err(Wrong::Order(_))) = tried {
            return;
        }
    }
    panic!("what was never synced was not missed by anybody");
}

/// Each answer in the place of each other one is what the check has to find: a resolver that believes in numbers and
/// not in bytes, one that gives up too soon, one that never decides.
async fn lying_resolutions() {
    use Resolution::{Committed, Lost, Open, Unknown};
    macro_rules! retelling {
        ($($truth:ident as $told:ident),+ $(,)?) => {
            [$((
                concat!(stringify!($truth), " told as ", stringify!($told)),
                (|found| if found == $truth { $told } else { found }) as Retell,
            )),+]
        };
    }
    let retellings = retelling! {
        Committed as Lost, Committed as Open, Committed as Unknown,
        Lost as Committed, Lost as Open, Lost as Unknown,
        Open as Committed, Open as Lost, Open as Unknown,
        Unknown as Committed, Unknown as Lost, Unknown as Open,
    };
    for (what, retell) in retellings {
        let engine = Embedded { retell: Some(retell), ..Embedded::default() };
        let mut found = None;
        for seed in 1..=200 {
            if let Err(Wrong::Order(why)) = run(&engine, seed, false).await {
                found = Some((seed, why));
                break;
            }
        }
        let (seed, why) = found.unwrap_or_else(|| panic!("{what} went unnoticed"));
        println!("{what}: seed {seed}: {}", why.lines().next().unwrap_or_default());
    }
}
