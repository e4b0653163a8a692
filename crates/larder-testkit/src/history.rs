//! Histories: what concurrent clients of one key did and were told, and whether one order of it
//! all explains every answer.
//!
//! [`History::check`] takes linear time, because the sequence numbers give the order of the
//! versions away. [`History::search`] tries every order and knows nothing of that; it is a second
//! opinion for short histories.

mod chain;
mod resolved;
mod search;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use larder_core::consensus::Resolution;
use larder_core::{
    CaSResult, Consensus, ConsensusError, Determinate, Effect, Failure, SeqNo, VersionedData,
};

pub use search::SEARCH_MAX;

/// What a client asked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "a checker has to handle every call")]
pub enum Call {
    /// A compare-and-set.
    CompareAndSet {
        /// The head that was expected.
        expected: Option<SeqNo>,
        /// The version to commit; its data has to be unique in the history.
        new: VersionedData,
    },
    /// A read of the head.
    Head,
    /// A scan.
    Scan {
        /// From where.
        from: SeqNo,
        /// How many at most.
        limit: usize,
    },
    /// A truncation.
    Truncate {
        /// Up to where.
        below: SeqNo,
    },
    /// A look at what became of a compare-and-set.
    Resolve {
        /// The head that it expected.
        expected: Option<SeqNo>,
        /// The version that it was to commit.
        new: VersionedData,
    },
}

/// What a client was told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "a checker has to handle every answer")]
pub enum Answer {
    /// The compare-and-set committed, or found another head.
    Swapped(CaSResult),
    /// The head.
    Head(Option<VersionedData>),
    /// The versions of a scan.
    Scanned(Vec<VersionedData>),
    /// How many versions a truncation deleted.
    Truncated(usize),
    /// The truncation would have deleted the head, which was this one (`None`: no data yet).
    AboveHead(Option<SeqNo>),
    /// What became of the compare-and-set. See [`Resolution`] for what each answer rules out.
    Resolved(Resolution),
    /// It did not happen.
    NotApplied,
    /// Nothing is known: an error with effect `Unknown`, or the client was dropped meanwhile.
    Unknown,
}

/// One call of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// What was asked.
    pub call: Call,
    /// What was told.
    pub answer: Answer,
    /// When the call began, in ticks of the recorder.
    pub began: u64,
    /// When it ended; [`u64::MAX`] when its effect may come at any time.
    pub ended: u64,
}

impl Event {
    /// An event, for histories that are made by hand.
    pub const fn new(call: Call, answer: Answer, began: u64, ended: u64) -> Self {
        Self { call, answer, began, ended }
    }
}

/// What all clients of one key did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "a plain list of events")]
pub struct History {
    /// The events, in any order.
    pub events: Vec<Event>,
}

/// Carries out calls on one key and writes down when they began, when they ended and what came.
///
/// A call whose future is dropped stays in the history as [`Answer::Unknown`].
#[derive(Debug)]
pub struct Recorder {
    key: String,
    ticks: AtomicU64,
    events: Mutex<Vec<Event>>,
}

impl Recorder {
    /// A recorder for the calls on `key`.
    pub fn new(key: impl Into<String>) -> Self {
        Self { key: key.into(), ticks: AtomicU64::new(1), events: Mutex::default() }
    }

    /// The key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// A compare-and-set on the key.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn compare_and_set(
        &self,
        store: &impl Consensus,
        expected: Option<SeqNo>,
        new: VersionedData,
    ) -> Result<CaSResult, ConsensusError> {
        let place = self.begin(Call::CompareAndSet { expected, new: new.clone() });
        let answer = store.compare_and_set(&self.key, expected, new).await;
        self.end(place, told(&answer, |result| Answer::Swapped(*result)));
        answer
    }

    /// A read of the head of the key.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn head(
        &self,
        store: &impl Consensus,
    ) -> Result<Option<VersionedData>, ConsensusError> {
        let place = self.begin(Call::Head);
        let answer = store.head(&self.key).await;
        self.end(place, told(&answer, |head| Answer::Head(head.clone())));
        answer
    }

    /// A scan of the key.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn scan(
        &self,
        store: &impl Consensus,
        from: SeqNo,
        limit: usize,
    ) -> Result<Vec<VersionedData>, ConsensusError> {
        let place = self.begin(Call::Scan { from, limit });
        let answer = store.scan(&self.key, from, limit).await;
        self.end(place, told(&answer, |versions| Answer::Scanned(versions.clone())));
        answer
    }

    /// A truncation of the key.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn truncate(
        &self,
        store: &impl Consensus,
        below: SeqNo,
    ) -> Result<usize, ConsensusError> {
        let place = self.begin(Call::Truncate { below });
        let answer = store.truncate(&self.key, below).await;
        self.end(place, told(&answer, |deleted| Answer::Truncated(*deleted)));
        answer
    }

    /// A look at what became of a compare-and-set on the key, which is what `asking` does.
    ///
    /// # Errors
    /// Those of `asking`.
    pub async fn resolve(
        &self,
        expected: Option<SeqNo>,
        new: VersionedData,
        asking: impl Future<Output = Result<Resolution, ConsensusError>>,
    ) -> Result<Resolution, ConsensusError> {
        let place = self.begin(Call::Resolve { expected, new });
        let answer = asking.await;
        self.end(place, told(&answer, |resolution| Answer::Resolved(*resolution)));
        answer
    }

    /// What was recorded so far.
    pub fn history(&self) -> History {
        History { events: self.lock().clone() }
    }

    /// Writes the call down before it is made, so that a dropped future leaves its trace.
    fn begin(&self, call: Call) -> usize {
        let mut events = self.lock();
        let began = self.ticks.fetch_add(1, Ordering::SeqCst);
        events.push(Event { call, answer: Answer::Unknown, began, ended: u64::MAX });
        events.len() - 1
    }

    fn end(&self, place: usize, answer: Answer) {
        let ended = self.ticks.fetch_add(1, Ordering::SeqCst);
        if let (Some(event), false) =
            (self.lock().get_mut(place), matches!(answer, Answer::Unknown))
        {
            event.answer = answer;
            event.ended = ended;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Event>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn told<T>(answer: &Result<T, ConsensusError>, ok: impl FnOnce(&T) -> Answer) -> Answer {
    match answer {
        Ok(answer) => ok(answer),
        Err(ConsensusError::Determinate(Determinate::AboveHead { head, .. })) => {
            Answer::AboveHead(Some(*head))
        }
        Err(ConsensusError::Determinate(Determinate::NoSuchKey)) => Answer::AboveHead(None),
        Err(error) => match error.effect() {
            Effect::NotApplied => Answer::NotApplied,
            Effect::Unknown => Answer::Unknown,
        },
    }
}
