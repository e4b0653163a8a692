//! The real binary with a cache tier in a private Redis server.
//!
//! Without the program `redis-server` the tests are ignored and listed as such; with
//! `LARDER_TEST_REQUIRE=redis` (or `all`) they fail instead.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test fails by panicking, watches a real process, and says where it is"
)]

mod support;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use larder_testkit::Proxy;
use larder_testkit::service::RedisServer;
use support::{
    Call, Daemon, block_on, check_that_fails, check_that_is_interrupted, in_the_end, run, service,
};

const TESTS: &[(&str, fn())] = &[
    ("an_entry_is_put_found_and_removed", entry),
    ("check_tries_every_law_and_leaves_nothing", check),
    ("check_tries_every_law_of_a_bus", check_bus),
    ("a_check_that_fails_or_is_interrupted_leaves_nothing", check_that_does_not_end_well),
    ("what_a_check_cannot_remove_it_names", check_without_server),
    ("bench_leaves_nothing", bench),
    ("a_password_is_nowhere_in_what_is_said", password),
    ("a_daemon_shares_its_second_tier", shared_tier),
    ("daemons_that_compress_and_daemons_that_do_not_read_each_other", compression),
    ("a_daemon_starts_and_serves_without_the_server", without_server),
    ("a_daemon_tells_of_each_tier_and_leaves_one_alone_that_fails", tiers),
    ("what_a_killed_daemon_owed_does_not_return_with_the_next_one", killed_in_debt),
    ("daemons_tell_one_another_of_changes", coherent),
    ("within_the_bound_no_old_value_is_served_while_the_bus_is_cut", cut_bus),
    ("a_daemon_that_stood_still_serves_nothing_old", stood_still),
];

fn main() -> ExitCode {
    service::try_all("redis", RedisServer::missing().as_ref(), TESTS)
}

/// How many keys the database holds.
fn size(server: &RedisServer) -> String {
    server.command("DBSIZE").unwrap()
}

fn entry() {
    let server = RedisServer::start().unwrap();
    service::cache_entry(&format!("{}?namespace=cli", server.uri(0)));
}

fn check() {
    let server = RedisServer::start().unwrap();
    server.command("SET larder:mine untouched").unwrap();
    service::check_holds(&server.uri(0), "cache", 31, service::CACHE_LACKS);
    assert_eq!(size(&server), ":1\r\n", "keys were left or taken");
}

fn check_that_does_not_end_well() {
    let server = RedisServer::start().unwrap();
    server.command("SET larder_check_0:mine untouched").unwrap();
    check_that_fails(&format!("{}?max_value=1KiB", server.uri(0)), "cache");
    assert_eq!(size(&server), ":1\r\n", "keys were left or taken");
    check_that_is_interrupted(&server.uri(0), "cache");
    assert_eq!(size(&server), ":1\r\n", "keys were left or taken");
}

fn check_without_server() {
    let server = RedisServer::start().unwrap();
    let (how, kill) = ("delete the keys that begin with it", || server.kill());
    let left = service::check_without_server(&server.uri(0), "cache", kill, "the namespace", how);
    assert!(left.len() == 1 && left[0].starts_with("larder_check_"), "{left:?}");
}

fn check_bus() {
    let server = RedisServer::start().unwrap();
    for uri in ["memory:", &server.uri(0)] {
        service::check_holds(uri, "bus", 5, &[]);
    }
    assert_eq!(size(&server), ":0\r\n");
    server.kill();
    run(&["check", &server.uri(0), "--contract", "bus"]).fails(5, "cannot connect");
    run(&["check", "log:./x", "--contract", "bus"]).fails(2, "bus");
}

fn bench() {
    let server = RedisServer::start().unwrap();
    let words = ["--contract", "cache", "--seconds", "1", "--concurrency", "2", "--size", "100"];
    run(&[&["bench", &server.uri(0)], &words[..]].concat()).ok();
    assert_eq!(size(&server), ":0\r\n");
}

