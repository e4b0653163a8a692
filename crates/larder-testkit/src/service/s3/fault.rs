//! What an endpoint does wrong on purpose.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use crate::Random;

/// What becomes of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum S3Fault {
    /// It is refused, and not carried out.
    Refused(S3Refusal),
    /// It is carried out, and the answer says that it was refused.
    DoneButRefused(S3Refusal),
    /// The connection ends before the request is carried out.
    RequestLost,
    /// The request is carried out, and the connection ends without an answer.
    ReplyLost,
    /// It is carried out after a while.
    Slow(Duration),
    /// Nothing happens, not even an end of the connection, until [`calm`](super::S3Server::calm); then it
    /// is carried out.
    Hangs,
    /// The connection ends, and the request is carried out when
    /// [`let_late_ones_come`](super::S3Server::let_late_ones_come) says so.
    Late,
}

/// How a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum S3Refusal {
    /// 409: another request on the same object is under way.
    Conflict,
    /// 412: the condition does not hold.
    Precondition,
    /// 500: nobody knows why.
    Internal,
    /// 503: too many requests.
    SlowDown,
    /// 503 of something in between, which does not say more.
    Unavailable,
    /// 429: too many requests.
    TooMany,
    /// 403: not with these credentials.
    Denied,
    /// 501: the store does not know that.
    NotImplemented,
}

impl S3Refusal {
    /// Its status and its code in the body, if it has one.
    pub(super) const fn status_and_code(self) -> (u16, Option<&'static str>) {
        match self {
            Self::Conflict => (409, Some("ConditionalRequestConflict")),
            Self::Precondition => (412, Some("PreconditionFailed")),
            Self::Internal => (500, Some("InternalError")),
            Self::SlowDown => (503, Some("SlowDown")),
            Self::Unavailable => (503, None),
            Self::TooMany => (429, None),
            Self::Denied => (403, Some("AccessDenied")),
            Self::NotImplemented => (501, Some("NotImplemented")),
        }
    }
}

/// A store that does not do what S3 does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum S3Quirk {
    /// It carries out a PUT whatever ETag it names.
    IgnoresIfMatch,
    /// It carries out a PUT that may only create an object, whether there is one or not.
    IgnoresIfNoneMatch,
    /// It looks whether the condition holds, and writes later: two can win.
    LooksThenWrites,
}

/// What was said about requests to come.
#[derive(Debug, Default)]
pub(super) struct Faults {
    state: Mutex<State>,
    /// Changed by [`Faults::calm`].
    calmed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    puts: VecDeque<S3Fault>,
    gets: VecDeque<S3Fault>,
    random: Option<(u8, Random)>,
    quirk: Option<S3Quirk>,
    count: u64,
    late: Vec<Late>,
}

/// A request that was received and is not carried out yet.
#[derive(Debug)]
pub(super) struct Late {
    go: oneshot::Sender<()>,
    status: oneshot::Receiver<u16>,
}

/// The other end of it.
pub(super) type Waiting = (oneshot::Receiver<()>, oneshot::Sender<u16>);

impl Late {
    /// Has it carried out, and waits for that.
    pub(super) async fn come(self) -> Result<u16, oneshot::error::RecvError> {
        // Its server may have been killed.
        let _ = self.go.send(());
        self.status.await
    }
}

impl Faults {
    pub(super) fn next_put(&self, fault: S3Fault) {
        self.lock().puts.push_back(fault);
    }

    pub(super) fn next_get(&self, fault: S3Fault) {
        self.lock().gets.push_back(fault);
    }

    pub(super) fn disturb(&self, percent: u8, seed: u64) {
        self.lock().random = Some((percent, Random::seeded(seed)));
    }

    pub(super) fn calm(&self) {
        let mut state = self.lock();
        state.random = None;
        state.puts.clear();
        state.gets.clear();
        self.calmed.send_modify(|turn| *turn += 1);
    }

    pub(super) fn behave_as(&self, quirk: Option<S3Quirk>) {
        self.lock().quirk = quirk;
    }

    pub(super) fn quirk(&self) -> Option<S3Quirk> {
        self.lock().quirk
    }

    pub(super) fn count(&self) -> u64 {
        self.lock().count
    }

    /// Those that are late, each once.
    pub(super) fn late(&self) -> Vec<Late> {
        std::mem::take(&mut self.lock().late)
    }

    /// Enlists a request that is to be carried out later.
    pub(super) fn enlist(&self) -> Waiting {
        let (go, going) = oneshot::channel();
        let (told, status) = oneshot::channel();
        self.lock().late.push(Late { go, status });
        (going, told)
    }

    /// Waits until requests that hang are let go.
    pub(super) async fn until_calm(&self) {
        let mut calmed = self.calmed.subscribe();
        // The sender lives as long as this does.
        let _ = calmed.changed().await;
    }

    /// What happens to the next request.
    pub(super) fn next(&self, is_put: bool) -> Option<S3Fault> {
        let mut state = self.lock();
        let queue = if is_put { &mut state.puts } else { &mut state.gets };
        let fault = queue.pop_front().or_else(|| {
            let (percent, random) = state.random.as_mut()?;
            random.happens(*percent).then(|| any(random, is_put))
        });
        state.count += u64::from(fault.is_some());
        fault
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of all faults that end by themselves.
fn any(random: &mut Random, is_put: bool) -> S3Fault {
    use S3Refusal::{Conflict, Internal, Precondition, SlowDown, Unavailable};
    let refusals = [SlowDown, Internal, Unavailable, Conflict, Precondition];
    // A condition fails only where there is one.
    let refusal = refusals[random.below(if is_put { 5 } else { 3 })];
    match random.below(8) {
        0 | 1 => S3Fault::Refused(refusal),
        2 | 3 => S3Fault::DoneButRefused(refusal),
        4 => S3Fault::RequestLost,
        5 => S3Fault::ReplyLost,
        6 => S3Fault::Slow(Duration::from_millis(random.word() % 30)),
        _ => S3Fault::Late,
    }
}
