//! A store whose calls take their time, fail, lose their answers, and land when nobody waits for them any more.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use larder::{
    BackendError, CaSResult, Consensus, ConsensusError, Determinate, Durability, Effect, KeyStream,
    MemoryConsensus, Retry, SeqNo, VersionedData,
};
use larder_testkit::Random;
use tokio::time::sleep;

#[derive(Clone, Debug)]
pub(crate) struct Shaky(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: MemoryConsensus,
    random: Mutex<Random>,
    percent: u8,
    /// Whether hints of changes come.
    hints: Hints,
    healed: AtomicBool,
    /// Writes that nobody waits for and that have not landed.
    astray: AtomicUsize,
    looks: AtomicUsize,
}

/// What becomes of hints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hints {
    Lost,
    Wrong,
    Mixed,
}

/// What becomes of a call.
enum Fate {
    Done,
    /// It never arrived.
    Refused,
    /// It was done, or never arrived; nobody knows.
    Answerless(bool),
    /// It arrives when its caller has long given up.
    Late(Duration),
}

impl Shaky {
    pub(crate) fn new(seed: u64, percent: u8, hints: Hints) -> Self {
        Self(Arc::new(Inner {
            store: MemoryConsensus::default(),
            random: Mutex::new(Random::seeded(seed)),
            percent,
            hints,
            healed: AtomicBool::new(false),
            astray: AtomicUsize::new(0),
            looks: AtomicUsize::new(0),
        }))
    }

    pub(crate) fn truth(&self) -> &MemoryConsensus {
        &self.0.store
    }

    pub(crate) fn heal(&self) {
        self.0.healed.store(true, Ordering::SeqCst);
    }

    /// How many heads were read.
    pub(crate) fn looks(&self) -> usize {
        self.0.looks.load(Ordering::SeqCst)
    }

    /// Waits until nothing is under way any more.
    pub(crate) async fn settle(&self) {
        while self.0.astray.load(Ordering::SeqCst) > 0 {
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Up to so many milliseconds.
    fn moment(&self, most: usize) -> Duration {
        Duration::from_millis(self.0.random.lock().unwrap().below(most + 1) as u64)
    }

    fn fate(&self) -> Fate {
        let mut random = self.0.random.lock().unwrap();
        if self.0.healed.load(Ordering::SeqCst) || !random.happens(self.0.percent) {
            return Fate::Done;
        }
        match random.below(4) {
            0 => Fate::Refused,
            1 => Fate::Answerless(true),
            2 => Fate::Answerless(false),
            _ => Fate::Late(Duration::from_millis(random.below(200) as u64)),
        }
    }

    /// A read that arrives at some moment, or fails.
    async fn read<T>(
        &self,
        call: impl Future<Output = Result<T, ConsensusError>>,
    ) -> Result<T, ConsensusError> {
        sleep(self.moment(5)).await;
        match self.fate() {
            Fate::Done => {
                let answer = call.await;
                sleep(self.moment(5)).await;
                answer
            }
            Fate::Refused => Err(refused()),
            Fate::Answerless(_) | Fate::Late(_) => Err(answerless()),
        }
    }
}

fn refused() -> ConsensusError {
    let error = BackendError::new("shaky", "call", "refused on purpose");
    Determinate::Backend(error.effect_is(Effect::NotApplied).retry_is(Retry::Later)).into()
}

fn answerless() -> ConsensusError {
    let error = BackendError::new("shaky", "call", "the answer is lost on purpose");
    ConsensusError::Indeterminate(error.retry_is(Retry::Later))
}

impl Consensus for Shaky {
    fn list_keys(&self) -> KeyStream {
        self.0.store.list_keys()
    }

    async fn head(&self, key: &str) -> Result<Option<VersionedData>, ConsensusError> {
        self.0.looks.fetch_add(1, Ordering::SeqCst);
        self.read(self.0.store.head(key)).await
    }

    async fn compare_and_set(
        &self,
        key: &str,
        expected: Option<SeqNo>,
        new: VersionedData,
    ) -> Result<CaSResult, ConsensusError> {
        sleep(self.moment(5)).await;
        match self.fate() {
            Fate::Done => {
                let answer = self.0.store.compare_and_set(key, expected, new).await;
                sleep(self.moment(5)).await;
                answer
            }
            Fate::Refused => Err(refused()),
            Fate::Answerless(arrives) => {
                if arrives {
                    let _ = self.0.store.compare_and_set(key, expected, new).await?;
                }
                Err(answerless())
            }
            Fate::Late(after) => {
                let (inner, key) = (Arc::clone(&self.0), key.to_owned());
                inner.astray.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    sleep(after).await;
                    let _ = inner.store.compare_and_set(&key, expected, new).await;
                    inner.astray.fetch_sub(1, Ordering::SeqCst);
                });
                Err(answerless())
            }
        }
    }

    async fn scan(
        &self,
        key: &str,
        from: SeqNo,
        limit: usize,
    ) -> Result<Vec<VersionedData>, ConsensusError> {
        self.read(self.0.store.scan(key, from, limit)).await
    }

    async fn truncate(&self, key: &str, seqno: SeqNo) -> Result<usize, ConsensusError> {
        self.0.store.truncate(key, seqno).await
    }

    async fn changed(&self, key: &str, seen: Option<SeqNo>) {
        let luck = self.0.random.lock().unwrap().below(3);
        match (self.0.hints, luck) {
            (Hints::Lost, _) | (Hints::Mixed, 0) => std::future::pending().await,
            (Hints::Wrong, _) | (Hints::Mixed, 1) => {}
            (Hints::Mixed, _) => self.0.store.changed(key, seen).await,
        }
    }

    fn durability(&self) -> Durability {
        Durability::Process
    }
}