fn password() {
    let server = RedisServer::start_with(&["--requirepass", "hush"]).unwrap();
    let at = |login: &str| format!("redis://{login}@127.0.0.1:{}/0", server.port());
    let wrong = at(":hush-not");
    service::cache_logins_stay_secret(&wrong, [&at(":hush%"), &at("me:hu?sh")]);
    let right = at(":hush");
    run(&["cache", "get", &wrong, "k"]).fails(5, "WRONGPASS");
    let ran = run(&["cache", "get", &right, "k"]);
    assert!(!ran.stderr.contains("hush"), "{}", ran.stderr);
    ran.fails(3, "no entry");
    let ran = run(&["check", &right, "--contract", "cache", "--json"]).ok();
    assert!(!ran.text().contains("hush"));
}

/// A daemon with memory over a server.
fn daemon(folder: &std::path::Path, server: &RedisServer) -> Daemon {
    daemon_at(folder, &server.uri(0), "")
}

/// The same, with the server at this address and more settings of its cache. It waits for the server for
/// as long as a busy machine takes.
fn daemon_at(folder: &std::path::Path, server: &str, settings: &str) -> Daemon {
    daemon_that_waits("20s", folder, server, settings)
}

/// The same, with this limit for each call of the server.
fn daemon_that_waits(
    limit: &str,
    folder: &std::path::Path,
    server: &str,
    settings: &str,
) -> Daemon {
    Daemon::configured(
        folder,
        &format!(
            r#"
            [cache.default]
            l1 = "memory:?capacity=1MiB"
            l2 = "{server}?namespace=shop&timeout={limit}"
            {settings}
            [spool.default]
            l1 = "memory:"
            [consensus]
            uri = "memory:"
            "#
        ),
    )
}

fn compression() {
    let server = RedisServer::start().unwrap();
    let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let settings = ["", "compress = \"zstd\"", "compress = \"lz4\"\ncompress_from = \"100B\""];
    let daemons: Vec<Daemon> = folders
        .iter()
        .zip(settings)
        .map(|(folder, settings)| daemon_at(folder.path(), &server.uri(0), settings))
        .collect();
    let body = "the same words over and over, ".repeat(1_000);
    block_on(async {
        for (n, writer) in daemons.iter().enumerate() {
            let key = format!("/v1/cache/default/of-{n}");
            let before = stored_bytes(&server);
            assert_eq!(writer.call(Call::put(&key, body.clone())).await.status, 204);
            let taken = stored_bytes(&server) - before;
            assert_eq!(taken < body.len() as u64 / 4, n > 0, "daemon {n} stored {taken} bytes");
            for reader in &daemons {
                let got = reader.call(Call::get(&key)).await;
                assert_eq!((got.status.as_u16(), &got.body[..]), (200, body.as_bytes()));
            }
        }
    });
}

/// The bytes of all values in the database.
fn stored_bytes(server: &RedisServer) -> u64 {
    let script = "EVAL \"local n=0 for _,k in ipairs(redis.call('KEYS','*')) do n=n+redis.call('STRLEN',k) end return n\" 0";
    let answer = server.command(script).unwrap();
    answer.trim().trim_start_matches(':').parse().unwrap()
}

fn shared_tier() {
    let server = RedisServer::start().unwrap();
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [one, two] = [daemon(folders[0].path(), &server), daemon(folders[1].path(), &server)];
    block_on(async {
        let put = one.call(Call::put("/v1/cache/default/k", "hello")).await;
        assert_eq!(put.status, 204);
        assert_eq!(put.header("larder-outcome"), Some("l1=done, l2=done"));
        for source in ["l2", "l1"] {
            let got = two.call(Call::get("/v1/cache/default/k")).await;
            assert_eq!((got.status.as_u16(), &got.body[..]), (200, &b"hello"[..]));
            assert_eq!(got.header("larder-source"), Some(source));
        }
    });
}

