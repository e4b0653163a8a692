//! Negative controls: stores with one defect each. Every defect has to be caught by the laws that
//! are named for it; the same wrapper without a defect keeps every law.

#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod bus;
mod cache;
mod consensus;
mod gate;
mod outage;
mod spool;

use larder_testkit::{CheckOptions, Contract, Outcome, Subject, check};

/// Runs every law and returns the names of those that are broken.
async fn broken<S: Contract>(subject: &Subject<S>) -> Vec<&'static str> {
    let options = CheckOptions::default().with_time_limit(std::time::Duration::from_secs(5));
    let report = check(subject, S::laws(), options, |_| ()).await;
    let is_broken = |outcome: &Outcome| matches!(outcome, Outcome::Broken(_));
    let broken = report.findings.iter().filter(|finding| is_broken(&finding.outcome));
    broken.map(|finding| finding.law).collect()
}

/// Every one of `laws` has to catch the defect of `subject`.
async fn is_caught_by<S: Contract>(subject: Subject<S>, laws: &[&str]) {
    let broken = broken(&subject).await;
    for law in laws {
        assert!(S::laws().iter().any(|known| known.name == *law), "no law is called {law}");
        assert!(broken.contains(law), "{law} does not catch it; broken: {broken:?}");
    }
}
