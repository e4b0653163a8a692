//! The real binary with a cache tier and a consensus store in a private PostgreSQL server.
//!
//! Without the programs of the server the tests are ignored and listed as such; with
//! `LARDER_TEST_REQUIRE=postgres` (or `all`) they fail instead.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test fails by panicking, watches a real process, and says where it is"
)]

mod support;

use std::process::ExitCode;

use larder_testkit::service::{Authority, PostgresServer};
use libtest_mimic::{Arguments, Failed, Trial};
use support::{Call, Checking, Daemon, check_that_fails, check_that_is_interrupted, run, run_with};

const TESTS: &[(&str, fn())] = &[
    ("an_entry_is_put_found_and_removed", entry),
    ("check_tries_every_law_and_leaves_nothing", check),
    ("check_tries_every_law_of_a_bus", check_bus),
    ("bench_leaves_nothing", bench),
    ("versions_are_swapped_scanned_and_truncated", consensus),
    ("a_key_is_watched_while_others_change_it", watch),
    ("check_tries_every_law_of_consensus_and_leaves_nothing", check_consensus),
    ("a_check_that_fails_or_is_interrupted_leaves_nothing", check_that_does_not_end_well),
    ("what_a_check_cannot_remove_it_names", check_without_server),
    ("everything_goes_over_tls_when_that_is_asked_for", tls),
    ("a_password_is_nowhere_in_what_is_said", password),
    ("a_daemon_starts_and_serves_without_the_server", without_server),
];

