//! The reference models keep every law, and `docs/laws.md` lists them all.

use std::collections::BTreeSet;
use std::path::Path;

use larder_testkit::{CheckOptions, Contract, Outcome, Report, Subject, check, subjects};

async fn keeps_every_law<S: Contract>(subject: Subject<S>) -> Report {
    let report = check(&subject, S::laws(), CheckOptions::default(), |_| ()).await;
    let broken: Vec<_> = report
        .findings
        .iter()
        .filter_map(|finding| match &finding.outcome {
            Outcome::Broken(violation) => Some(format!("{}: {violation}", finding.law)),
            _ => None,
        })
        .collect();
    assert!(broken.is_empty(), "seed={}\n{}", report.seed, broken.join("\n"));
    let slow = report.findings.iter().find(|finding| finding.took.as_millis() > 1_500);
    assert!(slow.is_none(), "a law on memory is quick, but: {slow:?}");
    report
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_memory_spool_keeps_every_law() {
    let report = keeps_every_law(subjects::memory_spool()).await;
    assert!(report.held() > 40, "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_memory_consensus_keeps_every_law() {
    let report = keeps_every_law(subjects::memory_consensus()).await;
    assert!(report.held() > 40, "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_reference_tier_keeps_every_law() {
    let report = keeps_every_law(subjects::reference_tier()).await;
    assert!(report.held() > 35, "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_memory_bus_keeps_every_law() {
    let report = keeps_every_law(subjects::memory_bus()).await;
    assert!(report.held() > 7, "{report:?}");
}

#[test]
fn every_law_has_a_name_of_its_own_and_says_what_it_promises() {
    fn examine<S: Contract>() {
        let mut names = BTreeSet::new();
        for law in S::laws() {
            assert!(names.insert(law.name), "two laws of {} are called {}", S::NAME, law.name);
            let clause = law.clause.trim();
            assert!(clause.ends_with('.') && clause.len() > 20, "{}: {clause}", law.name);
        }
    }
    examine::<larder_core::SharedSpool>();
    examine::<larder_core::SharedConsensus>();
    examine::<larder_core::SharedBus>();
    examine::<larder_core::SharedTier<bytes::Bytes>>();
}

#[test]
fn docs_laws_md_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/laws.md");
    let page = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        page == larder_testkit::laws_markdown(),
        "docs/laws.md is stale: run `cargo run -p larder-testkit --example laws > docs/laws.md`"
    );
}
