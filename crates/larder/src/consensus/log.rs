//! The consensus store over the embedded engine.
//!
//! Each version is a record whose id is the number of its key and its sequence number; one more
//! record holds the key's name, written in one batch with its first version. Who compares and sets
//! a key owns it until the log has answered, so per key there is at most one write on its way; the
//! writes of different keys share one sync. Both answers of a compare-and-set are given only when
//! the version that they rest on is durable.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use larder_core::consensus::{Watchers, check_compare_and_set, check_consensus_key, check_seqno};
use larder_core::{
    CaSResult, Consensus, ConsensusError, Determinate, Durability, KeyStream, SeqNo, VersionedData,
};
use larder_log::{Batch, Log, LogOptions, Outcome, Permit, ReadError, Slot, SubmitError, Ticket};

use crate::driver::log as driver;
use crate::registry::OpenError;

mod keys;

use keys::{KeyState, Keys, Write};

/// A consensus store in a folder of this machine.
///
/// # Guarantees
/// | | |
/// |---|---|
/// | durability | power loss: every committed version is synced before it is answered |
/// | consistency | linearizable per store, on one machine |
/// | time limits | none of its own: a call waits as long as the disk does |
/// | limits | one process at a time; keys and sequence numbers are held in memory |
///
/// A folder with damaged records is refused at open: a store that forgot its newest version would
/// let a second writer win.
#[derive(Clone)]
pub struct LogConsensus {
    log: Log,
    keys: Arc<Keys>,
    watchers: Arc<Watchers>,
}

impl LogConsensus {
    /// Opens the store in the folder `path`, creating it if it is missing; blocks while it reads.
    ///
    /// # Errors
    /// [`OpenError`]; nothing was changed. [`OpenError::Damaged`] when a version cannot be trusted.
    pub fn open(path: &Path, options: LogOptions) -> Result<Self, OpenError> {
        let place = path.display().to_string();
        Self::with_log(driver::open(path, options, &[driver::CONSENSUS])?, &place)
    }

    /// A store on a log that is open already, on whatever disk; `place` names it in errors.
    ///
    /// # Errors
    /// [`OpenError::Damaged`] when a version cannot be trusted.
    pub fn with_log(log: Log, place: &str) -> Result<Self, OpenError> {
        let damaged = |what| OpenError::Damaged { place: place.to_owned(), what };
        let keys = Keys::recover(&log).map_err(damaged)?;
        Ok(Self { log, keys: Arc::new(keys), watchers: Arc::default() })
    }

    /// Waits until no write is on its way for the key, then lets `decide` start one or answer.
    ///
    /// Decisions about one key are taken one after the other, each on the outcome of the one
    /// before. A caller that goes away leaves its ticket behind, and the next one waits for it.
    async fn decide<T>(
        &self,
        state: &KeyState,
        permit: Permit,
        decide: impl FnOnce(&keys::Versions) -> Result<Decision<T>, ConsensusError>,
    ) -> Result<Decided<T>, ConsensusError> {
        loop {
            let ahead = {
                let mut inner = state.lock();
                inner.settle();
                if inner.is_forgotten() {
                    return Ok(Decided::Forgotten);
                }
                match inner.pending() {
                    Some(ticket) => ticket,
                    None => match decide(inner.versions())? {
                        Decision::Answer(answer) => return Ok(Decided::Answer(answer)),
                        Decision::Write(batch, write) => {
                            let power = larder_log::Durability::Power;
                            let submitted = self.log.submit_admitted(batch, power, permit);
                            let ticket = submitted.map_err(refused)?;
                            inner.start(ticket.clone(), write);
                            return Ok(Decided::Started(ticket));
                        }
                    },
                }
            };
            ahead.await;
        }
    }

    /// Waits for room in the engine's write budget.
    async fn admitted(&self, bytes: u64) -> Result<Permit, ConsensusError> {
        self.log.admission(bytes).await.map_err(refused)
    }

