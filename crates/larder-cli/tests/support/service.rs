//! What the tests of all backends with a server of their own do alike.

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

use super::{Checking, Ran, run, run_with};

/// What a consensus store of a server cannot have: only a folder is one process's alone.
pub(crate) const CONSENSUS_LACKS: &[&str] = &["needs second-open"];
/// What a cache of a server cannot have besides.
pub(crate) const CACHE_LACKS: &[&str] =
    &["needs clock", "needs damage", "needs outage", "needs second-open", "needs tight-place"];

/// The main of a test of the service that is called `name`: without its programs the tests are ignored and listed as
/// such; with `LARDER_TEST_REQUIRE=NAME` (or `all`) they fail instead.
pub(crate) fn try_all(
    name: &str,
    missing: Option<&String>,
    tests: &'static [(&'static str, fn())],
) -> ExitCode {
    let required = std::env::var("LARDER_TEST_REQUIRE").unwrap_or_default();
    let required = required.split(',').map(str::trim).any(|word| word == "all" || word == name);
    let trials = tests.iter().map(|(name, test)| {
        let missing = missing.cloned();
        let ignored = missing.is_some() && !required;
        let run = move || {
            if let Some(why) = missing {
                return Err(Failed::from(why));
            }
            test();
            Ok(())
        };
        Trial::test(*name, run).with_ignored_flag(ignored)
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

/// Puts an entry, finds and removes it.
pub(crate) fn cache_entry(uri: &str) {
    run_with(&["cache", "put", uri, "k", "-", "--ttl", "1min"], b"payload").ok();
    assert_eq!(run(&["cache", "get", uri, "k"]).ok().stdout, b"payload");
    assert!(run(&["cache", "stat", uri, "k"]).ok().text().contains("size=7 fresh ttl="));
    run(&["cache", "rm", uri, "k"]).ok();
    run(&["cache", "get", uri, "k"]).fails(3, "no entry");
}

/// Makes versions of a key, reads and truncates them.
pub(crate) fn consensus_versions(uri: &str) {
    let cas = |expected: &str, seqno: &str, data: &[u8]| {
        let words = ["consensus", "cas", uri, "k", "--expected", expected, "--seqno", seqno, "-"];
        run_with(&words, data)
    };
    cas("none", "5", b"five").ok();
    cas("none", "7", b"seven").fails(4, "the seqno is 5");
    cas("5", "10", b"ten").ok();
    assert_eq!(run(&["consensus", "head", uri, "k"]).ok().stdout, b"ten");
    assert_eq!(run(&["consensus", "scan", uri, "k"]).ok().text().lines().count(), 2);
    run(&["consensus", "truncate", uri, "k", "--seqno", "11"]).fails(4, "above the head");
    assert_eq!(run(&["consensus", "truncate", uri, "k", "--seqno", "10"]).ok().text(), "1\n");
    assert_eq!(run(&["consensus", "keys", uri]).ok().text(), "k\n");
}

/// Checks a backend: so many laws hold at least, and all are tried but those that need something it cannot have.
#[track_caller]
pub(crate) fn check_holds(uri: &str, contract: &str, held: u64, lacks: &[&str]) -> Ran {
    let ran = run(&["check", uri, "--contract", contract, "--json"]).ok();
    let mut findings = ran.objects();
    let last = findings.pop().unwrap();
    assert_eq!((&last["contract"], &last["broken"]), (&contract.into(), &0.into()), "{last}");
    assert!(last["held"].as_u64().unwrap() >= held, "{last}");
    let ignored = findings.iter().filter(|finding| finding["outcome"] == "ignored");
    let mut needs: Vec<&str> = ignored.map(|finding| finding["why"].as_str().unwrap()).collect();
    needs.sort_unstable();
    needs.dedup();
    assert_eq!(needs, lacks, "{last}");
    ran
}

/// Takes the server away from a check, which names what it cannot remove and how to do that; the names.
#[track_caller]
pub(crate) fn check_without_server(
    uri: &str,
    contract: &str,
    kill: impl FnOnce(),
    what: &str,
    how: &str,
) -> Vec<String> {
    let checking = Checking::begun(uri, contract);
    kill();
    let ran = checking.ends();
    assert_ne!(ran.code, 0);
    let left = ran.stderr.split_once(&format!("left behind: {what} ")).map(|(_, left)| left);
    let Some((left, told)) = left.and_then(|left| left.split_once(';')) else {
        panic!("{}", ran.stderr)
    };
    assert!(told.contains(how), "{told}");
    left.split(", ").map(str::to_owned).collect()
}

/// Tells wrong logins, which are in nothing that is said.
#[track_caller]
pub(crate) fn cache_logins_stay_secret(wrong: &str, malformed: [&str; 2]) {
    for words in [
        &["cache", "get", wrong, "k"][..],
        &["check", wrong, "--contract", "cache"],
        &["bench", wrong, "--contract", "cache", "--seconds", "1"],
        &["cache", "get", malformed[0], "k"],
        &["cache", "get", malformed[1], "k"],
    ] {
        let ran = run(words);
        assert_ne!(ran.code, 0);
        assert!(!ran.stderr.contains("hu"), "{}", ran.stderr);
        assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    }
}
