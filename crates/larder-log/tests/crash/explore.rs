//! Running schedules by the thousand, on several threads, until the first one that fails.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::schedule::{Kind, Schedule};

/// How far to go.
pub(crate) struct Budget {
    pub(crate) schedules: u64,
    pub(crate) until: Option<Instant>,
    pub(crate) threads: usize,
    /// Says now and then how far it is.
    pub(crate) talks: bool,
}

impl Budget {
    /// A sample on one thread.
    pub(crate) fn sample(schedules: u64) -> Self {
        Self { schedules, until: None, threads: 1, talks: false }
    }
}

struct Progress<'a> {
    budget: &'a Budget,
    kind: Kind,
    next_seed: AtomicU64,
    done: AtomicU64,
    over: AtomicBool,
    failure: Mutex<Option<String>>,
}

/// Runs histories of `kind` from seed `first` on, each dying at every one of its steps; returns how
/// many schedules were run, or the first that failed.
pub(crate) fn explore(kind: Kind, first: u64, budget: &Budget) -> Result<u64, String> {
    let progress = Progress {
        budget,
        kind,
        next_seed: AtomicU64::new(first),
        done: AtomicU64::new(0),
        over: AtomicBool::new(false),
        failure: Mutex::new(None),
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> =
            (0..budget.threads).map(|_| scope.spawn(|| progress.work())).collect();
        if budget.talks {
            progress.talk();
        }
        for worker in workers {
            worker.join().unwrap();
        }
    });
    let failure = progress.failure.into_inner().unwrap_or_else(PoisonError::into_inner);
    failure.map_or(Ok(progress.done.into_inner()), Err)
}

impl Progress<'_> {
    fn work(&self) {
        while !self.is_over() {
            let seed = self.next_seed.fetch_add(1, Ordering::Relaxed);
            // A worker that panics must not leave the others at it for ever.
            let run = std::panic::AssertUnwindSafe(|| self.run_history(seed));
            let failed = match std::panic::catch_unwind(run) {
                Ok(run) => run.err(),
                Err(_) => Some(format!("a panic, in a history of seed {seed}, {:?}", self.kind)),
            };
            if let Some(error) = failed {
                self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                self.over.store(true, Ordering::Relaxed);
            }
        }
        self.over.store(true, Ordering::Relaxed);
    }

    fn run_history(&self, seed: u64) -> Result<(), String> {
        let mut schedule = Schedule { kind: self.kind, seed, at: None };
        let steps = schedule.run()?;
        self.done.fetch_add(1, Ordering::Relaxed);
        for at in 0..steps {
            if self.is_over() {
                break;
            }
            schedule.at = Some(at);
            schedule.run()?;
            self.done.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
            || self.done.load(Ordering::Relaxed) >= self.budget.schedules
            || self.budget.until.is_some_and(|until| now() >= until)
    }

    #[expect(clippy::print_stderr, reason = "somebody waits at the terminal")]
    fn talk(&self) {
        let begun = now();
        while !self.is_over() {
            std::thread::park_timeout(Duration::from_secs(2));
            let done = self.done.load(Ordering::Relaxed);
            let seconds = begun.elapsed().as_secs_f64();
            let percent = 100 * done / self.budget.schedules.max(1);
            let seed = self.next_seed.load(Ordering::Relaxed);
            #[expect(clippy::cast_precision_loss, reason = "it is a rough figure")]
            let rate = done as f64 / seconds;
            eprintln!("{:?}: {done} schedules, {percent} %, {rate:.0}/s, seed {seed}", self.kind);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a soak has a limit in real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
