//! Reads that wait at the same time, as one command.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use larder_core::{Clock as _, SystemClock};
use redis::{Cmd, ToSingleRedisArg, Value};
use tokio::sync::oneshot;
use tokio::time::timeout_at;

use super::{Inner, Link, Place, Trouble};

/// The reads of a link that wait to be sent.
///
/// Nobody waits for company: a read that finds fewer than [`UNDER_WAY_MAX`] others on their way is
/// sent at once, alone. What comes meanwhile waits until one of those has its answer, and is then
/// sent together, as one `MGET`. So a lone caller pays nothing, and the more callers there are, the
/// less each costs. Where values are long, each is asked for by itself. A read is always sent after it was asked for, so it sees every write that was
/// over by then.
#[derive(Debug, Default)]
pub(super) struct Gather {
    state: Mutex<State>,
    /// How long answers are, of late.
    len: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    /// Commands that have no answer yet.
    under_way: usize,
    waiting: Vec<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    place: Vec<u8>,
    answer: oneshot::Sender<Result<Value, Trouble>>,
}

/// So many are sent without waiting for one another: while one is answered, the server has the next.
const UNDER_WAY_MAX: usize = 2;
/// So many reads are one command at most: others get their turn in between.
const TOGETHER_MAX: usize = 128;
/// Answers that are longer come alone: their bytes are the cost, and nobody waits for all of them.
const LEN_MAX: usize = 2 << 10;
/// So many wait at most; who comes then is sent alone.
const WAITING_MAX: usize = 65_536;

impl Link {
    /// What is at `place`, as `GET` answers it, within the time limit.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub(crate) async fn get(&self, place: Place<'_>) -> Result<Value, Trouble> {
        let told = match self.0.gather.enter(place) {
            Entry::Now => {
                let _turn = Turn(&self.0);
                return self.get_alone(place).await;
            }
            Entry::Alone => return self.get_alone(place).await,
            Entry::Later(told) => told,
        };
        let deadline = tokio::time::Instant::from_std(SystemClock.instant() + self.0.limit);
        match timeout_at(deadline, told).await {
            Ok(Ok(answer)) => answer,
            // Who was to send it is gone, with its runtime.
            Ok(Err(_)) => {
                let alone = timeout_at(deadline, self.get_alone(place)).await;
                alone.unwrap_or_else(|_| Err(self.0.late()))
            }
            Err(_) => Err(self.0.late()),
        }
    }

    async fn get_alone(&self, place: impl ToSingleRedisArg) -> Result<Value, Trouble> {
        let answer = self.call(redis::cmd("GET").arg(place)).await?;
        self.0.gather.learn(std::slice::from_ref(&answer));
        Ok(answer)
    }

    async fn get_together(&self, reads: &[Waiting]) -> Result<Vec<Value>, Trouble> {
        let size: usize = reads.iter().map(|read| read.place.len()).sum();
        let mut get = Cmd::with_capacity(1 + reads.len(), size + 8);
        get.arg("MGET");
        for read in reads {
            get.arg(&read.place);
        }
        match self.call(&get).await? {
            Value::Array(answers) if answers.len() == reads.len() => Ok(answers),
            _ => Err(Trouble::Odd { what: "not as many values as keys" }),
        }
    }
}

/// How a read is sent.
enum Entry {
    /// It is this caller's turn.
    Now,
    /// Too many wait already.
    Alone,
    /// With others; its answer will be told.
    Later(oneshot::Receiver<Result<Value, Trouble>>),
}

impl Gather {
    fn enter(&self, place: Place<'_>) -> Entry {
        if self.len.load(Ordering::Relaxed) > LEN_MAX {
            return Entry::Alone;
        }
        let mut state = self.lock();
        if state.under_way < UNDER_WAY_MAX {
            state.under_way += 1;
            Entry::Now
        } else if state.waiting.len() < WAITING_MAX {
            let (answer, told) = oneshot::channel();
            state.waiting.push(Waiting { place: place.to_vec(), answer });
            Entry::Later(told)
        } else {
            Entry::Alone
        }
    }

    /// The reads that are sent next, without those that nobody waits for any more. When there are
    /// none, the turn of the one who asks is over.
    fn take(&self) -> Vec<Waiting> {
        let mut state = self.lock();
        state.waiting.retain(|read| !read.answer.is_closed());
        let fit = TOGETHER_MAX.min(state.waiting.len());
        let rest = state.waiting.split_off(fit);
        let reads = std::mem::replace(&mut state.waiting, rest);
        if reads.is_empty() {
            state.under_way -= 1;
        }
        reads
    }

    fn tell(&self, reads: Vec<Waiting>, answers: Result<Vec<Value>, Trouble>) {
        let answers = match answers {
            Ok(answers) => answers,
            Err(trouble) => {
                for read in reads {
                    let _ = read.answer.send(Err(trouble.clone()));
                }
                return;
            }
        };
        self.learn(&answers);
        for (read, answer) in reads.into_iter().zip(answers) {
            // Who left meanwhile does not need it.
            let _ = read.answer.send(Ok(answer));
        }
    }

    /// Notes how long answers are. A miss tells nothing.
    fn learn(&self, answers: &[Value]) {
        let found = |answer: &Value| match answer {
            Value::BulkString(bytes) => Some(bytes.len()),
            _ => None,
        };
        let (count, sum) = answers
            .iter()
            .filter_map(found)
            .fold((0, 0_usize), |(count, sum), len| (count + 1, sum.saturating_add(len)));
        if let Some(each) = sum.checked_div(count) {
            let before = self.len.load(Ordering::Relaxed);
            // Lost updates of others do not matter.
            self.len.store(before - before / 8 + each / 8, Ordering::Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Ends a turn that nobody takes over: who waits is not told anything, and asks alone.
    fn give_up(&mut self) {
        self.under_way -= 1;
        self.waiting.clear();
    }
}

/// The right of a caller to have a command under way. At its end those who wait get it.
struct Turn<'a>(&'a Arc<Inner>);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let gather = &self.0.gather;
        let mut state = gather.lock();
        if state.waiting.is_empty() {
            state.under_way -= 1;
            return;
        }
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => {
                drop(state);
                let sender = Sender { link: Link(Arc::clone(self.0)), is_done: false };
                runtime.spawn(sender.run());
            }
            Err(_) => state.give_up(),
        }
    }
}

/// Sends what waits, until nothing does. In a task of its own, because callers may leave.
struct Sender {
    link: Link,
    is_done: bool,
}

impl Sender {
    async fn run(mut self) {
        loop {
            let reads = self.link.0.gather.take();
            match &reads[..] {
                [] => {
                    self.is_done = true;
                    return;
                }
                [read] => {
                    let answer = self.link.get_alone(&read.place[..]).await;
                    self.link.0.gather.tell(reads, answer.map(|answer| vec![answer]));
                }
                _ => {
                    let answers = self.link.get_together(&reads).await;
                    self.link.0.gather.tell(reads, answers);
                }
            }
            // Those who just got an answer may ask again, together.
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        // Its runtime has ended.
        if !self.is_done {
            self.link.0.gather.lock().give_up();
        }
    }
}
