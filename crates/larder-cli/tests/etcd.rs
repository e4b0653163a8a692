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

mod support;
use support::{check_that_fails, check_that_is_interrupted, run, service};

const TESTS: &[(&str, fn())] = &[
    ("consensus_at_the_command_line", consensus),
    ("the_laws_hold_and_the_check_leaves_nothing", check),
    ("a_check_that_fails_or_is_interrupted_leaves_nothing", check_that_does_not_end_well),
    ("what_a_check_cannot_remove_it_names", check_without_server),
    ("the_laws_hold_over_tls", tls),
    ("what_is_wrong_with_the_server_is_said_in_a_line", unavailable),
];

fn main() -> ExitCode {
    service::try_all("etcd", EtcdServer::missing().as_ref(), TESTS)
}

fn consensus() {
    let server = EtcdServer::start().unwrap();
    let uri = format!("{}/cli", server.uri());
    service::consensus_versions(&uri);
}

fn check() {
    let server = EtcdServer::start().unwrap();
    let uri = format!("{}/mine?timeout=20s", server.uri());
    service::check_holds(&uri, "consensus", 31, service::CONSENSUS_LACKS);
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

fn check_without_server() {
    let server = EtcdServer::start().unwrap();
    let uri = format!("{}/mine", server.uri());
    let how = "etcdctl del --prefix";
    let left = service::check_without_server(
        &uri,
        "consensus",
        || server.kill(),
        "below the prefixes",
        how,
    );
    assert!(left.iter().all(|name| name.starts_with("mine/larder_")), "{left:?}");
}

fn tls() {
    let authority = Authority::new().unwrap();
    let server = EtcdServer::start_with_tls(&authority.certify("localhost").unwrap(), &[]).unwrap();
    let at = |host: &str| {
        let (port, ca) = (server.tls_port().unwrap(), authority.file().display());
        format!("etcds://{host}:{port}?timeout=20s&ca={ca}")
    };
    service::check_holds(&at("localhost"), "consensus", 31, service::CONSENSUS_LACKS);
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