    /// Makes `new` the head of one key; `None` when the key was forgotten meanwhile.
    async fn append(
        &self,
        key: &str,
        state: &KeyState,
        permit: Permit,
        expected: Option<SeqNo>,
        new: &VersionedData,
    ) -> Result<Option<CaSResult>, ConsensusError> {
        let decided = self.decide(state, permit, |versions| {
            let current = versions.last().copied();
            if current != expected {
                return Ok(Decision::Answer(CaSResult::ExpectationMismatch { current }));
            }
            let mut batch = Batch::new();
            if current.is_none() {
                let name = Bytes::copy_from_slice(key.as_bytes());
                batch.put(keys::name_slot(state.number()), name);
            }
            batch.put(keys::version_slot(state.number(), new.seqno), new.data.clone());
            Ok(Decision::Write(batch, Write::Append(new.seqno)))
        });
        match decided.await? {
            Decided::Answer(answer) => Ok(Some(answer)),
            Decided::Forgotten => Ok(None),
            Decided::Started(ticket) => {
                // Now and not when it is durable: its caller may have gone by then.
                self.watchers.wake(key);
                let outcome = ticket.await;
                state.lock().settle();
                written("compare_and_set", outcome).map(|()| Some(CaSResult::Committed))
            }
        }
    }

    fn read(&self, number: u64, seqno: SeqNo) -> Result<Option<VersionedData>, ConsensusError> {
        match self.log.get(keys::version_slot(number, seqno)) {
            Ok(data) => Ok(data.map(|data| VersionedData { seqno, data })),
            Err(error) => Err(unreadable(error)),
        }
    }

    /// Reads the versions that `pick` names; again if a truncation took one away meanwhile.
    fn read_slice(
        &self,
        state: &KeyState,
        pick: impl Fn(&keys::Versions) -> Vec<SeqNo>,
    ) -> Result<Vec<VersionedData>, ConsensusError> {
        const ATTEMPTS: usize = 1_000;
        for _ in 0..ATTEMPTS {
            let seqnos = {
                let mut inner = state.lock();
                inner.settle();
                pick(inner.versions())
            };
            let read = seqnos.iter().map(|seqno| self.read(state.number(), *seqno));
            if let Some(slice) = read.collect::<Result<Option<Vec<_>>, _>>()? {
                return Ok(slice);
            }
        }
        Err(Determinate::Unavailable { reason: "the key is truncated all the time" }.into())
    }
}

/// What to do about a key, decided on its newest durable state.
enum Decision<T> {
    Answer(T),
    Write(Batch, Write),
}

/// What became of a decision.
enum Decided<T> {
    Answer(T),
    Started(Ticket),
    /// The key was dropped for lack of versions: look it up again.
    Forgotten,
}

impl Consensus for LogConsensus {
    fn list_keys(&self) -> KeyStream {
        KeyStream::from_keys(self.keys.committed())
    }

    async fn head(&self, key: &str) -> Result<Option<VersionedData>, ConsensusError> {
        check_consensus_key(key)?;
        let Some(state) = self.keys.find(key) else { return Ok(None) };
        let head =
            self.read_slice(&state, |versions| versions.last().copied().into_iter().collect());
        Ok(head?.pop())
    }

    async fn compare_and_set(
        &self,
        key: &str,
        expected: Option<SeqNo>,
        new: VersionedData,
    ) -> Result<CaSResult, ConsensusError> {
        check_compare_and_set(key, expected, &new)?;
        let bytes = u64::try_from(new.data.len()).unwrap_or(u64::MAX);
        let bytes_max = self.log.options().max_payload_bytes;
        if bytes > bytes_max {
            return Err(Determinate::TooLarge { bytes, bytes_max }.into());
        }
        let written = Batch::put_bytes(new.data.len()) + Batch::put_bytes(key.len());
        loop {
            // Before the key is entered: a caller who goes away while it waits leaves nothing.
            let permit = self.admitted(written).await?;
            let state = match (self.keys.find(key), expected) {
                (Some(state), _) => state,
                (None, None) => self.keys.enter(key),
                (None, Some(_)) => return Ok(CaSResult::ExpectationMismatch { current: None }),
            };
            let answer = self.append(key, &state, permit, expected, &new).await;
            if answer.is_err() {
                self.keys.forget_if_empty(key);
            }
            if let Some(answer) = answer? {
                return Ok(answer);
            }
        }
    }