fn without_server() {
    let server = RedisServer::start().unwrap();
    server.kill();
    let folder = tempfile::tempdir().unwrap();
    let daemon = daemon(folder.path(), &server);
    block_on(async {
        let put = daemon.call(Call::put("/v1/cache/default/k", "hello")).await;
        assert_eq!(put.status, 204);
        assert_eq!(put.header("larder-outcome"), Some("l1=done, l2=failed"));
        let got = daemon.call(Call::get("/v1/cache/default/k")).await;
        assert_eq!(got.header("larder-source"), Some("l1"));
        assert_eq!(daemon.call(Call::get("/v1/cache/default/none")).await.status, 404);
        server.restart().unwrap();
        daemon.reaches_its_far_tier().await;
    });
}

fn tiers() {
    let server = RedisServer::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (uri, settings) = (server.uri(0), "breaker_pause = \"100ms\"");
    let daemon = daemon_that_waits("2s", folder.path(), &uri, settings);
    let tiers = async || {
        let status = daemon.call(Call::get("/v1/status")).await.json();
        let tiers = &status["caches"]["default"]["tiers"];
        (tiers[0].clone(), tiers[1].clone())
    };
    block_on(async {
        daemon.call(Call::put("/v1/cache/default/k", "hello")).await;
        daemon.call(Call::get("/v1/cache/default/k")).await;
        daemon.call(Call::get("/v1/cache/default/none")).await;
        let (near, far) = tiers().await;
        assert_eq!(
            (&near["tier"], &far["tier"]),
            (&"default.memory".into(), &"default.redis".into())
        );
        assert_eq!((&near["hits"], &near["misses"]), (&1.into(), &1.into()));
        assert_eq!(
            (&far["hits"], &far["misses"], &far["errors"]),
            (&0.into(), &1.into(), &0.into())
        );
        assert_eq!((&near["breaker"], &far["breaker"]["state"]), (&().into(), &"closed".into()));

        server.pause().unwrap();
        let puts = (0..6).map(|n| daemon.call(Call::put(format!("/v1/cache/default/{n}"), "new")));
        for put in futures_util::future::join_all(puts).await {
            assert_eq!(put.header("larder-outcome"), Some("l1=done, l2=failed"));
        }
        let (_, far) = tiers().await;
        assert_eq!((&far["breaker"]["opened"], &far["owed_keys"]), (&1.into(), &6.into()), "{far}");
        let text = daemon.call(Call::get("/metrics")).await.body;
        let text = String::from_utf8(text.to_vec()).unwrap();
        for line in [
            "larder_cache_hits_total{cache=\"default\",tier=\"default.memory\"} 1",
            "larder_cache_tier_misses_total{cache=\"default\",tier=\"default.redis\"} 1",
            "larder_cache_tier_owed_keys{cache=\"default\",tier=\"default.redis\"} 6",
            "larder_cache_guard_open{tier=\"default.redis\"} 1",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
        assert!(
            text.contains("larder_cache_tier_breaker{cache=\"default\",tier=\"default.redis\"}")
        );

        server.resume().unwrap();
        in_the_end(async || {
            daemon.call(Call::get("/v1/cache/default/none")).await;
            let (_, far) = tiers().await;
            if far["breaker"]["state"] == "closed" { Ok(()) } else { Err(far.to_string()) }
        })
        .await;
    });
}

fn killed_in_debt() {
    // Without the setting it is as expected: what was removed comes back.
    for (settings, comes_back) in [("", true), ("debts = \"log:DEBTS\"", false)] {
        let server = RedisServer::start().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let debts = folder.path().join("debts");
        let settings = settings.replace("DEBTS", debts.to_str().unwrap());
        let way = Proxy::to_port(server.port()).unwrap();
        let start = || daemon_at(folder.path(), &format!("redis://{}/0", way.address()), &settings);
        let other_folder = tempfile::tempdir().unwrap();
        let get = async |daemon: &Daemon, key: &str| {
            let got = daemon.call(Call::get(format!("/v1/cache/default/{key}"))).await;
            (got.status.as_u16(), String::from_utf8_lossy(&got.body).into_owned())
        };
        block_on(async {
            let first = start();
            for key in ["removed", "replaced", "since"] {
                let put = first.call(Call::put(format!("/v1/cache/default/{key}"), "old")).await;
                assert_eq!(put.header("larder-outcome"), Some("l1=done, l2=done"));
            }
            way.cut();
            let removed = first.call(Call::delete("/v1/cache/default/removed")).await;
            assert_eq!(removed.status, 200);
            for key in ["replaced", "since"] {
                let put = first.call(Call::put(format!("/v1/cache/default/{key}"), "mine")).await;
                assert_eq!(put.header("larder-outcome"), Some("l1=done, l2=failed"));
            }
            first.kill_9();
            way.restore();
            let other = daemon(other_folder.path(), &server);
            let put = other.call(Call::put("/v1/cache/default/since", "theirs")).await;
            assert_eq!(put.header("larder-outcome"), Some("l1=done, l2=done"));

            let second = start();
            let seen = [get(&second, "removed").await, get(&second, "replaced").await];
            if comes_back {
                assert_eq!(seen, [(200, "old".to_owned()), (200, "old".to_owned())]);
                return;
            }
            assert_eq!(seen.map(|(status, _)| status), [404, 404]);
            second.is_even().await;
            // Nobody sees it any more, and what was put since is there.
            let third_folder = tempfile::tempdir().unwrap();
            let third = daemon(third_folder.path(), &server);
            assert_eq!(get(&third, "removed").await.0, 404);
            assert_eq!(get(&third, "replaced").await.0, 404);
            for daemon in [&second, &third] {
                assert_eq!(get(daemon, "since").await, (200, "theirs".to_owned()));
            }
            assert!(second.terminate().success());
            let list = run(&["spool", "ls", &support::log_uri(&debts)]).ok();
            assert_eq!(list.text().lines().count(), 1, "{}", list.text());
        });
    }
}

/// What a daemon on a bus promises here.
const STALENESS: Duration = Duration::from_millis(1_500);

/// Two daemons with memory over one server, whose ways to the bus can be cut.
struct Pair {
    daemons: [Daemon; 2],
    proxies: [Proxy; 2],
    _kept: ([tempfile::TempDir; 2], RedisServer),
}

impl Pair {
    fn start() -> Self {
        let server = RedisServer::start().unwrap();
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let proxies = [0, 1].map(|_| Proxy::to_port(server.port()).unwrap());
        let daemons = [0, 1].map(|at: usize| {
            Daemon::configured(
                folders[at].path(),
                &format!(
                    r#"
                    [cache.default]
                    l1 = "memory:?capacity=1MiB"
                    l2 = "{}?namespace=shop"
                    bus = "redis://{}/0?namespace=shop"
                    bus_staleness = "{}ms"
                    [spool.default]
                    l1 = "memory:"
                    [consensus]
                    uri = "memory:"
                    "#,
                    server.uri(0),
                    proxies[at].address(),
                    STALENESS.as_millis(),
                ),
            )
        });
        Self { daemons, proxies, _kept: (folders, server) }
    }

    /// Waits until both trust their copies, or one of them does not.
    async fn trust(&self, at: usize, trusted: bool) {
        let line = format!("larder_cache_bus_trusted{{cache=\"default\"}} {}", u8::from(trusted));
        in_the_end(async || {
            let metrics = self.daemons[at].call(Call::get("/metrics")).await;
            let there = String::from_utf8_lossy(&metrics.body).contains(&line);
            there.then_some(()).ok_or_else(|| format!("daemon {at} does not come to {line}"))
        })
        .await;
    }

    /// How well the second daemon hears the first.
    async fn bus(&self) -> serde_json::Value {
        let status = self.daemons[1].call(Call::get("/v1/status")).await.json();
        status["caches"]["default"]["bus"].clone()
    }

    async fn put(&self, at: usize, value: &'static str) {
        let put = self.daemons[at].call(Call::put("/v1/cache/default/k", value)).await;
        assert_eq!(put.header("larder-outcome"), Some("l1=done, l2=done"));
    }

    /// The value and which tier gave it.
    async fn get(&self, at: usize) -> (String, String) {
        let got = self.daemons[at].call(Call::get("/v1/cache/default/k")).await;
        let source = got.header("larder-source").unwrap_or_default().to_owned();
        (String::from_utf8(got.body.to_vec()).unwrap(), source)
    }

    /// A copy of `value` in the memory of both.
    async fn both_have(&self, value: &'static str) {
        self.put(0, value).await;
        in_the_end(async || {
            let (seen, source) = self.get(1).await;
            let has = seen == value && source == "l1";
            has.then_some(()).ok_or_else(|| format!("{seen} from {source}"))
        })
        .await;
    }

    /// When the second one was last asked that still served something else than `value`: how long an answer
    /// takes to come is the machine's business, and what it says is the daemon's.
    async fn until_it_has(&self, value: &str) -> Duration {
        let (start, mut old) = (Instant::now(), Duration::ZERO);
        in_the_end(async || {
            let asked = start.elapsed();
            let (seen, source) = self.get(1).await;
            if seen == value {
                return Ok(());
            }
            old = asked;
            Err(format!("{seen} from {source}"))
        })
        .await;
        old
    }
}

fn coherent() {
    let pair = Pair::start();
    block_on(async {
        pair.trust(0, true).await;
        pair.trust(1, true).await;
        for value in ["one", "two", "three", "four", "five"] {
            in_the_end(async || {
                pair.both_have("old").await;
                let before = pair.bus().await;
                pair.put(0, value).await;
                pair.until_it_has(value).await;
                let bus = pair.bus().await;
                // On a busy machine a heartbeat may be late, and then all copies go. Else it is the message
                // that did it: a copy that is believed has no other end.
                if bus["forgotten"] != before["forgotten"] || bus["trusted"] != true {
                    return Err(format!("all copies are forgotten again and again: {bus}"));
                }
                assert_eq!(bus["peers"], 1, "{bus}");
                assert!(bus["changes"].as_u64() > before["changes"].as_u64(), "{before} {bus}");
                Ok(())
            })
            .await;
        }
        pair.both_have("old").await;
        let removed = pair.daemons[0].call(Call::delete("/v1/cache/default/k")).await;
        assert_eq!(removed.status, 200);
        in_the_end(async || {
            let got = pair.daemons[1].call(Call::get("/v1/cache/default/k")).await;
            if got.status == 404 { Ok(()) } else { Err("a removed value stays".to_owned()) }
        })
        .await;
    });
    let Pair { daemons: [one, two], .. } = pair;
    assert!(one.terminate().success() && two.terminate().success());
}

fn cut_bus() {
    type Fault = fn(&Proxy);
    let pair = Pair::start();
    let faults: [(&str, usize, Fault); 4] = [
        ("the one that asks is cut off", 1, Proxy::cut),
        ("the one that asks hears nothing", 1, Proxy::hang),
        ("the one that writes is cut off", 0, Proxy::cut),
        ("the one that writes is not heard", 0, Proxy::hang),
    ];
    block_on(async {
        for (what, at, fault) in faults {
            pair.trust(0, true).await;
            pair.trust(1, true).await;
            pair.both_have("old").await;
            fault(&pair.proxies[at]);
            pair.put(0, "new").await;
            let old = pair.until_it_has("new").await;
            println!("{what}: the old value was served until {old:?} after the change");
            assert!(old < STALENESS, "{what}: {old:?}");
            pair.trust(1, false).await;
            // In doubt the bound holds as well, again and again.
            for value in ["newer", "newest"] {
                assert_eq!(pair.get(1).await.0, if value == "newer" { "new" } else { "newer" });
                pair.put(0, value).await;
                let old = pair.until_it_has(value).await;
                assert!(old < STALENESS, "{what}, in doubt: {old:?}");
            }
            pair.proxies[at].restore();
        }
        pair.trust(0, true).await;
        pair.trust(1, true).await;
        pair.both_have("old").await;
        pair.put(0, "last").await;
        assert!(pair.until_it_has("last").await < STALENESS);
    });
}

fn stood_still() {
    let pair = Pair::start();
    block_on(async {
        pair.trust(1, true).await;
        pair.both_have("old").await;
        pair.daemons[1].signal("-STOP");
        pair.put(0, "new").await;
        tokio::time::sleep(STALENESS).await;
        pair.daemons[1].signal("-CONT");
        assert_eq!(pair.get(1).await.0, "new");
    });
}
