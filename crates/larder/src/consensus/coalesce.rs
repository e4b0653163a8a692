//! Many callers, few statements.
//!
//! A call that finds a free place is sent alone, at once, by its caller. While all places are taken, calls
//! wait, and whoever is done takes as many of them as one statement holds: the more there is to do, the
//! larger the batches, and no timer decides anything. Some of the places are for full statements alone: one
//! for a handful of calls beside others costs the server more than the handful waits. Jobs with the same owner are never on their way
//! together, and keep their order.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use larder_core::{Clock as _, SystemClock};
use tokio::sync::oneshot;
use tokio::time::timeout_at;

/// What is to be done, one of many.
pub(super) trait Job: Clone + Send + Sync + 'static {
    /// What becomes of it.
    type Answer: Send + 'static;
    /// What its statement needs.
    type Tools: fmt::Debug + Send + Sync + 'static;

    /// Which statement it needs: jobs of different lanes are not put together.
    fn lane(&self) -> usize;

    /// Whose it is, if that one may have only one on its way.
    fn owner(&self) -> Option<&Arc<str>>;

    /// About how much is sent for it.
    fn bytes(&self) -> usize;

    /// Does jobs of one lane, and answers each in order.
    fn run(tools: &Self::Tools, jobs: &[Self]) -> impl Future<Output = Vec<Self::Answer>> + Send;
}

/// The lanes that there may be.
const LANES: usize = 2;

/// How much may wait and how much is put together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Statements on their way at once.
    pub(super) statements: usize,
    /// As many of them are sent whatever they hold; one more only when it is full. So calls that come by the
    /// hundred make few large statements, which cost the server a fraction, and few calls do not wait.
    pub(super) eager: usize,
    /// Jobs in one statement.
    pub(super) jobs: usize,
    /// Bytes in one statement, unless a single job is larger.
    pub(super) bytes: usize,
    /// Jobs that wait.
    pub(super) waiting: usize,
    /// Bytes of the jobs that wait.
    pub(super) waiting_bytes: usize,
    /// How long a caller waits.
    pub(super) limit: Duration,
}

/// Why a job has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unanswered {
    /// Too many wait already: it was not begun.
    Full,
    /// The time limit passed before it was begun.
    NotBegun,
    /// It was on its way when the time limit passed, or when what carried it ended.
    Begun,
}

/// Puts jobs together.
pub(super) struct Coalescer<J: Job>(Arc<Inner<J>>);

struct Inner<J: Job> {
    tools: J::Tools,
    bounds: Bounds,
    state: Mutex<State<J>>,
}

struct State<J: Job> {
    running: usize,
    /// Jobs that may be sent, by lane.
    ready: [VecDeque<Waiting<J>>; LANES],
    /// The lane that is looked at first next time.
    next: usize,
    /// For each owner with a job that is ready or on its way: those that have to wait for it.
    owned: HashMap<Arc<str>, VecDeque<Waiting<J>>>,
    waiting: usize,
    waiting_bytes: usize,
}

struct Waiting<J: Job> {
    job: J,
    stage: Arc<AtomicU8>,
    answer: oneshot::Sender<J::Answer>,
}

/// Nobody has sent the job.
const WAITS: u8 = 0;
/// It is being sent.
const BEGUN: u8 = 1;
/// Its caller has gone.
const LEFT: u8 = 2;

impl<J: Job> Coalescer<J> {
    pub(super) fn new(tools: J::Tools, bounds: Bounds) -> Self {
        let state = State {
            running: 0,
            ready: std::array::from_fn(|_| VecDeque::new()),
            next: 0,
            owned: HashMap::new(),
            waiting: 0,
            waiting_bytes: 0,
        };
        Self(Arc::new(Inner { tools, bounds, state: Mutex::new(state) }))
    }

    pub(super) fn tools(&self) -> &J::Tools {
        &self.0.tools
    }

    /// Has the job done, alone or with others.
    ///
    /// # Cancel safety
    /// Dropped while it waits, nothing is done; dropped while it is on its way, it may be done.
    pub(super) async fn submit(&self, job: J) -> Result<J::Answer, Unanswered> {
        let inner = &self.0;
        let waits = {
            let mut state = inner.lock();
            let is_owned = job.owner().is_some_and(|owner| state.owned.contains_key(owner));
            if state.running < inner.bounds.eager && state.is_drained() && !is_owned {
                state.begin(&job);
                None
            } else {
                let waits = state.wait(&inner.bounds, job.clone())?;
                let has_place = state.running < state.places(&inner.bounds);
                drop(state);
                if has_place {
                    inner.pump();
                }
                Some(waits)
            }
        };
        let Some((stage, answer)) = waits else {
            let jobs = [job];
            let on_its_way = OnItsWay { inner: Arc::clone(inner), jobs: &jobs };
            let mut answers = J::run(&inner.tools, &jobs).await;
            drop(on_its_way);
            return answers.pop().ok_or(Unanswered::Begun);
        };
        let _leaves = Leaves(Arc::clone(&stage));
        let deadline = tokio::time::Instant::from_std(SystemClock.instant() + inner.bounds.limit);
        match timeout_at(deadline, answer).await {
            Ok(answer) => answer.map_err(|_| Unanswered::Begun),
            Err(_) if stage.swap(LEFT, Ordering::AcqRel) == WAITS => Err(Unanswered::NotBegun),
            Err(_) => Err(Unanswered::Begun),
        }
    }
}

