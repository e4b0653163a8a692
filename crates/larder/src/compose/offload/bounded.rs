//! A bounded background executor on tokio.

use std::collections::HashSet;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use metrics::{counter, gauge};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::timeout;

use super::{Offload, OffloadKey, Refused, RefusedReason, Registered};

/// A background executor with bounds, on the tokio runtime of whoever registers a task.
///
/// - At most [`OffloadLimits::max_tasks`] tasks run at a time; one more is refused.
/// - A task that runs for longer than [`OffloadLimits::max_task_time`] is dropped, counted and
///   reported, so a hanging backend cannot occupy the executor for ever.
/// - A task that panics is counted and reported, and frees its place and its key.
/// - Tasks go on when every handle is dropped; [`BoundedOffload::drain`] ends them in order.
///
/// The runtime needs its timers enabled.
///
/// Metrics, with the label `kind`: `larder_offload_started_total`,
/// `larder_offload_deduplicated_total`, `larder_offload_refused_total` (also `reason`),
/// `larder_offload_ended_total` (also `how`: `completed`, `panicked`, `timed-out`, `aborted`), and
/// the gauge `larder_offload_active`.
///
/// ```
/// use larder::compose::{BoundedOffload, Drained, Offload, OffloadKey, OffloadLimits};
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let offload = BoundedOffload::new(OffloadLimits::default());
/// offload.register(OffloadKey::keyed("refresh", b"k"), async { /* work */ }).expect("room");
/// assert_eq!(offload.drain(Duration::from_secs(5)).await, Drained::Complete);
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct BoundedOffload {
    inner: Arc<Inner>,
}

/// The bounds of a [`BoundedOffload`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OffloadLimits {
    /// How many tasks may run at a time; with zero every task is refused. Default: 1,024.
    pub max_tasks: usize,
    /// How long one task may run before it is dropped. Default: 30 seconds.
    pub max_task_time: Duration,
}

impl OffloadLimits {
    /// The default limits.
    pub const fn new() -> Self {
        Self { max_tasks: 1_024, max_task_time: Duration::from_secs(30) }
    }

    /// The same limits with another number of tasks.
    #[must_use]
    pub const fn with_max_tasks(mut self, max_tasks: usize) -> Self {
        self.max_tasks = max_tasks;
        self
    }

    /// The same limits with another time for one task.
    #[must_use]
    pub const fn with_max_task_time(mut self, max_task_time: Duration) -> Self {
        self.max_task_time = max_task_time;
        self
    }
}

impl Default for OffloadLimits {
    fn default() -> Self {
        Self::new()
    }
}

/// How [`BoundedOffload::drain`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "aborted work has not happened"]
#[allow(clippy::exhaustive_enums, reason = "in time or not")]
pub enum Drained {
    /// Every task has ended.
    Complete,
    /// The time was up and so many tasks were told to end; each is dropped where it waits next.
    Aborted {
        /// How many.
        tasks: usize,
    },
}

/// What a [`BoundedOffload`] has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OffloadStats {
    /// Tasks that run now.
    pub active: usize,
    /// Tasks that were started.
    pub started: u64,
    /// Tasks that were dropped because equal work was running.
    pub deduplicated: u64,
    /// Tasks that were given back.
    pub refused: u64,
    /// Tasks that ended by themselves.
    pub completed: u64,
    /// Tasks that panicked.
    pub panicked: u64,
    /// Tasks that took too long and were dropped.
    pub timed_out: u64,
    /// Tasks that were dropped by a drain or by the end of their runtime.
    pub aborted: u64,
}

impl BoundedOffload {
    /// An executor with these limits.
    pub fn new(limits: OffloadLimits) -> Self {
        let inner = Inner {
            limits,
            state: Mutex::default(),
            active: watch::Sender::new(0),
            abort: watch::Sender::new(false),
        };
        Self { inner: Arc::new(inner) }
    }

    /// What it has done so far.
    pub fn stats(&self) -> OffloadStats {
        self.inner.lock().stats
    }

    /// Refuses new tasks from now on and waits until the running ones have ended, at most for
    /// `within`; those that are left then are told to end.
    ///
    /// # Cancel safety
    /// When it is dropped early, new tasks stay refused and running ones go on. It may be called
    /// again, and by several callers at once.
    pub async fn drain(&self, within: Duration) -> Drained {
        self.inner.lock().draining = true;
        if timeout(within, self.inner.idle()).await.is_ok() {
            return Drained::Complete;
        }
        let tasks = self.inner.lock().stats.active;
        if tasks == 0 {
            return Drained::Complete;
        }
        self.inner.abort.send_replace(true);
        tracing::warn!(target: "larder::offload", tasks, "background tasks outlived the drain");
        Drained::Aborted { tasks }
    }
}

impl Default for BoundedOffload {
    fn default() -> Self {
        Self::new(OffloadLimits::default())
    }
}

