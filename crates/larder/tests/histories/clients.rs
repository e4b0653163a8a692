//! What the clients of a run do, and how it is judged.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use larder::clock::random_u64;
use larder::error::chain;
use larder::recipes::{Resolution, resolve};
use larder::{CaSResult, ConsensusError, Failure, Retry, SeqNo, SharedConsensus, VersionedData};
use larder_testkit::Random;
use larder_testkit::history::{Answer, Recorder, SEARCH_MAX};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::Wrong;
use crate::resolved::Resolved;

/// Asks until there is an answer. Goes by how often, not by how long: a process that was stopped meanwhile has not
/// asked in vain.
macro_rules! patiently {
    ($manner:expr, $ask:expr) => {{
        let mut answer = Err(Wrong::Client("the store was not found again".to_owned()));
        for _ in 0..1_000 {
            match $ask.await {
                Ok(found) => {
                    answer = Ok(found);
                    break;
                }
                Err(error) => $manner.bears(&error)?,
            }
            sleep(Duration::from_millis(20)).await;
        }
        answer
    }};
}

/// How many there are of what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    clients: usize,
    keys: usize,
    calls: usize,
    /// Pauses between calls last up to so many milliseconds, so that a run lasts as long as what goes wrong.
    pause: usize,
    /// So many per cent of the writes are given up by their callers.
    drops: u8,
    /// Truncations leave at least so many numbers below the head.
    kept: u64,
}

impl Plan {
    /// Every fourth one is so short that every order can be tried.
    pub(crate) fn of(random: &mut Random, restarts: bool) -> Self {
        let pause = if restarts { 60 } else { 4 };
        if random.below(4) == 0 {
            let keys = 1 + random.below(2);
            let (calls, pause) = (5 * keys, pause * 4);
            return Self { clients: 4, keys, calls, pause, drops: 10, kept: 0 };
        }
        Self {
            clients: 8 + random.below(25),
            keys: 1 + random.below(8),
            calls: 6 + random.below(15),
            pause,
            drops: 10,
            kept: 0,
        }
    }

    /// Clients of one key that write without a pause until they are told that it is enough, and give nothing up.
    pub(crate) const fn of_one_key() -> Self {
        Self { clients: 8, keys: 1, calls: usize::MAX, pause: 0, drops: 0, kept: 20 }
    }
}

/// What came of runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) events: usize,
    pub(crate) committed: usize,
    /// Calls whose outcome nobody knew at first, those that were dropped included.
    pub(crate) unknown: usize,
    pub(crate) found_committed: usize,
    pub(crate) found_lost: usize,
    pub(crate) found_open: usize,
    pub(crate) found_unknown: usize,
    /// Keys whose history was searched for an order as well.
    pub(crate) searched: usize,
    /// Versions that are there in the end.
    pub(crate) left: usize,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.committed += other.committed;
        self.unknown += other.unknown;
        self.found_committed += other.found_committed;
        self.found_lost += other.found_lost;
        self.found_open += other.found_open;
        self.found_unknown += other.found_unknown;
        self.searched += other.searched;
        self.left += other.left;
    }

    /// How many calls of unknown outcome were looked into.
    pub(crate) fn resolved(&self) -> usize {
        self.found_committed + self.found_lost + self.found_open + self.found_unknown
    }
}

/// The clients of a run.
pub(crate) struct Clients {
    recorders: Arc<Vec<Recorder>>,
    tasks: JoinSet<Result<Vec<Resolved>, Wrong>>,
    left: Arc<AtomicUsize>,
    signals: Signals,
    manner: Manner,
}

/// What clients and those who disturb them tell one another.
#[derive(Clone, Debug, Default)]
pub(crate) struct Signals {
    ended: Arc<AtomicBool>,
    enough: Arc<AtomicBool>,
    committed: Arc<AtomicUsize>,
}

impl Signals {
    /// Whether the last client is done.
    pub(crate) fn ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// How many calls have been told that they are committed.
    pub(crate) fn committed(&self) -> usize {
        self.committed.load(Ordering::SeqCst)
    }

