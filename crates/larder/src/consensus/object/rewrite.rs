//! Replacing the object of a key, so that at the end it is known who did, if it can be known.
//!
//! A PUT names the state that it replaces, so of all that name one state at most one is carried out, whenever
//! it comes, and a state never comes back: each has a number that only rises. Whoever reads the object later sees
//! in the list of writers who made the next state. That settles every PUT without an answer, and every answer
//! that the condition does not hold, which may be that to our own PUT, sent twice by something in between:
//!
//! | the object is | the PUT |
//! |---|---|
//! | in the state that it names | may yet be carried out: sent again as it is, so that one of the two is |
//! | in a later one, and the one that follows has our nonce | was carried out |
//! | in a later one, and somebody else made the one that follows | never will be |
//! | so much later that it is forgotten who made it | may have been |

use std::time::{Duration, Instant};

use bytes::Bytes;
use larder_core::clock::random_u64;
use larder_core::{
    BackendError, Clock as _, ConsensusError, Determinate, Effect, Retry, SystemClock,
};

use super::name;
use super::record::{Nonce, Record, Unreadable};
use crate::driver::object::{Store, Tag, Trouble};

/// The largest object that is read, whoever has written it.
const READ_MAX: u64 = 513 << 20;

/// The record of a key as it was when it was read.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) record: Record,
    pub(super) tag: Tag,
}

/// What is to be done about a state.
pub(super) enum Step<T> {
    /// Nothing.
    Answer(T),
    /// This record takes its place, not signed yet; then the answer is that.
    Replace(Record, T),
}

/// A PUT, which is sent as often as it takes.
struct Attempt<T> {
    /// The state that it names; `None`: there is no object.
    tag: Option<Tag>,
    /// The number of the state that it makes.
    number: u64,
    nonce: Nonce,
    bytes: Bytes,
    answer: T,
    /// Why it is not known whether it was carried out, if it was ever sent.
    doubt: Option<Trouble>,
}

/// What a state says about an attempt.
enum Verdict {
    Done,
    Never,
    Open,
    Forgotten,
    /// The object is not there any more.
    Gone,
}

/// Reads the record of a key; again when that failed for what passes.
pub(super) async fn read(
    store: &Store,
    key: &str,
    until: Instant,
) -> Result<Option<State>, Trouble> {
    let state = read_named(store, &name::of(key), until).await?;
    match state {
        Some(State { record, .. }) if record.key != key => {
            Err(Trouble::Damaged { what: "it is that of another key" })
        }
        state => Ok(state),
    }
}

/// Reads the record in an object, whatever its key.
pub(super) async fn read_named(
    store: &Store,
    name: &str,
    until: Instant,
) -> Result<Option<State>, Trouble> {
    let mut pause = Pause::new();
    loop {
        match store.get(name, READ_MAX, until).await {
            Ok(None) => return Ok(None),
            Ok(Some(found)) => {
                let record = Record::decode(&found.bytes).map_err(unreadable)?;
                return Ok(Some(State { record, tag: found.tag }));
            }
            Err(trouble) => {
                if trouble.retry() == Retry::Never || !pause.take(until).await {
                    return Err(trouble);
                }
            }
        }
    }
}

const fn unreadable(why: Unreadable) -> Trouble {
    match why {
        Unreadable::Newer(_) => Trouble::Damaged { what: "another release has written it" },
        Unreadable::Damaged(what) => Trouble::Damaged { what },
    }
}