fn main() -> ExitCode {
    let missing = PostgresServer::missing();
    let required = std::env::var("LARDER_TEST_REQUIRE").unwrap_or_default();
    let required = required.split(',').any(|word| matches!(word.trim(), "all" | "postgres"));
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

/// The schemas that are not the server's own.
fn schemas(server: &PostgresServer) -> Vec<Vec<Option<String>>> {
    let sql = "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'larder%'";
    server.query(sql).unwrap()
}

fn entry() {
    let server = PostgresServer::start().unwrap();
    let uri = format!("{}?schema=cli", server.uri());
    run_with(&["cache", "put", &uri, "k", "-", "--ttl", "1min"], b"payload").ok();
    assert_eq!(run(&["cache", "get", &uri, "k"]).ok().stdout, b"payload");
    assert!(run(&["cache", "stat", &uri, "k"]).ok().text().contains("size=7 fresh ttl="));
    run(&["cache", "rm", &uri, "k"]).ok();
    run(&["cache", "get", &uri, "k"]).fails(3, "no entry");
}

fn check() {
    let server = PostgresServer::start().unwrap();
    let ran = run(&["check", &server.uri(), "--contract", "cache", "--json"]).ok();
    let last = ran.objects().pop().unwrap();
    assert_eq!(last["broken"], 0);
    assert!(last["held"].as_u64().unwrap() > 30, "{last}");
    assert!(schemas(&server).is_empty(), "{:?}", schemas(&server));
}

fn check_bus() {
    let server = PostgresServer::start().unwrap();
    let ran = run(&["check", &server.uri(), "--contract", "bus", "--json"]).ok();
    let last = ran.objects().pop().unwrap();
    assert_eq!(last["broken"], 0);
    assert!(last["held"].as_u64().unwrap() >= 5, "{last}");
    assert!(schemas(&server).is_empty(), "{:?}", schemas(&server));
}

fn bench() {
    let server = PostgresServer::start().unwrap();
    let words = ["--contract", "cache", "--seconds", "1", "--concurrency", "2", "--size", "100"];
    run(&[&["bench", &server.uri()], &words[..]].concat()).ok();
    assert!(schemas(&server).is_empty(), "{:?}", schemas(&server));
}

fn consensus() {
    let server = PostgresServer::start_with(&["fsync=on"]).unwrap();
    let uri = server.uri();
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

fn watch() {
    use std::io::{BufRead as _, BufReader};

    let server = PostgresServer::start_with(&["fsync=on"]).unwrap();
    let uri = format!("{}?schema=watched", server.uri());
    let watch = ["--json", "consensus", "watch", &uri, "k", "--count", "3"];
    let piped = std::process::Stdio::piped();
    let mut watching = support::larder().args(watch).stdout(piped).spawn().unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    for (expected, seqno) in [("none", "1"), ("1", "5"), ("5", "6")] {
        let swap = ["consensus", "cas", &uri, "k", "--expected", expected, "--seqno", seqno];
        run_with(&swap, b"data").ok();
        // Each is printed when it comes, and not at the end.
        let line = lines.next().unwrap().unwrap();
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["data"], "ZGF0YQ==");
        assert_eq!(line["seqno"].to_string(), seqno);
    }
    assert!(watching.wait().unwrap().success());
}

fn check_consensus() {
    let server = PostgresServer::start_with(&["fsync=on"]).unwrap();
    let ran = run(&["check", &server.uri(), "--contract", "consensus", "--json"]).ok();
    let last = ran.objects().pop().unwrap();
    assert_eq!(last["broken"], 0);
    assert!(last["held"].as_u64().unwrap() > 30, "{last}");
    assert!(schemas(&server).is_empty(), "{:?}", schemas(&server));
}

fn check_that_does_not_end_well() {
    let server = PostgresServer::start_with(&["fsync=on"]).unwrap();
    // What others have stays, however similar its name is.
    server.query("CREATE SCHEMA larder_law_mine").unwrap();
    server.query("CREATE TABLE larder_law_mine.larder_head AS SELECT 7 AS mine").unwrap();
    let mine = Some("larder_law_mine".to_owned());
    for (contract, narrow) in [("consensus", "max_payload=1KiB"), ("cache", "max_value=1KiB")] {
        check_that_fails(&format!("{}?schema=larder_law_mine&{narrow}", server.uri()), contract);
        assert_eq!(schemas(&server), [[mine.clone()]], "{contract}");
        check_that_is_interrupted(&server.uri(), contract);
        assert_eq!(schemas(&server), [[mine.clone()]], "{contract}");
    }
    let kept = server.query("SELECT mine FROM larder_law_mine.larder_head").unwrap();
    assert_eq!(kept, [[Some("7".to_owned())]]);
}

fn check_without_server() {
    let server = PostgresServer::start_with(&["fsync=on"]).unwrap();
    let checking = Checking::begun(&server.uri(), "consensus");
    server.kill();
    let ran = checking.ends();
    assert_ne!(ran.code, 0);
    let (_, left) = ran.stderr.split_once("left behind: the schemas ").unwrap();
    let (left, how) = left.split_once(';').unwrap();
    assert!(how.contains("DROP SCHEMA NAME CASCADE"), "{how}");
    server.restart().unwrap();
    let is_there = |name: &str| schemas(&server).contains(&vec![Some(name.to_owned())]);
    assert!(left.split(", ").any(is_there), "{left}");
    for name in left.split(", ") {
        server.query(&format!("DROP SCHEMA IF EXISTS {name} CASCADE")).unwrap();
    }
    assert!(schemas(&server).is_empty(), "{:?}", schemas(&server));
}

fn tls() {
    let authority = Authority::new().unwrap();
    let identity = authority.certify("localhost").unwrap();
    let server = PostgresServer::start_with_tls(&identity, &["fsync=on"]).unwrap();
    let at = |host: &str, ca: &std::path::Path| {
        let (port, ca) = (server.port(), ca.display());
        format!("postgres://larder@{host}:{port}/postgres?sslmode=verify-full&ca={ca}")
    };
    let uri = at("localhost", authority.file());
    for contract in ["cache", "bus", "consensus"] {
        let ran = run(&["check", &uri, "--contract", contract, "--json"]).ok();
        let last = ran.objects().pop().unwrap();
        assert_eq!(last["broken"], 0);
        assert!(last["held"].as_u64().unwrap() >= 5, "{last}");
    }
    assert!(schemas(&server).is_empty(), "{:?}", schemas(&server));
    let other = Authority::new().unwrap();
    run(&["consensus", "keys", &at("localhost", other.file())]).fails(5, "no TLS with postgres://");
    run(&["cache", "get", &at("127.0.0.1", authority.file()), "k"]).fails(5, "no TLS with");
    let weak = uri.replace("verify-full", "prefer");
    run(&["consensus", "keys", &weak]).fails(2, "sslmode");
    let plain = uri.replace("sslmode=verify-full&", "");
    run(&["consensus", "keys", &plain]).fails(2, "sslmode=verify-full");

    let folder = tempfile::tempdir().unwrap();
    let config = format!(
        r#"
        [cache.default]
        l1 = "memory:?capacity=1MiB"
        l2 = "{uri}&schema=shop"
        bus = "{uri}&schema=shop"
        [spool.default]
        l1 = "memory:"
        [consensus]
        uri = "{uri}&schema=state"
        "#,
    );
    let daemon = Daemon::configured(folder.path(), &config);
    block_on(async {
        let put = daemon.call(Call::put("/v1/cache/default/k", "hello")).await;
        assert_eq!(put.status, 204);
        assert_eq!(put.header("larder-outcome"), Some("l1=done, l2=done"));
    });
    let clear = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                 WHERE application_name = 'larder' AND NOT ssl";
    assert_eq!(server.query(clear).unwrap(), [[Some("0".to_owned())]]);
}

fn password() {
    let server = PostgresServer::start().unwrap();
    server.query("CREATE ROLE me LOGIN SUPERUSER PASSWORD 'hush'").unwrap();
    let at = |login: &str| format!("postgres://{login}@127.0.0.1:{}/postgres", server.port());
    let wrong = at("me:hush-not");
    for words in [
        &["cache", "get", &wrong, "k"][..],
        &["check", &wrong, "--contract", "cache"],
        &["bench", &wrong, "--contract", "cache", "--seconds", "1"],
        &["cache", "get", &at("me:hush%"), "k"],
        &["cache", "get", &at("me:hu?sh"), "k"],
    ] {
        let ran = run(words);
        assert_ne!(ran.code, 0);
        assert!(!ran.stderr.contains("hu"), "{}", ran.stderr);
        assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    }
    run(&["cache", "get", &wrong, "k"]).fails(5, "28P01");
    let right = at("me:hush");
    let ran = run(&["cache", "get", &right, "k"]);
    assert!(!ran.stderr.contains("hush"), "{}", ran.stderr);
    ran.fails(3, "no entry");
}

fn block_on(test: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build().unwrap().block_on(test);
}

fn without_server() {
    let server = PostgresServer::start().unwrap();
    server.kill();
    let folder = tempfile::tempdir().unwrap();
    let config = format!(
        r#"
        [cache.default]
        l1 = "memory:?capacity=1MiB"
        l2 = "{}?schema=shop&timeout=500ms"
        [spool.default]
        l1 = "memory:"
        [consensus]
        uri = "memory:"
        "#,
        server.uri()
    );
    let daemon = Daemon::configured(folder.path(), &config);
    block_on(async {
        let put = daemon.call(Call::put("/v1/cache/default/k", "hello")).await;
        assert_eq!(put.status, 204);
        assert_eq!(put.header("larder-outcome"), Some("l1=done, l2=failed"));
        server.restart().unwrap();
        daemon.reaches_its_far_tier().await;
    });
}