    /// Tells the clients to stop.
    pub(crate) fn enough(&self) {
        self.enough.store(true, Ordering::SeqCst);
    }
}

/// What is told in place of what was found out.
pub(crate) type Retell = fn(Resolution) -> Resolution;

/// How clients take what they are told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    /// The same, unless somebody is to be found out himself.
    pub(crate) retell: Retell,
    /// Whatever goes wrong here passes, and an error has to say so.
    pub(crate) all_passes: bool,
}

impl Manner {
    pub(crate) const PLAIN: Self = Self { retell: |resolution| resolution, all_passes: true };

    fn bears(self, error: &ConsensusError) -> Result<(), Wrong> {
        if error.retry() == Retry::Later || !self.all_passes {
            return Ok(());
        }
        let why = format!("repeating does not help: {} {error:?}", chain(error));
        Err(Wrong::Client(why))
    }
}

impl Clients {
    /// Clients of `stores`, each of which is a process of its own as far as the engine knows.
    pub(crate) fn begin(
        stores: &[SharedConsensus],
        plan: Plan,
        random: &mut Random,
        manner: Manner,
    ) -> Self {
        let run = random_u64();
        let recorders = (0..plan.keys).map(|key| Recorder::new(format!("h{run:016x}-{key}")));
        let recorders: Arc<Vec<Recorder>> = Arc::new(recorders.collect());
        let left = Arc::new(AtomicUsize::new(plan.clients));
        let signals = Signals::default();
        let mut tasks = JoinSet::new();
        for number in 0..plan.clients {
            let store = stores[number % stores.len()].clone();
            let (recorders, random) = (Arc::clone(&recorders), random.fork());
            let (left, signals) = (Arc::clone(&left), signals.clone());
            tasks.spawn(async move {
                let (resolved, signals) = (Vec::new(), &signals);
                let client =
                    Client { store, recorders, number, random, plan, manner, signals, resolved };
                let lived = client.live().await;
                if left.fetch_sub(1, Ordering::SeqCst) == 1 || lived.is_err() {
                    signals.ended.store(true, Ordering::SeqCst);
                }
                lived
            });
        }
        Self { recorders, tasks, left, signals, manner }
    }

    pub(crate) fn signals(&self) -> Signals {
        self.signals.clone()
    }

    /// Waits for all, and judges what they were told.
    pub(crate) async fn judged(mut self, store: &SharedConsensus) -> Result<Tally, Wrong> {
        let mut resolved = Vec::new();
        while let Some(ended) = self.tasks.join_next().await {
            resolved.extend(ended.map_err(|error| Wrong::Client(error.to_string()))??);
        }
        assert_eq!(self.left.load(Ordering::SeqCst), 0);
        let mut tally = Tally::default();
        for (at, recorder) in self.recorders.iter().enumerate() {
            let left = patiently!(self.manner, recorder.scan(store, SeqNo::MIN, usize::MAX))?;
            let history = recorder.history();
            history.check().map_err(|violation| {
                let key = recorder.key();
                Wrong::Order(format!("{key}: {violation}\n{:#?}", history.events))
            })?;
            if history.events.len() <= SEARCH_MAX {
                tally.searched += 1;
                if history.search() == Some(false) {
                    let events = history.events;
                    return Err(Wrong::Order(format!("no order explains {events:#?}")));
                }
            }
            for resolved in resolved.iter().filter(|resolved| resolved.key == at) {
                resolved.agrees(&left).map_err(Wrong::Order)?;
            }
            tally.left += left.len();
            tally.events += history.events.len();
            for event in &history.events {
                match event.answer {
                    Answer::Swapped(CaSResult::Committed) => tally.committed += 1,
                    Answer::Unknown => tally.unknown += 1,
                    _ => {}
                }
            }
        }
        for resolved in resolved {
            *match resolved.resolution {
                Resolution::Committed => &mut tally.found_committed,
                Resolution::Lost => &mut tally.found_lost,
                Resolution::Open => &mut tally.found_open,
                Resolution::Unknown => &mut tally.found_unknown,
            } += 1;
        }
        Ok(tally)
    }
}

