//! Read, change, write: until nobody was in between.

use std::time::Duration;

use bytes::Bytes;
use larder_core::clock::Words;
use larder_core::{
    BackendError, CaSResult, Consensus, ConsensusError, Determinate, Effect, Failure as _, Retry,
    SeqNo, VersionedData,
};
use tokio::time::{Instant, sleep};

use super::backoff::Backoff;
use super::{Nonced, Resolution, resolve};

/// What an update came to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "callers must handle both")]
pub enum Updated {
    /// This version was committed, once.
    Committed(VersionedData),
    /// Nothing was to be changed; this is the head that was found.
    Left(Option<VersionedData>),
}

impl Updated {
    /// The head that the update has made, or left.
    pub fn into_head(self) -> Option<VersionedData> {
        match self {
            Self::Committed(head) => Some(head),
            Self::Left(head) => head,
        }
    }
}

/// Changes the data of `key` by `change`, exactly once, whoever else does so at the same time.
///
/// `change` is given the head and answers the new data, or `None` to leave things as they are. It may be asked
/// several times, each time with a newer head, and what it answered before is then certainly not there; so it
/// must do nothing besides. The new version follows the head by one, and the first is number zero.
///
/// It survives others who are faster (it waits a little, longer each time, at random), connections that are lost
/// in the middle (what became of the write is found out, see [`resolve`], and it is repeated with the same bytes
/// while it may still land, so that it lands once), and stores that are away for a while.
///
/// At most 100 attempts within 30 seconds: [`Update`] for other bounds.
///
/// # Errors
/// `NotApplied`: nothing was changed; `Later` when others were faster every time. `Unknown`
/// ([`ConsensusError::Indeterminate`]): the store could not tell to the end; reading tells, later.
///
/// # Cancel safety
/// Dropped, it was applied once or not at all, or may yet be.
///
/// # Examples
/// ```
/// use larder::MemoryConsensus;
/// use larder::recipes::{Nonced, update};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = Nonced::new(MemoryConsensus::default());
/// let more = |head: Option<&larder::VersionedData>| {
///     let stock = head.map_or(0, |head| head.data.len());
///     Some("x".repeat(stock + 1).into())
/// };
/// update(&store, "stock", more).await?;
/// let head = update(&store, "stock", more).await?.into_head().ok_or("no head")?;
/// assert_eq!(head.data, "xx");
/// # Ok(()) }
/// ```
pub async fn update<C: Consensus>(
    store: &Nonced<C>,
    key: &str,
    change: impl FnMut(Option<&VersionedData>) -> Option<Bytes> + Send,
) -> Result<Updated, ConsensusError> {
    Update::new().run(store, key, change).await
}

/// How long an update goes on; see [`update`].
///
/// ```
/// use larder::MemoryConsensus;
/// use larder::recipes::{Nonced, Update};
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::ConsensusError> {
/// let store = Nonced::new(MemoryConsensus::default());
/// let brief = Update::new().attempts(8).within(Duration::from_millis(500));
/// brief.run(&store, "flag", |_| Some("on".into())).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Update {
    attempts: u32,
    within: Duration,
    seed: Option<u64>,
}

impl Update {
    /// The most attempts, unless said otherwise.
    pub const ATTEMPTS: u32 = 100;
    /// How long attempts are made, unless said otherwise.
    pub const WITHIN: Duration = Duration::from_secs(30);
    const PAUSE_LEAST: Duration = Duration::from_millis(2);
    const PAUSE_MOST: Duration = Duration::from_millis(500);

    /// The bounds of [`update`].
    pub const fn new() -> Self {
        Self { attempts: Self::ATTEMPTS, within: Self::WITHIN, seed: None }
    }

    /// At most so many attempts; at least one is made.
    #[must_use]
    pub const fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// No attempt is begun after so long. A call that is on its way is waited for: its backend limits it.
    #[must_use]
    pub const fn within(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }

