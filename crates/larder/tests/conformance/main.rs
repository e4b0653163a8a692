//! Every law of the contracts on every backend and wrapper, each as a test of its own:
//! `spool::memory::a_removed_entry_is_missing`.
//!
//! A law that needs what a backend does not offer is ignored, and so is every law of a backend
//! whose service is not there. `LARDER_TEST_REQUIRE` names backends that have to be there
//! (`log,postgres`, or `all`): their laws fail instead. `LARDER_TEST_SEED` repeats a run.

mod buses;
mod caches;
mod consensus;
mod recipes;
mod spools;

use std::env;
use std::process::ExitCode;
use std::sync::Arc;

use larder_core::error::BoxError;
use larder_testkit::{CheckOptions, Contract, Law, Outcome, Subject, try_law};
use libtest_mimic::{Arguments, Failed, Trial};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    for candidate in buses::all() {
        candidate.enlist(&[], &mut trials);
    }
    for candidate in caches::all() {
        candidate.enlist(&[], &mut trials);
    }
    for candidate in spools::all() {
        candidate.enlist(&[], &mut trials);
    }
    for candidate in consensus::all() {
        candidate.enlist(recipes::LAWS, &mut trials);
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A backend that may be there or not.
struct Candidate<S> {
    subject: Subject<S>,
    /// Why it cannot be tried here.
    missing: Option<String>,
}

impl<S: Contract> From<Subject<S>> for Candidate<S> {
    fn from(subject: Subject<S>) -> Self {
        Self { subject, missing: None }
    }
}

impl<S: Contract> Candidate<S> {
    /// Makes a trial of every law, and of what is built `above` the contract.
    fn enlist(self, above: &'static [Law<S>], trials: &mut Vec<Trial>) {
        let required = is_required(self.subject.name());
        let missing = self.missing.map(Arc::new);
        let subject = Arc::new(self.subject);
        for law in S::laws().iter().chain(above) {
            let name = format!("{}::{}::{}", S::NAME, subject.name(), law.name);
            let lacks = subject.lacks(law.needs).is_some();
            let (subject, absent) = (Arc::clone(&subject), missing.clone());
            let trial = Trial::test(name, move || match absent {
                Some(why) => Err(Failed::from(format!("{} is missing: {why}", subject.name()))),
                None => run(&subject, law),
            });
            trials.push(trial.with_ignored_flag(lacks || (missing.is_some() && !required)));
        }
    }
}

fn run<S: Contract>(subject: &Subject<S>, law: &Law<S>) -> Result<(), Failed> {
    let options =
        seed().map_or_else(CheckOptions::default, |seed| CheckOptions::default().with_seed(seed));
    let runtime = runtime()?;
    let finding = runtime.block_on(try_law(subject, law, options));
    // A store that hangs in a thread of its own must not hang the run.
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    match finding.outcome {
        Outcome::Held => Ok(()),
        Outcome::Broken(violation) => Err(Failed::from(format!(
            "the promise: {}\nis broken: {violation}\nrepeat with LARDER_TEST_SEED={}",
            finding.clause, options.seed
        ))),
        Outcome::Ignored(need) => Err(Failed::from(format!("the place does not offer: {need}"))),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, BoxError> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

fn seed() -> Option<u64> {
    env::var("LARDER_TEST_SEED").ok()?.parse().ok()
}

/// Whether a word of the name has to be there: `redis` stands for `memory-over-redis` as well.
fn is_required(name: &str) -> bool {
    let required = env::var("LARDER_TEST_REQUIRE").unwrap_or_default();
    let named = |word: &str| word == name || name.split('-').any(|part| part == word);
    required.split(',').map(str::trim).any(|word| word == "all" || named(word))
}
