//! Runs laws, each on its own: a panic, a hang or a broken promise of one is no matter to the next.

use std::any::Any;
use std::time::Duration;

use larder_core::clock::random_u64;
use larder_core::error::chain;
use larder_core::{Clock, SystemClock};

use crate::{Contract, Law, Need, Stage, Subject, Violation};

/// How laws are run.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct CheckOptions {
    /// How long one law may take; it counts as broken when it takes longer.
    pub time_limit: Duration,
    /// Where all randomness comes from.
    pub seed: u64,
}

impl CheckOptions {
    /// The time limit of `CheckOptions::default()`.
    pub const TIME_LIMIT: Duration = Duration::from_mins(1);

    /// The same options with another seed.
    #[must_use]
    pub const fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The same options with another time limit per law.
    #[must_use]
    pub const fn with_time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit;
        self
    }
}

impl Default for CheckOptions {
    /// A minute per law and a fresh seed.
    fn default() -> Self {
        Self { time_limit: Self::TIME_LIMIT, seed: random_u64() }
    }
}

/// What became of one law.
#[derive(Debug)]
#[allow(clippy::exhaustive_enums, reason = "a report has to tell all three apart")]
pub enum Outcome {
    /// The promise was kept.
    Held,
    /// It was not.
    Broken(Violation),
    /// It was not tried, because the subject does not offer this need.
    Ignored(Need),
}

/// One law and what became of it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Finding {
    /// The law's name.
    pub law: &'static str,
    /// The promise in full.
    pub clause: &'static str,
    /// What became of it.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
}

/// What became of a list of laws.
#[derive(Debug)]
#[non_exhaustive]
pub struct Report {
    /// Who was on trial.
    pub subject: String,
    /// The seed to repeat the run with.
    pub seed: u64,
    /// One finding for each law, in order.
    pub findings: Vec<Finding>,
}

impl Report {
    /// How many promises were kept.
    pub fn held(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Held))
    }

    /// How many were broken.
    pub fn broken(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Broken(_)))
    }

    /// How many were not tried.
    pub fn ignored(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Ignored(_)))
    }

    fn count(&self, matches: impl Fn(&Outcome) -> bool) -> usize {
        self.findings.iter().filter(|finding| matches(&finding.outcome)).count()
    }
}

/// Runs `laws` on `subject` one after the other and tells `observer` each finding at once.
///
/// Needs a tokio runtime with time, better one with several threads: a store that blocks its
/// thread is then still stopped by the time limit.
///
/// ```
/// # #[tokio::main]
/// # async fn main() {
/// use larder_core::SharedSpool;
/// use larder_testkit::{CheckOptions, Contract, check, subjects};
///
/// let laws = SharedSpool::laws();
/// let report = check(&subjects::memory_spool(), laws, CheckOptions::default(), |_| ()).await;
/// assert_eq!(report.broken(), 0);
/// # }
/// ```
pub async fn check<S: Contract>(
    subject: &Subject<S>,
    laws: &[Law<S>],
    options: CheckOptions,
    mut observer: impl FnMut(&Finding),
) -> Report {
    let mut findings = Vec::with_capacity(laws.len());
    for law in laws {
        let finding = try_law(subject, law, options).await;
        observer(&finding);
        findings.push(finding);
    }
    Report { subject: subject.name().to_owned(), seed: options.seed, findings }
}

/// Runs one law on `subject`.
pub async fn try_law<S: Contract>(
    subject: &Subject<S>,
    law: &Law<S>,
    options: CheckOptions,
) -> Finding {
    let started = SystemClock.instant();
    let outcome = match subject.lacks(law.needs) {
        Some(need) => Outcome::Ignored(need),
        None => run(subject, law, options).await,
    };
    let took = SystemClock.instant().saturating_duration_since(started);
    Finding { law: law.name, clause: law.clause.trim(), outcome, took }
}

async fn run<S: Contract>(subject: &Subject<S>, law: &Law<S>, options: CheckOptions) -> Outcome {
    let place = match subject.place(law.needs) {
        Ok(place) => place,
        Err(error) => return broken(format!("the place could not be made: {}", chain(&*error))),
    };
    // A task of its own contains panics.
    let mut task = tokio::spawn((law.run)(Stage::new(place, options.seed)));
    match tokio::time::timeout(options.time_limit, &mut task).await {
        Ok(Ok(Ok(()))) => Outcome::Held,
        Ok(Ok(Err(violation))) => Outcome::Broken(violation),
        Ok(Err(failed)) => broken(match failed.try_into_panic() {
            Ok(panic) => format!("the store or the law panicked: {}", words(&*panic)),
            Err(failed) => format!("the law was stopped: {failed}"),
        }),
        Err(_) => {
            task.abort();
            broken(format!("the law did not end within {:?}", options.time_limit))
        }
    }
}

fn broken(message: String) -> Outcome {
    Outcome::Broken(Violation::new(message))
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