    /// Pauses as a seed decides, the same ones in each run, so that a simulation can be repeated; of those who meet
    /// each needs one of its own. Default: at random.
    #[must_use]
    pub const fn seeded(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Carries out an [`update`].
    ///
    /// # Errors
    /// As [`update`].
    ///
    /// # Cancel safety
    /// As [`update`].
    pub async fn run<C: Consensus>(
        &self,
        store: &Nonced<C>,
        key: &str,
        mut change: impl FnMut(Option<&VersionedData>) -> Option<Bytes> + Send,
    ) -> Result<Updated, ConsensusError> {
        let until = Instant::now() + self.within;
        let words = self.seed.map_or_else(Words::random, Words::seeded);
        let mut backoff = Backoff::new(Self::PAUSE_LEAST, Self::PAUSE_MOST, words);
        let mut state = State::Fresh;
        let mut last = None;
        for attempt in 0..self.attempts.max(1) {
            if attempt > 0 {
                let pause = backoff.pause();
                if Instant::now() + pause >= until {
                    break;
                }
                sleep(pause).await;
            }
            match turn(store, key, state, &mut change).await {
                Turn::Done(updated) => return Ok(updated),
                Turn::Again(next, why) => {
                    let is_final = why.as_ref().is_some_and(|why| why.retry() == Retry::Never);
                    (state, last) = (next, why);
                    if is_final {
                        break;
                    }
                }
            }
        }
        Err(state.given_up(last))
    }
}

impl Default for Update {
    fn default() -> Self {
        Self::new()
    }
}

/// How far an update has come.
enum State {
    /// Nothing of it is there, nor will be.
    Fresh,
    /// This write may have landed, or may yet land.
    Unsure(Write),
}

/// One write, which may be sent several times: at most one of them lands.
struct Write {
    expected: Option<SeqNo>,
    plain: VersionedData,
    kept: VersionedData,
}

/// What one attempt came to.
enum Turn {
    Done(Updated),
    Again(State, Option<ConsensusError>),
}

/// One attempt: at most two reads to find out about the last one, one to begin anew, and one write.
async fn turn<C: Consensus>(
    store: &Nonced<C>,
    key: &str,
    state: State,
    change: &mut (impl FnMut(Option<&VersionedData>) -> Option<Bytes> + Send),
) -> Turn {
    let (write, was_sent) = match state {
        State::Fresh => match fresh(store, key, change).await {
            Ok(Ok(write)) => (write, false),
            Ok(Err(head)) => return Turn::Done(Updated::Left(head)),
            Err(error) => return Turn::Again(State::Fresh, Some(error)),
        },
        State::Unsure(write) => {
            match resolve(store.inner(), key, write.expected, &write.kept).await {
                Ok(Resolution::Committed) => return Turn::Done(Updated::Committed(write.plain)),
                Ok(Resolution::Lost) => return Turn::Again(State::Fresh, None),
                // The same bytes again: whichever of the two lands, the other one cannot.
                Ok(Resolution::Open) => (write, true),
                Ok(Resolution::Unknown) => {
                    return Turn::Again(State::Unsure(write), Some(unknown(TRUNCATED)));
                }
                Err(error) => return Turn::Again(State::Unsure(write), Some(error)),
            }
        }
    };
    let sent = store.inner().compare_and_set(key, write.expected, write.kept.clone()).await;
    match sent {
        Ok(CaSResult::Committed) => Turn::Done(Updated::Committed(write.plain)),
        // When it was sent before, it may have lost to itself.
        Ok(CaSResult::ExpectationMismatch { .. }) if !was_sent => Turn::Again(State::Fresh, None),
        Ok(CaSResult::ExpectationMismatch { .. }) => Turn::Again(State::Unsure(write), None),
        Err(error @ ConsensusError::Indeterminate(_)) => {
            // However hopeless repeating is, reading may tell.
            Turn::Again(State::Unsure(write), Some(error).filter(is_later))
        }
        Err(error) if was_sent => Turn::Again(State::Unsure(write), Some(error)),
        Err(error) => Turn::Again(State::Fresh, Some(error)),
    }
}

fn is_later(error: &ConsensusError) -> bool {
    error.retry() != Retry::Never
}

/// A write upon the newest head; the head itself when nothing is to be changed.
async fn fresh<C: Consensus>(
    store: &Nonced<C>,
    key: &str,
    change: &mut (impl FnMut(Option<&VersionedData>) -> Option<Bytes> + Send),
) -> Result<Result<Write, Option<VersionedData>>, ConsensusError> {
    let head = store.head(key).await?;
    let Some(data) = change(head.as_ref()) else { return Ok(Err(head)) };
    let expected = head.map(|head| head.seqno);
    let seqno = expected.map_or(SeqNo::MIN, |SeqNo(expected)| SeqNo(expected.saturating_add(1)));
    let plain = VersionedData { seqno, data };
    Ok(Ok(Write { expected, kept: Nonced::<C>::seal(&plain), plain }))
}

impl State {
    /// The error of an update that goes no further.
    fn given_up(self, last: Option<ConsensusError>) -> ConsensusError {
        match (self, last) {
            (Self::Fresh, None) => BEATEN.into(),
            // A read that failed has no effect, whatever it says.
            (Self::Fresh, Some(ConsensusError::Indeterminate(error))) => {
                Determinate::Backend(error.effect_is(Effect::NotApplied)).into()
            }
            (Self::Unsure(_), Some(error)) if error.effect() == Effect::NotApplied => {
                unknown(error)
            }
            (_, Some(error)) => error,
            (Self::Unsure(_), None) => unknown(CUT_OFF),
        }
    }
}

const BEATEN: Determinate = Determinate::Unavailable { reason: "others were faster every time" };
const TRUNCATED: &str = "the versions that would tell were truncated";
const CUT_OFF: &str = "no attempt was left to find out";

fn unknown(why: impl Into<larder_core::BoxError>) -> ConsensusError {
    ConsensusError::Indeterminate(BackendError::new("update", "compare_and_set", why))
}