impl<J: Job> Inner<J> {
    /// Sends what waits, as far as there is room.
    fn pump(self: &Arc<Self>) {
        // Without a runtime nobody can send; whoever comes next does.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        loop {
            let batch = self.lock().take(&self.bounds);
            if batch.is_empty() {
                return;
            }
            let inner = Arc::clone(self);
            runtime.spawn(async move {
                let (jobs, callers): (Vec<_>, Vec<_>) =
                    batch.into_iter().map(|waiting| (waiting.job, waiting.answer)).unzip();
                let on_its_way = OnItsWay { inner: Arc::clone(&inner), jobs: &jobs };
                let answers = J::run(&inner.tools, &jobs).await;
                // Before the callers go on: what they send next should find its place.
                drop(on_its_way);
                for (caller, answer) in callers.into_iter().zip(answers) {
                    // One that has gone needs no answer.
                    let _ = caller.send(answer);
                }
            });
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<J>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<J: Job> State<J> {
    /// Notes a job that its caller sends.
    fn begin(&mut self, job: &J) {
        self.running += 1;
        if let Some(owner) = job.owner() {
            self.owned.insert(Arc::clone(owner), VecDeque::new());
        }
    }

    /// Lets a job wait.
    fn wait(
        &mut self,
        bounds: &Bounds,
        job: J,
    ) -> Result<(Arc<AtomicU8>, oneshot::Receiver<J::Answer>), Unanswered> {
        let bytes = job.bytes();
        if self.waiting >= bounds.waiting || self.waiting_bytes + bytes > bounds.waiting_bytes {
            return Err(Unanswered::Full);
        }
        self.waiting += 1;
        self.waiting_bytes += bytes;
        let (answer, receiver) = oneshot::channel();
        let stage = Arc::new(AtomicU8::new(WAITS));
        let lane = job.lane();
        let queue = match job.owner() {
            None => &mut self.ready[lane],
            Some(owner) => {
                if let Some(behind) = self.owned.get_mut(owner) {
                    behind
                } else {
                    self.owned.insert(Arc::clone(owner), VecDeque::new());
                    &mut self.ready[lane]
                }
            }
        };
        queue.push_back(Waiting { job, stage: Arc::clone(&stage), answer });
        Ok((stage, receiver))
    }

    /// How many statements may be on their way now.
    fn places(&self, bounds: &Bounds) -> usize {
        let is_full = self.ready.iter().any(|lane| lane.len() >= bounds.jobs);
        if is_full { bounds.statements } else { bounds.eager }
    }

    /// Takes what one more statement can hold; nothing when there is no room for one.
    fn take(&mut self, bounds: &Bounds) -> Vec<Waiting<J>> {
        let mut batch = Vec::new();
        if self.running >= self.places(bounds) {
            return batch;
        }
        while batch.is_empty() && !self.is_drained() {
            let lane = self.next % LANES;
            self.next = (lane + 1) % LANES;
            self.take_from(lane, bounds, &mut batch);
        }
        self.running += usize::from(!batch.is_empty());
        batch
    }

    /// Fills a batch from one lane.
    fn take_from(&mut self, lane: usize, bounds: &Bounds, batch: &mut Vec<Waiting<J>>) {
        let mut bytes = 0;
        while let Some(waiting) = self.ready[lane].pop_front() {
            let more = waiting.job.bytes();
            let is_full = batch.len() >= bounds.jobs || bytes + more > bounds.bytes;
            if is_full && !batch.is_empty() {
                self.ready[lane].push_front(waiting);
                return;
            }
            self.waiting -= 1;
            self.waiting_bytes -= more;
            let (then, or) = (Ordering::AcqRel, Ordering::Acquire);
            if waiting.stage.compare_exchange(WAITS, BEGUN, then, or).is_ok() {
                bytes += more;
                batch.push(waiting);
            } else {
                self.release(&waiting.job);
            }
        }
    }

    /// Whether nothing waits that could be sent.
    fn is_drained(&self) -> bool {
        self.ready.iter().all(VecDeque::is_empty)
    }

    /// Lets the next job of the same owner go ahead.
    fn release(&mut self, job: &J) {
        let Some(owner) = job.owner() else { return };
        match self.owned.get_mut(owner).and_then(VecDeque::pop_front) {
            Some(next) => {
                let lane = next.job.lane();
                self.ready[lane].push_back(next);
            }
            None => {
                self.owned.remove(owner);
            }
        }
    }
}

/// Jobs on their way; when they are done, or given up, others may go.
struct OnItsWay<'a, J: Job> {
    inner: Arc<Inner<J>>,
    jobs: &'a [J],
}

impl<J: Job> Drop for OnItsWay<'_, J> {
    fn drop(&mut self) {
        {
            let mut state = self.inner.lock();
            state.running -= 1;
            for job in self.jobs {
                state.release(job);
            }
        }
        self.inner.pump();
    }
}

/// Marks the job of a caller that has gone, so that nobody sends it.
struct Leaves(Arc<AtomicU8>);

impl Drop for Leaves {
    fn drop(&mut self) {
        let _ = self.0.compare_exchange(WAITS, LEFT, Ordering::AcqRel, Ordering::Acquire);
    }
}

impl<J: Job> fmt::Debug for Coalescer<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { tools, bounds, .. } = &*self.0;
        f.debug_struct("Coalescer")
            .field("tools", tools)
            .field("bounds", bounds)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