struct Client<'a> {
    store: SharedConsensus,
    recorders: Arc<Vec<Recorder>>,
    number: usize,
    random: Random,
    plan: Plan,
    manner: Manner,
    signals: &'a Signals,
    resolved: Vec<Resolved>,
}

impl Client<'_> {
    async fn live(mut self) -> Result<Vec<Resolved>, Wrong> {
        let mut heads = vec![None; self.plan.keys];
        let mut turn = 0;
        while turn < self.plan.calls && !self.signals.enough.load(Ordering::SeqCst) {
            let key = self.random.below(self.plan.keys);
            self.call(turn, key, &mut heads[key]).await?;
            let pause = self.random.below(self.plan.pause + 1);
            sleep(Duration::from_millis(pause as u64)).await;
            turn += 1;
        }
        Ok(self.resolved)
    }

    /// One call on one key, of which `head` is what this client believes to be the head.
    async fn call(
        &mut self,
        turn: usize,
        key: usize,
        head: &mut Option<SeqNo>,
    ) -> Result<(), Wrong> {
        let recorders = Arc::clone(&self.recorders);
        let (recorder, store) = (&recorders[key], &self.store);
        match self.random.below(10) {
            0 => {
                if let Ok(found) = recorder.head(store).await {
                    *head = found.map(|found| found.seqno);
                }
            }
            1 => {
                let from =
                    head.map_or(0, |SeqNo(head)| head.saturating_sub(self.random.word() % 5));
                let _ = recorder.scan(store, SeqNo(from), 1 + self.random.below(8)).await;
            }
            2 => {
                let back = self.plan.kept + self.random.word() % 6;
                let below = head.map_or(0, |SeqNo(head)| head.saturating_sub(back));
                let _ = recorder.truncate(store, SeqNo(below)).await;
            }
            _ => return self.append(turn, key, head).await,
        }
        Ok(())
    }

    async fn append(
        &mut self,
        turn: usize,
        key: usize,
        head: &mut Option<SeqNo>,
    ) -> Result<(), Wrong> {
        let recorders = Arc::clone(&self.recorders);
        let (recorder, store) = (&recorders[key], &self.store);
        let expected = *head;
        let seqno = expected.map_or(0, |SeqNo(head)| head + 1) + self.random.word() % 3;
        let data = format!("{}.{turn} after {expected:?}", self.number).into();
        let new = VersionedData { seqno: SeqNo(seqno), data };
        let call = recorder.compare_and_set(store, expected, new.clone());
        let told = if self.random.happens(self.plan.drops) {
            // One who leaves before, in the middle or afterwards.
            let patience = Duration::from_micros(self.random.word() % 3_000);
            timeout(patience, call).await.ok()
        } else {
            Some(call.await)
        };
        if let Some(Err(error)) = &told {
            self.manner.bears(error)?;
        }
        match told {
            Some(Ok(CaSResult::Committed)) => {
                self.signals.committed.fetch_add(1, Ordering::SeqCst);
                *head = Some(new.seqno);
            }
            Some(Ok(CaSResult::ExpectationMismatch { current })) => *head = current,
            None | Some(Err(ConsensusError::Indeterminate(_))) => {
                let manner = self.manner;
                let looking = async || {
                    let asking = async {
                        resolve(store, recorder.key(), expected, &new).await.map(manner.retell)
                    };
                    recorder.resolve(expected, new.clone(), asking).await
                };
                let resolution = patiently!(manner, looking())?;
                self.resolved.push(Resolved { key, expected, new, resolution });
                let found = patiently!(manner, recorder.head(store))?;
                *head = found.map(|found| found.seqno);
            }
            Some(Err(ConsensusError::Determinate(_))) => {
                // A server that is away says so at once.
                sleep(Duration::from_millis(5)).await;
            }
            Some(Err(error)) => {
                return Err(Wrong::Client(format!("a bad call: {}", chain(&error))));
            }
        }
        Ok(())
    }
}