/// Does what `decide` says about the state of a key, until it is done or there is no more time.
pub(super) async fn rewrite<T: Clone>(
    store: &Store,
    operation: &'static str,
    key: &str,
    until: Instant,
    mut decide: impl FnMut(Option<&Record>) -> Result<Step<T>, ConsensusError>,
) -> Result<T, ConsensusError> {
    let name = name::of(key);
    let mut attempt: Option<Attempt<T>> = None;
    let mut pause = Pause::new();
    loop {
        let doubt = attempt.as_ref().and_then(|attempt| attempt.doubt.clone());
        let state = match read(store, key, until).await {
            Ok(state) => state,
            Err(trouble) => return Err(failed(doubt, trouble, operation)),
        };
        let step = match attempt.take() {
            None => decide(state.as_ref().map(|state| &state.record))?.onto(state),
            Some(attempt) => match attempt.judge(state.as_ref()) {
                Verdict::Done => return Ok(attempt.answer),
                Verdict::Open => Ok(attempt),
                Verdict::Never => decide(state.as_ref().map(|state| &state.record))?.onto(state),
                Verdict::Forgotten => return Err(unsettled(Trouble::Overtaken, operation)),
                Verdict::Gone => return Err(unsettled(GONE, operation)),
            },
        };
        let mut current = match step {
            Ok(current) => current,
            Err(answer) => return Ok(answer),
        };
        match store.put(&name, current.bytes.clone(), current.tag.as_ref(), until).await {
            Ok(_) => return Ok(current.answer),
            Err(trouble) => {
                let goes_on = trouble.retry() == Retry::Later;
                if trouble.effect() == Effect::Unknown {
                    current.doubt = Some(trouble.clone());
                }
                if !goes_on || !pause.take(until).await {
                    return Err(failed(current.doubt, trouble, operation));
                }
                attempt = Some(current);
            }
        }
    }
}

impl<T> Step<T> {
    /// The PUT that replaces a state, or the answer if there is nothing to replace.
    fn onto(self, state: Option<State>) -> Result<Attempt<T>, T> {
        let (mut record, answer) = match self {
            Self::Answer(answer) => return Err(answer),
            Self::Replace(record, answer) => (record, answer),
        };
        let nonce = random_u64();
        record.sign(nonce);
        Ok(Attempt {
            tag: state.map(|state| state.tag),
            number: record.writes,
            nonce,
            bytes: record.encode(),
            answer,
            doubt: None,
        })
    }
}

impl<T> Attempt<T> {
    fn judge(&self, state: Option<&State>) -> Verdict {
        let Some(State { record, .. }) = state else {
            // Either it was to be the first, or somebody has removed the object by hand.
            return if self.tag.is_none() { Verdict::Open } else { Verdict::Gone };
        };
        if record.writes < self.number {
            return Verdict::Open;
        }
        match record.writer(self.number) {
            Some(nonce) if nonce == self.nonce => Verdict::Done,
            Some(_) => Verdict::Never,
            None => Verdict::Forgotten,
        }
    }
}

/// The contract removes no object of a key.
const GONE: Trouble = Trouble::Odd { what: "the object of a key with data has been removed" };

/// The error of a write of which nobody will ever know from its object what became of it.
fn unsettled(trouble: Trouble, operation: &'static str) -> ConsensusError {
    ConsensusError::Indeterminate(trouble.in_doubt(operation))
}

/// The error of a call that changes something, `doubt` being what befell its PUT.
fn failed(doubt: Option<Trouble>, trouble: Trouble, operation: &'static str) -> ConsensusError {
    match doubt {
        None => Determinate::Backend(trouble.in_read(operation)).into(),
        Some(doubt) => ConsensusError::Indeterminate(doubt.in_doubt(operation)),
    }
}

/// The error of a call that changes nothing.
pub(super) fn unread(trouble: Trouble, operation: &'static str) -> ConsensusError {
    let error: BackendError = trouble.in_read(operation);
    Determinate::Backend(error).into()
}

/// Longer and longer pauses, none of which is like that of somebody else.
pub(super) struct Pause {
    next: Duration,
}

impl Pause {
    const FIRST: Duration = Duration::from_millis(10);
    const MAX: Duration = Duration::from_secs(1);

    pub(super) const fn new() -> Self {
        Self { next: Self::FIRST }
    }

    /// Waits, unless there would be no time left then; whether it did.
    pub(super) async fn take(&mut self, until: Instant) -> bool {
        let nanos = u64::try_from(self.next.as_nanos()).unwrap_or(u64::MAX);
        let pause = self.next / 2 + Duration::from_nanos(random_u64() % (nanos / 2 + 1));
        self.next = (self.next * 2).min(Self::MAX);
        if SystemClock.instant() + pause >= until {
            return false;
        }
        tokio::time::sleep(pause).await;
        true
    }
}