impl Offload for BoundedOffload {
    fn register<F>(&self, key: OffloadKey, task: F) -> Result<Registered, Refused<F>>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let kind = key.kind();
        let admitted = match Handle::try_current() {
            Ok(runtime) => self.inner.admit(key).map(|slot| (runtime, slot)),
            Err(_) => Err(self.inner.refuse(RefusedReason::NoRuntime)),
        };
        match admitted {
            Ok((runtime, Some(slot))) => {
                counter!("larder_offload_started_total", "kind" => kind).increment(1);
                gauge!("larder_offload_active", "kind" => kind).increment(1);
                runtime.spawn(run(task, slot));
                Ok(Registered::Started)
            }
            Ok((_, None)) => {
                counter!("larder_offload_deduplicated_total", "kind" => kind).increment(1);
                Ok(Registered::AlreadyRunning)
            }
            Err(reason) => {
                counter!(
                    "larder_offload_refused_total",
                    "kind" => kind,
                    "reason" => reason.as_str()
                )
                .increment(1);
                Err(Refused { task, reason })
            }
        }
    }
}

#[derive(Debug)]
struct Inner {
    limits: OffloadLimits,
    state: Mutex<State>,
    /// The number of running tasks, for those who wait for zero.
    active: watch::Sender<usize>,
    /// Whether running tasks have to end now.
    abort: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    stats: OffloadStats,
    running: HashSet<OffloadKey>,
    draining: bool,
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock can panic half-way, so a poisoned state is a sound one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one more task; `None` when equal work is running.
    fn admit(self: &Arc<Self>, key: OffloadKey) -> Result<Option<Slot>, RefusedReason> {
        let mut state = self.lock();
        if state.draining {
            state.stats.refused += 1;
            return Err(RefusedReason::ShuttingDown);
        }
        if key.is_keyed() && state.running.contains(&key) {
            state.stats.deduplicated += 1;
            return Ok(None);
        }
        if state.stats.active >= self.limits.max_tasks {
            state.stats.refused += 1;
            return Err(RefusedReason::Full);
        }
        state.stats.active += 1;
        state.stats.started += 1;
        if key.is_keyed() {
            state.running.insert(key.clone());
        }
        self.active.send_replace(state.stats.active);
        Ok(Some(Slot { inner: Arc::clone(self), key, ended: None }))
    }

    fn refuse(&self, reason: RefusedReason) -> RefusedReason {
        self.lock().stats.refused += 1;
        reason
    }

    /// Gives back the place of a task that has ended.
    fn release(&self, key: &OffloadKey, ended: Ended) {
        let mut state = self.lock();
        if key.is_keyed() {
            state.running.remove(key);
        }
        let totals = &mut state.stats;
        totals.active = totals.active.saturating_sub(1);
        match ended {
            Ended::Completed => totals.completed += 1,
            Ended::Panicked => totals.panicked += 1,
            Ended::TimedOut => totals.timed_out += 1,
            Ended::Aborted => totals.aborted += 1,
        }
        self.active.send_replace(totals.active);
    }

    /// Waits until no task runs. It looks before it waits, so it misses no end of a task.
    async fn idle(&self) {
        let mut active = self.active.subscribe();
        // The sender lives in `self`, so the wait cannot fail.
        let _ = active.wait_for(|active| *active == 0).await;
    }

    /// Waits until running tasks have to end.
    async fn aborted(&self) {
        let mut abort = self.abort.subscribe();
        let _ = abort.wait_for(|abort| *abort).await;
    }
}

/// Runs one task to one of its ends. The task is gone before its slot is.
async fn run<F: Future<Output = ()>>(task: F, mut slot: Slot) {
    let inner = Arc::clone(&slot.inner);
    let contained = AssertUnwindSafe(task).catch_unwind();
    let ended = tokio::select! {
        biased;
        ended = timeout(inner.limits.max_task_time, contained) => match ended {
            Ok(Ok(())) => Ended::Completed,
            Ok(Err(_panic)) => Ended::Panicked,
            Err(_elapsed) => Ended::TimedOut,
        },
        () = inner.aborted() => Ended::Aborted,
    };
    slot.ended = Some(ended);
}

/// The place of one running task: freed when it is dropped, in whatever way the task ended.
struct Slot {
    inner: Arc<Inner>,
    key: OffloadKey,
    /// `None`: the future of the task was dropped from outside.
    ended: Option<Ended>,
}

#[derive(Clone, Copy)]
enum Ended {
    Completed,
    Panicked,
    TimedOut,
    Aborted,
}

impl Ended {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Panicked => "panicked",
            Self::TimedOut => "timed-out",
            Self::Aborted => "aborted",
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let unannounced = if std::thread::panicking() { Ended::Panicked } else { Ended::Aborted };
        let ended = self.ended.unwrap_or(unannounced);
        // First of all: a reporter that panics must not keep the place.
        self.inner.release(&self.key, ended);

        let kind = self.key.kind();
        if !matches!(ended, Ended::Completed) {
            tracing::warn!(
                target: "larder::offload",
                kind,
                how = ended.as_str(),
                "a background task did not end by itself"
            );
        }
        counter!("larder_offload_ended_total", "kind" => kind, "how" => ended.as_str())
            .increment(1);
        gauge!("larder_offload_active", "kind" => kind).decrement(1);
    }
}
