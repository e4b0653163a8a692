//! Consensus in etcd, at the command line. Without etcd the tests are ignored and listed as
//! such; with `LARDER_TEST_REQUIRE=etcd` (or `all`) they fail instead.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test fails by panicking, watches a real process, and says where it is"
)]

use std::process::ExitCode;

use larder_testkit::service::{Authority, EtcdServer};
use libtest_mimic::{Arguments, Failed, Trial};

mod support;
use support::{check_that_fails, check_that_is_interrupted, run, run_with};

const TESTS: &[(&str, fn())] = &[
    ("consensus_at_the_command_line", consensus),
    ("the_laws_hold_and_the_check_leaves_nothing", check),
    ("a_check_that_fails_or_is_interrupted_leaves_nothing", check_that_does_not_end_well),
    ("the_laws_hold_over_tls", tls),
    ("what_is_wrong_with_the_server_is_said_in_a_line", unavailable),
];

fn main() -> ExitCode {
    let missing = EtcdServer::missing();
    let required = std::env::var("LARDER_TEST_REQUIRE").unwrap_or_default();
    let required = required.split(',').any(|word| matches!(word.trim(), "all" | "etcd"));
    let trials = TESTS.iter().map(|(name, test)| {
        let missing = missing.clone();
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

fn consensus() {
    let server = EtcdServer::start().unwrap();
    let uri = format!("{}/cli", server.uri());
    let cas = |expected: &str, seqno: &str, data: &[u8]| {
        let words = ["consensus", "cas", &uri, "k", "--expected", expected, "--seqno", seqno, "-"];
        run_with(&words, data)
    };
    cas("none", "5", b"five").ok();
    cas("none", "7", b"seven").fails(4, "the seqno is 5");
    cas("5", "10", b"ten").ok();
    assert_eq!(run(&["consensus", "head", &uri, "k"]).ok().stdout, b"ten");
    assert_eq!(run(&["consensus", "scan", &uri, "k"]).ok().text().lines().count(), 2);
    run(&["consensus", "truncate", &uri, "k", "--seqno", "11"]).fails(4, "above the head");
    assert_eq!(run(&["consensus", "truncate", &uri, "k", "--seqno", "10"]).ok().text(), "1\n");
    assert_eq!(run(&["consensus", "keys", &uri]).ok().text(), "k\n");
}

fn check() {
    let server = EtcdServer::start().unwrap();
    let uri = format!("{}/mine?timeout=20s", server.uri());
    let ran = run(&["check", &uri, "--contract", "consensus", "--json"]).ok();
    let last = ran.objects().pop().unwrap();
    assert_eq!(last["broken"], 0);
    assert!(last["held"].as_u64().unwrap() > 30, "{last}");
    // "AA==" is the byte zero: all keys.
    let left = r#"{"key":"AA==","range_end":"AA==","count_only":true}"#;
    let left = server.post("/v3/kv/range", left).unwrap();
    assert!(!left.contains("count"), "{left}");
}

fn check_that_does_not_end_well() {
    let server = EtcdServer::start().unwrap();
    // "larder/larder_law" and 7: a key of somebody else.
    let mine = r#"{"key":"bGFyZGVyL2xhcmRlcl9sYXc=","value":"Nw=="}"#;
    server.post("/v3/kv/put", mine).unwrap();
    let left = || server.post("/v3/kv/range", r#"{"key":"AA==","range_end":"AA=="}"#).unwrap();
    let only_mine =
        |left: &str| left.contains("\"count\":\"1\"") && left.contains("bGFyZGVyL2xhcmRlcl9sYXc=");
    check_that_fails(&format!("{}?max_payload=1KiB", server.uri()), "consensus");
    assert!(only_mine(&left()), "{}", left());
    check_that_is_interrupted(&server.uri(), "consensus");
    assert!(only_mine(&left()), "{}", left());
}

fn tls() {
    let authority = Authority::new().unwrap();
    let server = EtcdServer::start_with_tls(&authority.certify("localhost").unwrap(), &[]).unwrap();
    let at = |host: &str| {
        let (port, ca) = (server.tls_port().unwrap(), authority.file().display());
        format!("etcds://{host}:{port}?timeout=20s&ca={ca}")
    };
    let ran = run(&["check", &at("localhost"), "--contract", "consensus", "--json"]).ok();
    let last = ran.objects().pop().unwrap();
    assert_eq!(last["broken"], 0);
    assert!(last["held"].as_u64().unwrap() > 30, "{last}");
    run(&["consensus", "keys", &at("127.0.0.1")]).fails(5, "no TLS with etcds://");
}

fn unavailable() {
    let server = EtcdServer::start().unwrap();
    let uri = format!("{}/cli", server.uri().replace("//", "//me:hush@"));
    // It has no users.
    let ran = run(&["consensus", "head", &uri, "k"]);
    assert!(!ran.stderr.contains("hush"), "{}", ran.stderr);
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    ran.fails(5, "authentication is not enabled");
    server.kill();
    run(&["consensus", "head", &format!("{}/cli", server.uri()), "k"]).fails(5, "cannot connect");
    run(&["consensus", "head", "etcd://h//x", "k"]).fails(2, "prefix");
}
