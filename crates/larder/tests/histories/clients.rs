//! What the clients of a run do, and how it is judged.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use larder::clock::random_u64;
use larder::error::chain;
use larder::recipes::{Resolution, resolve};
use larder::{CaSResult, ConsensusError, SeqNo, SharedConsensus, VersionedData};
use larder_testkit::Random;
use larder_testkit::history::{Answer, Recorder, SEARCH_MAX};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Asks until there is an answer, for at most half a minute.
macro_rules! patiently {
    ($ask:expr) => {
        in_time(async {
            loop {
                if let Ok(answer) = $ask.await {
                    break answer;
                }
                sleep(Duration::from_millis(5)).await;
            }
        })
        .await
    };
}

/// How many there are of what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    clients: usize,
    keys: usize,
    calls: usize,
    /// Pauses between calls last up to so many milliseconds, so that a run lasts as long as what goes wrong.
    pause: usize,
}

impl Plan {
    /// Every fourth one is so short that every order can be tried.
    pub(crate) fn of(random: &mut Random, restarts: bool) -> Self {
        let pause = if restarts { 60 } else { 4 };
        if random.below(4) == 0 {
            let keys = 1 + random.below(2);
            return Self { clients: 4, keys, calls: 5 * keys, pause: pause * 4 };
        }
        Self {
            clients: 8 + random.below(25),
            keys: 1 + random.below(8),
            calls: 6 + random.below(15),
            pause,
        }
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
    }

    /// How many calls of unknown outcome were looked into.
    pub(crate) fn resolved(&self) -> usize {
        self.found_committed + self.found_lost + self.found_open + self.found_unknown
    }
}

/// A call of unknown outcome, and what was found out.
struct Resolved {
    key: usize,
    new: VersionedData,
    resolution: Resolution,
}

/// The clients of a run.
pub(crate) struct Clients {
    recorders: Arc<Vec<Recorder>>,
    tasks: JoinSet<Result<Vec<Resolved>, String>>,
    left: Arc<AtomicUsize>,
    ended: Arc<AtomicBool>,
}

impl Clients {
    pub(crate) fn begin(store: &SharedConsensus, plan: Plan, random: &mut Random) -> Self {
        let run = random_u64();
        let recorders = (0..plan.keys).map(|key| Recorder::new(format!("h{run:016x}-{key}")));
        let recorders: Arc<Vec<Recorder>> = Arc::new(recorders.collect());
        let left = Arc::new(AtomicUsize::new(plan.clients));
        let ended = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for number in 0..plan.clients {
            let (store, recorders) = (store.clone(), Arc::clone(&recorders));
            let (left, ended, random) = (Arc::clone(&left), Arc::clone(&ended), random.fork());
            tasks.spawn(async move {
                let client = Client { store, recorders, number, random, resolved: Vec::new() };
                let lived = client.live(plan).await;
                if left.fetch_sub(1, Ordering::SeqCst) == 1 || lived.is_err() {
                    ended.store(true, Ordering::SeqCst);
                }
                lived
            });
        }
        Self { recorders, tasks, left, ended }
    }

    /// Whether the last of them is done.
    pub(crate) fn ended(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.ended)
    }

    /// Waits for all, and judges what they were told.
    pub(crate) async fn judged(mut self, store: &SharedConsensus) -> Result<Tally, String> {
        let mut resolved = Vec::new();
        while let Some(ended) = self.tasks.join_next().await {
            resolved.extend(ended.map_err(|error| error.to_string())??);
        }
        assert_eq!(self.left.load(Ordering::SeqCst), 0);
        let mut tally = Tally::default();
        for (at, recorder) in self.recorders.iter().enumerate() {
            let left = patiently!(recorder.scan(store, SeqNo::MIN, usize::MAX))?;
            let history = recorder.history();
            history.check().map_err(|violation| {
                format!("{}: {violation}\n{:#?}", recorder.key(), history.events)
            })?;
            if history.events.len() <= SEARCH_MAX {
                tally.searched += 1;
                if history.search() == Some(false) {
                    return Err(format!("no order explains {:#?}", history.events));
                }
            }
            for resolved in resolved.iter().filter(|resolved| resolved.key == at) {
                resolved.agrees(&left)?;
            }
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

impl Resolved {
    /// What was found out has to agree with the versions that are there in the end.
    fn agrees(&self, left: &[VersionedData]) -> Result<(), String> {
        let Self { new, resolution, .. } = self;
        let is_there = left.contains(new);
        let is_truncated = left.first().is_some_and(|oldest| new.seqno < oldest.seqno);
        let agrees = match resolution {
            Resolution::Committed => is_there || is_truncated,
            Resolution::Lost => !is_there,
            Resolution::Open | Resolution::Unknown => true,
        };
        if agrees { Ok(()) } else { Err(format!("{resolution:?}, but {new:?} of {left:#?}")) }
    }
}

async fn in_time<T>(asking: impl Future<Output = T>) -> Result<T, String> {
    let late = |_| "the store was not found again".to_owned();
    timeout(Duration::from_secs(30), asking).await.map_err(late)
}

struct Client {
    store: SharedConsensus,
    recorders: Arc<Vec<Recorder>>,
    number: usize,
    random: Random,
    resolved: Vec<Resolved>,
}

impl Client {
    async fn live(mut self, plan: Plan) -> Result<Vec<Resolved>, String> {
        let mut heads = vec![None; plan.keys];
        for turn in 0..plan.calls {
            let key = self.random.below(plan.keys);
            self.call(turn, key, &mut heads[key]).await?;
            let pause = self.random.below(plan.pause + 1);
            sleep(Duration::from_millis(pause as u64)).await;
        }
        Ok(self.resolved)
    }

    /// One call on one key, of which `head` is what this client believes to be the head.
    async fn call(
        &mut self,
        turn: usize,
        key: usize,
        head: &mut Option<SeqNo>,
    ) -> Result<(), String> {
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
                let back = self.random.word() % 6;
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
    ) -> Result<(), String> {
        let recorders = Arc::clone(&self.recorders);
        let (recorder, store) = (&recorders[key], &self.store);
        let expected = *head;
        let seqno = expected.map_or(0, |SeqNo(head)| head + 1) + self.random.word() % 3;
        let data = format!("{}.{turn} after {expected:?}", self.number).into();
        let new = VersionedData { seqno: SeqNo(seqno), data };
        let call = recorder.compare_and_set(store, expected, new.clone());
        let told = if self.random.happens(10) {
            // One who leaves before, in the middle or afterwards.
            let patience = Duration::from_micros(self.random.word() % 3_000);
            timeout(patience, call).await.ok()
        } else {
            Some(call.await)
        };
        match told {
            Some(Ok(CaSResult::Committed)) => *head = Some(new.seqno),
            Some(Ok(CaSResult::ExpectationMismatch { current })) => *head = current,
            None | Some(Err(ConsensusError::Indeterminate(_))) => {
                let resolution = patiently!(resolve(store, recorder.key(), expected, &new))?;
                self.resolved.push(Resolved { key, new, resolution });
                let found = patiently!(recorder.head(store))?;
                *head = found.map(|found| found.seqno);
            }
            Some(Err(ConsensusError::Determinate(_))) => {}
            Some(Err(error)) => return Err(format!("a bad call: {}", chain(&error))),
        }
        Ok(())
    }
}
