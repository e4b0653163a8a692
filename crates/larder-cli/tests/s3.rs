//! The real binary with a consensus store in an S3 endpoint of the test kit.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test fails by panicking, watches a real process, and says where it is"
)]

mod support;

use larder_testkit::service::{Authority, S3Quirk, S3Server};
use support::{check_that_fails, check_that_is_interrupted, larder, run, service};

#[path = "../../larder/tests/support/terminator.rs"]
mod terminator;

#[test]
fn versions_are_swapped_scanned_and_truncated() {
    let server = S3Server::start().unwrap();
    let uri = server.uri("cli");
    service::consensus_versions(&uri);
}

#[test]
fn check_tries_every_law_and_leaves_nothing() {
    let server = S3Server::start().unwrap();
    service::check_holds(&server.uri("mine"), "consensus", 31, service::CONSENSUS_LACKS);
    assert_eq!(server.names(), Vec::<String>::new());
}

#[test]
fn a_check_that_fails_or_is_interrupted_leaves_nothing() {
    let server = S3Server::start().unwrap();
    server.overwrite("mine/larder_law", b"mine").unwrap();
    let uri = server.uri("mine");
    check_that_fails(&format!("{uri}&max_object=1KiB"), "consensus");
    assert_eq!(server.names(), ["mine/larder_law"]);
    check_that_is_interrupted(&uri, "consensus");
    assert_eq!(server.names(), ["mine/larder_law"]);
    // Nor does one that does not begin.
    server.behave_as(Some(S3Quirk::IgnoresIfMatch));
    run(&["check", &uri, "--contract", "consensus"]).fails(5, "conditional PUTs");
    assert_eq!(server.names(), ["mine/larder_law"]);
    assert_eq!(server.object("mine/larder_law").unwrap(), b"mine");
}

#[test]
fn what_a_check_cannot_remove_it_names() {
    let server = S3Server::start().unwrap();
    let kill = || server.kill();
    let (what, how) = ("below the prefixes", "delete the objects there");
    let uri = server.uri("mine");
    let left = service::check_without_server(&uri, "consensus", kill, what, how);
    assert!(left.iter().all(|name| name.starts_with("mine/larder_")), "{left:?}");
}

#[test]
fn bench_leaves_nothing() {
    let server = S3Server::start().unwrap();
    let words =
        ["--contract", "consensus", "--seconds", "1", "--concurrency", "2", "--size", "100"];
    run(&[&["bench", &server.uri("mine")], &words[..]].concat()).ok();
    assert_eq!(server.names(), Vec::<String>::new());
}

#[test]
fn a_secret_is_nowhere_in_what_is_said() {
    let server = S3Server::start().unwrap();
    let right = server.uri("cli");
    let wrong = right.replace("hush/with", "hush/not");
    for words in [
        &["consensus", "head", &wrong, "k"][..],
        &["check", &wrong, "--contract", "consensus"],
        &["bench", &wrong, "--contract", "consensus", "--seconds", "1"],
        &["consensus", "head", &right.replace("with", "%"), "k"],
        &["consensus", "head", &right.replace("shelf", "S"), "k"],
        &["consensus", "head", &right.replace("endpoint=", "endpoind="), "k"],
    ] {
        let ran = run(words);
        assert_ne!(ran.code, 0);
        assert!(!ran.stderr.contains("hush"), "{}", ran.stderr);
    }
    run(&["consensus", "head", &wrong, "k"]).fails(5, "SignatureDoesNotMatch");
    run(&["consensus", "head", &right, "k"]).fails(3, "");
}

#[test]
fn the_environment_says_who_and_where_over_tls() {
    let (server, authority) = (S3Server::start().unwrap(), Authority::new().unwrap());
    let identity = authority.certify("localhost").unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let port = runtime.block_on(terminator::terminate(&identity, server.port()));
    // What the address of the endpoint says, as the environment says it.
    let uri = server.uri("env");
    let (login, _) = uri.strip_prefix("s3://").unwrap().rsplit_once('@').unwrap();
    let (key, secret) = login.split_once(':').unwrap();
    let run = |words: &[&str], secret: &str| {
        let mut command = larder();
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("AWS_")) {
            command.env_remove(name);
        }
        command.env("AWS_ACCESS_KEY_ID", key).env("AWS_SECRET_ACCESS_KEY", secret);
        command.env("AWS_ENDPOINT_URL", format!("https://localhost:{port}"));
        support::finish(command.args(words), b"data")
    };
    let uri = format!("s3://shelf/env?ca={}", authority.file().display());
    let cas = ["consensus", "cas", &uri, "k", "--expected", "none", "--seqno", "1", "-"];
    run(&cas, secret).ok();
    assert_eq!(run(&["consensus", "head", &uri, "k"], secret).ok().stdout, b"data");
    run(&["consensus", "head", &uri, "k"], "hush").fails(5, "SignatureDoesNotMatch");
    let other = Authority::new().unwrap();
    let strange = format!("s3://shelf/env?ca={}", other.file().display());
    run(&["consensus", "head", &strange, "k"], secret).fails(5, "no TLS with s3://shelf/env");
    // Who is right about the authority, and wrong about the name.
    let by_number = format!("{uri}&endpoint=https://127.0.0.1:{port}");
    run(&["consensus", "head", &by_number, "k"], secret).fails(5, "not valid for name");
}

#[test]
fn a_store_without_conditions_is_refused() {
    let server = S3Server::start().unwrap();
    server.behave_as(Some(S3Quirk::IgnoresIfMatch));
    run(&["consensus", "head", &server.uri("cli"), "k"]).fails(5, "conditional PUTs");
}