    async fn scan(
        &self,
        key: &str,
        from: SeqNo,
        limit: usize,
    ) -> Result<Vec<VersionedData>, ConsensusError> {
        check_consensus_key(key)?;
        check_seqno(from)?;
        let Some(state) = self.keys.find(key) else { return Ok(Vec::new()) };
        self.read_slice(&state, |versions| versions.range(from..).copied().take(limit).collect())
    }

    async fn truncate(&self, key: &str, seqno: SeqNo) -> Result<usize, ConsensusError> {
        check_consensus_key(key)?;
        check_seqno(seqno)?;
        let state = self.keys.find(key).ok_or(Determinate::NoSuchKey)?;
        let mut count = 0;
        let doomed = state.lock().versions().range(..seqno).count();
        let permit = self.admitted(Batch::delete_bytes() * doomed as u64).await?;
        let decided = self.decide(&state, permit, |versions| {
            let head = *versions.last().ok_or(Determinate::NoSuchKey)?;
            if seqno > head {
                return Err(Determinate::AboveHead { seqno, head }.into());
            }
            let doomed: Vec<SeqNo> = versions.range(..seqno).copied().collect();
            if doomed.is_empty() {
                return Ok(Decision::Answer(()));
            }
            count = doomed.len();
            let mut batch = Batch::new();
            for version in &doomed {
                batch.delete(keys::version_slot(state.number(), *version));
            }
            Ok(Decision::Write(batch, Write::Truncate { below: seqno }))
        });
        match decided.await? {
            Decided::Answer(()) => Ok(0),
            // Only a key without versions is forgotten.
            Decided::Forgotten => Err(Determinate::NoSuchKey.into()),
            Decided::Started(ticket) => {
                let outcome = ticket.await;
                state.lock().settle();
                written("truncate", outcome).map(|()| count)
            }
        }
    }

    /// Exact within this process, which is the only one that has the folder open: it returns when the head has
    /// moved past `seen`.
    async fn changed(&self, key: &str, seen: Option<SeqNo>) {
        loop {
            // What is on its way may move the head.
            let state = || self.keys.find(key);
            let is_moving = || state().is_some_and(|state| state.lock().pending().is_some());
            let has_moved = || state().is_some_and(|state| state.lock().head() > seen);
            self.watchers.wait(key, || is_moving() || has_moved()).await;
            if let Some(ticket) = state().and_then(|state| state.lock().pending()) {
                ticket.await;
            }
            if has_moved() {
                return;
            }
        }
    }

    fn durability(&self) -> Durability {
        Durability::Power
    }
}

impl fmt::Debug for LogConsensus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogConsensus").field("log", &self.log).finish_non_exhaustive()
    }
}

fn written(operation: &'static str, outcome: Outcome) -> Result<(), ConsensusError> {
    let error = match outcome {
        Outcome::Done { .. } => return Ok(()),
        Outcome::Failed(error) => error,
        Outcome::Annulled => {
            return Err(ConsensusError::Indeterminate(driver::annulled(operation)));
        }
    };
    let backend = driver::write_error(operation, &error);
    Err(match driver::effect(&error) {
        larder_core::Effect::NotApplied => Determinate::Backend(backend).into(),
        larder_core::Effect::Unknown => ConsensusError::Indeterminate(backend),
    })
}

/// What a refusal at the door means: nothing was written, in every case.
fn refused(error: SubmitError) -> ConsensusError {
    let reason = match error {
        SubmitError::Full => "too many writes are on their way",
        SubmitError::Closed => "it is shut down",
        SubmitError::Unhealthy(reason) | SubmitError::NoSpace(reason) => reason,
        SubmitError::TooManyEntries { .. } => "it holds as many entries as it may",
        SubmitError::TooManyBytes { .. } => "it holds as many bytes as it may",
        other => return Determinate::Backend(driver::harmless("compare_and_set", other)).into(),
    };
    Determinate::Unavailable { reason }.into()
}

/// A read has no effect, whatever went wrong.
fn unreadable(error: ReadError) -> ConsensusError {
    Determinate::Backend(driver::harmless("read", error)).into()
}

fn slot(number: u64, below: u64) -> Slot {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    id[8..].copy_from_slice(&below.to_be_bytes());
    Slot { namespace: driver::CONSENSUS, id }
}
