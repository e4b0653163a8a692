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
use support::{
    Call, Daemon, block_on, check_that_fails, check_that_is_interrupted, run, run_with, service,
};

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
    service::try_all("postgres", PostgresServer::missing().as_ref(), TESTS)
}

/// The schemas that are not the server's own.
fn schemas(server: &PostgresServer) -> Vec<Vec<Option<String>>> {
    let sql = "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'larder%'";
    server.query(sql).unwrap()
}

fn entry() {
    let server = PostgresServer::start().unwrap();
    service::cache_entry(&format!("{}?schema=cli", server.uri()));
}

fn check() {
    let server = PostgresServer::start().unwrap();
    service::check_holds(&server.uri(), "cache", 31, service::CACHE_LACKS);
    assert!(schemas(&server).is_empty(), "{:?}", schemas(&server));
}

fn check_bus() {
    let server = PostgresServer::start().unwrap();
    service::check_holds(&server.uri(), "bus", 5, &[]);
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
    service::consensus_versions(&server.uri());
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
    service::check_holds(&server.uri(), "consensus", 31, service::CONSENSUS_LACKS);
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
    let how = "DROP SCHEMA NAME CASCADE";
    let kill = || server.kill();
    let left = service::check_without_server(&server.uri(), "consensus", kill, "the schemas", how);
    server.restart().unwrap();
    let is_there = |name: &str| schemas(&server).contains(&vec![Some(name.to_owned())]);
    assert!(left.iter().any(|name| is_there(name)), "{left:?}");
    for name in left {
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
    for (contract, held, lacks) in [
        ("cache", 31, service::CACHE_LACKS),
        ("bus", 5, &[]),
        ("consensus", 31, service::CONSENSUS_LACKS),
    ] {
        service::check_holds(&uri, contract, held, lacks);
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
    service::cache_logins_stay_secret(&wrong, [&at("me:hush%"), &at("me:hu?sh")]);
    run(&["cache", "get", &wrong, "k"]).fails(5, "28P01");
    let right = at("me:hush");
    let ran = run(&["cache", "get", &right, "k"]);
    assert!(!ran.stderr.contains("hush"), "{}", ran.stderr);
    ran.fails(3, "no entry");
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
