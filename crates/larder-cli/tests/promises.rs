//! The edge cases of caches with tiers, over HTTP: a daemon of each read policy with memory in front of a
//! private Redis server, by a way that can be cut, and other daemons on the same server.
//!
//! What is loaded has no cases here: the daemon loads nothing. Those of the library are in
//! `larder/tests/cache/promises`; the table is in `docs/cache-promises.md`. Without the program
//! `redis-server` the tests are ignored and listed as such; with `LARDER_TEST_REQUIRE=redis` (or `all`) they fail instead.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and watches a real process"
)]

mod support;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use larder_testkit::Proxy;
use larder_testkit::service::RedisServer;
use libtest_mimic::{Arguments, Failed, Trial};
use support::{Answer, Call, Daemon};
use tempfile::TempDir;

type Case = fn(World);

/// What is tried, on a daemon of each read policy.
const CASES: &[(&str, Case)] = &[
    ("a_copy_ends_with_the_far_value", |world| block_on(ends(world))),
    ("a_copy_ends_at_the_near_maximum_if_that_is_sooner", |world| block_on(near_maximum(world))),
    ("short_lives_end_and_none_clears_what_was_there", |world| block_on(lives(world))),
    ("what_has_expired_is_never_chosen", |world| block_on(freshness(world))),
    ("a_tier_that_fails_is_a_miss", |world| block_on(failure(world))),
    ("a_stale_far_hit_is_copied_and_the_new_value_reaches_both", |world| block_on(stale(world))),
    ("what_was_removed_in_vain_is_not_served", |world| block_on(removed(world))),
    ("what_a_server_that_takes_no_writes_has_kept_is_not_served", |world| block_on(kept(world))),
    ("what_cannot_be_read_is_a_miss", |world| block_on(garbage(world))),
    ("many_requests_share_one_connection", |world| block_on(connections(world))),
    ("a_put_that_races_tells_of_both_and_reaches_both", |world| block_on(racing(world))),
];

fn main() -> ExitCode {
    let missing = RedisServer::missing();
    let required = std::env::var("LARDER_TEST_REQUIRE").unwrap_or_default();
    let required = required.split(',').any(|word| matches!(word.trim(), "all" | "redis"));
    let mut trials = Vec::new();
    for (name, case) in CASES {
        for read in ["sequential", "race", "parallel"] {
            let missing = missing.clone();
            let ignored = missing.is_some() && !required;
            let run = move || {
                if let Some(why) = missing {
                    return Err(Failed::from(why));
                }
                case(World::new(read));
                Ok(())
            };
            trials.push(Trial::test(format!("{read}::{name}"), run).with_ignored_flag(ignored));
        }
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn block_on(test: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build().unwrap().block_on(test);
}

struct World {
    read: &'static str,
    daemon: Daemon,
    other: Daemon,
    way: Proxy,
    server: RedisServer,
    folder: TempDir,
}

/// A daemon with memory in front of a server, and `more` in the config of that cache.
fn start(folder: &Path, server: &str, read: &str, more: &str) -> Daemon {
    std::fs::create_dir_all(folder).unwrap();
    Daemon::configured(
        folder,
        &format!(
            r#"
            [cache.default]
            l1 = "memory:?capacity=1MiB"
            l2 = "{server}?namespace=shop&timeout=20s"
            read = "{read}"
            {more}
            [spool.default]
            l1 = "memory:"
            [consensus]
            uri = "memory:"
            "#
        ),
    )
}

impl World {
    fn new(read: &'static str) -> Self {
        let (server, folder) = (RedisServer::start().unwrap(), tempfile::tempdir().unwrap());
        let way = Proxy::to_port(server.port()).unwrap();
        let uri = format!("redis://{}/0", way.address());
        let daemon = start(&folder.path().join("daemon"), &uri, read, "");
        let other = start(&folder.path().join("other"), &server.uri(0), "sequential", "");
        Self { read, daemon, other, way, server, folder }
    }

    /// One whose memory is empty.
    fn newcomer(&self, name: &str) -> Daemon {
        start(&self.folder.path().join(name), &self.server.uri(0), self.read, "")
    }
}

async fn put(
    daemon: &Daemon,
    key: &str,
    body: &'static str,
    life: &[(&'static str, &str)],
) -> Answer {
    let mut call = Call::put(format!("/v1/cache/default/{key}"), body);
    for (name, value) in life {
        call = call.with(name, *value);
    }
    daemon.call(call).await.is(204)
}

async fn get(daemon: &Daemon, key: &str) -> Answer {
    daemon.call(Call::get(format!("/v1/cache/default/{key}"))).await
}

/// What a get has to give.
async fn gives(daemon: &Daemon, key: &str, body: Option<&str>) -> Answer {
    let got = get(daemon, key).await;
    match body {
        Some(body) => {
            assert_eq!((got.status.as_u16(), &got.body[..]), (200, body.as_bytes()), "{key}");
        }
        None => assert_eq!(got.status.as_u16(), 404, "{key}: {:?}", got.body),
    }
    got
}

fn left(answer: &Answer) -> u64 {
    let left = answer.header("larder-ttl").unwrap().strip_suffix("ms").unwrap();
    left.parse().unwrap()
}

async fn ends(world: World) {
    // How much of a life is left when it is looked at is the machine's business: a longer one is tried.
    for life in [2_000, 8_000, 32_000] {
        let begun = Instant::now();
        put(&world.other, "k", "v", &[("larder-ttl", &format!("{life}ms"))]).await;
        let (far, near) = (get(&world.daemon, "k").await, get(&world.daemon, "k").await);
        if near.status == 404 && begun.elapsed() >= Duration::from_millis(life) {
            continue;
        }
        for (got, source) in [(&far, "l2"), (&near, "l1")] {
            assert_eq!((got.status.as_u16(), &got.body[..]), (200, &b"v"[..]));
            assert_eq!(got.header("larder-source"), Some(source));
        }
        assert!(left(&near) <= left(&far) && left(&far) <= life, "{near:?} {far:?}");
        tokio::time::sleep(Duration::from_millis(left(&near) + 1)).await;
        gives(&world.daemon, "k", None).await;
        return;
    }
    panic!("no life was long enough to be seen");
}

async fn near_maximum(world: World) {
    let (folder, server) = (world.folder.path().join("capped"), world.server.uri(0));
    let daemon = start(&folder, &server, world.read, "l1_ttl_max = \"1s\"");
    put(&world.other, "refilled", "v", &[("larder-ttl", "1h")]).await;
    put(&daemon, "written", "v", &[("larder-ttl", "1h")]).await;
    put(&daemon, "endless", "v", &[]).await;
    for key in ["refilled", "written", "endless"] {
        let near = 'copied: {
            // Again, in case that this machine has taken a second for two requests.
            for _ in 0..100 {
                let got = gives(&daemon, key, Some("v")).await;
                if got.header("larder-source") == Some("l1") {
                    break 'copied got;
                }
            }
            panic!("{key} is not copied");
        };
        assert!(left(&near) <= 1_000, "{key}: {near:?}");
        tokio::time::sleep(Duration::from_millis(left(&near) + 1)).await;
        let far = gives(&daemon, key, Some("v")).await;
        assert_eq!(far.header("larder-source"), Some("l2"), "{key}: it outlives its maximum");
        let of_an_hour = far.header("larder-ttl").is_some().then(|| left(&far) > 3_000_000);
        assert_ne!(of_an_hour, Some(false), "{key}: the far one keeps its life: {far:?}");
    }
    put(&world.other, "short", "v", &[("larder-ttl", "300ms")]).await;
    let got = get(&daemon, "short").await;
    if got.status.as_u16() == 200 {
        assert!(left(&got) <= 300);
        tokio::time::sleep(Duration::from_millis(left(&got) + 1)).await;
    }
    gives(&daemon, "short", None).await;
}

async fn lives(world: World) {
    let old = [("larder-ttl", "1h"), ("larder-stale-after", "30min")];
    for (key, life) in [("half", "500ms"), ("one", "1ms"), ("zero", "0s"), ("none", "")] {
        put(&world.daemon, key, "old", &old).await;
        let new = [("larder-ttl", life)];
        put(&world.daemon, key, "new", if life.is_empty() { &[] } else { &new }).await;
    }
    gives(&world.daemon, "zero", None).await;
    tokio::time::sleep(Duration::from_millis(501)).await;
    for daemon in [&world.daemon, &world.other] {
        for key in ["half", "one", "zero"] {
            gives(daemon, key, None).await;
        }
        let none = gives(daemon, "none", Some("new")).await;
        assert_eq!(none.header("larder-ttl"), None, "it lives until it is evicted");
    }
}

async fn freshness(world: World) {
    put(&world.daemon, "expired", "old", &[("larder-ttl", "100ms")]).await;
    put(&world.daemon, "stale", "old", &[("larder-stale-after", "100ms")]).await;
    put(&world.daemon, "replaced", "old", &[]).await;
    tokio::time::sleep(Duration::from_millis(101)).await;
    for key in ["expired", "stale", "replaced"] {
        put(&world.other, key, "new", &[("larder-ttl", "1min")]).await;
    }
    gives(&world.daemon, "expired", Some("new")).await;
    if world.read != "race" {
        gives(&world.daemon, "stale", Some("new")).await;
    }
    // Who does not ask both serves what he has, for as long as it is fresh.
    let newest = if world.read == "parallel" { "new" } else { "old" };
    gives(&world.daemon, "replaced", Some(newest)).await;
}

async fn failure(world: World) {
    put(&world.daemon, "near", "v", &[]).await;
    put(&world.other, "far", "v", &[]).await;
    world.way.cut();
    gives(&world.daemon, "near", Some("v")).await;
    gives(&world.daemon, "far", None).await;
    gives(&world.daemon, "nowhere", None).await;
    let written = put(&world.daemon, "new", "v", &[]).await;
    assert_eq!(written.header("larder-outcome"), Some("l1=done, l2=failed"));
    world.way.restore();
    world.daemon.reaches_its_far_tier().await;
    gives(&world.daemon, "far", Some("v")).await;
}

async fn stale(world: World) {
    let life = [("larder-ttl", "1h"), ("larder-stale-after", "0s")];
    put(&world.other, "k", "old", &life).await;
    for source in ["l2", "l1"] {
        let got = gives(&world.daemon, "k", Some("old")).await;
        assert_eq!(got.header("larder-freshness"), Some("stale"));
        assert!(left(&got) > 3_000_000, "it keeps its life");
        assert_eq!(got.header("larder-source"), Some(source));
    }
    let written = put(&world.daemon, "k", "new", &[]).await;
    assert_eq!(written.header("larder-outcome"), Some("l1=done, l2=done"));
    for daemon in [&world.daemon, &world.newcomer("newcomer")] {
        let got = gives(daemon, "k", Some("new")).await;
        assert_eq!(got.header("larder-freshness"), Some("fresh"));
    }
}

async fn removed(world: World) {
    for key in ["removed", "replaced"] {
        put(&world.daemon, key, "old", &[]).await;
    }
    world.way.cut();
    let removed = world.daemon.call(Call::delete("/v1/cache/default/removed")).await.is(200);
    assert_eq!(removed.json()["deleted"], 1, "the near tier had it");
    put(&world.daemon, "replaced", "new", &[("larder-ttl", "1ms")]).await;
    world.way.restore();
    tokio::time::sleep(Duration::from_millis(2)).await;
    for key in ["removed", "replaced"] {
        // The far tier has it still, or not any more; the daemon does not serve it either way.
        gives(&world.daemon, key, None).await;
    }
    world.daemon.is_even().await;
    let newcomer = world.newcomer("newcomer");
    for key in ["removed", "replaced"] {
        gives(&newcomer, key, None).await;
    }
}

async fn kept(world: World) {
    let refuse = |replicas: u8| {
        let set = world.server.command(&format!("CONFIG SET min-replicas-to-write {replicas}"));
        assert_eq!(set.unwrap(), "+OK\r\n");
    };
    for key in ["removed", "replaced"] {
        put(&world.daemon, key, "old", &[]).await;
    }
    // It answers every read, so nothing but what is known of it here keeps the old values back.
    refuse(1);
    let removed = world.daemon.call(Call::delete("/v1/cache/default/removed")).await.is(200);
    assert_eq!(removed.json()["deleted"], 1, "the near tier had it");
    let written = put(&world.daemon, "replaced", "new", &[("larder-ttl", "1ms")]).await;
    assert_eq!(written.header("larder-outcome"), Some("l1=done, l2=failed"));
    tokio::time::sleep(Duration::from_millis(2)).await;
    let newcomer = world.newcomer("before");
    for key in ["removed", "replaced"] {
        gives(&world.daemon, key, None).await;
        gives(&newcomer, key, Some("old")).await;
    }
    refuse(0);
    world.daemon.is_even().await;
    let newcomer = world.newcomer("after");
    for key in ["removed", "replaced"] {
        gives(&newcomer, key, None).await;
    }
}

async fn connections(world: World) {
    let opened = || -> u64 {
        let stats = world.server.command("INFO stats").unwrap();
        let count = stats.lines().find_map(|line| line.strip_prefix("total_connections_received:"));
        count.unwrap().trim().parse().unwrap()
    };
    put(&world.daemon, "k", "v", &[]).await;
    gives(&world.daemon, "nowhere", None).await;
    let before = opened();
    for n in 0..50 {
        put(&world.daemon, &format!("k{n}"), "v", &[]).await;
        gives(&world.daemon, &format!("nowhere{n}"), None).await;
        world.daemon.call(Call::delete(format!("/v1/cache/default/k{n}"))).await.is(200);
    }
    // One of them asks for the number.
    let more = opened() - before;
    assert!(more <= 10, "{more} connections for 150 requests");
}

async fn racing(world: World) {
    let (folder, way) = (world.folder.path().join("racing"), world.way.address());
    let daemon = start(&folder, &format!("redis://{way}/0"), world.read, "write = \"race\"");
    let written = put(&daemon, "k", "old", &[]).await;
    assert_eq!(written.header("larder-outcome"), Some("l1=done, l2=done"));
    gives(&world.newcomer("first"), "k", Some("old")).await;
    world.way.cut();
    let written = put(&daemon, "k", "new", &[]).await;
    assert_eq!(written.header("larder-outcome"), Some("l1=done, l2=failed"));
    world.way.restore();
    daemon.is_even().await;
    gives(&daemon, "k", Some("new")).await;
    gives(&world.newcomer("second"), "k", Some("new")).await;
}

async fn garbage(world: World) {
    // What each does to the value of every key in the database, and whether that stays: what is ours and
    // damaged does not.
    let harms = [
        ("'rubbish'", 1),
        ("''", 1),
        ("string.sub(v,1,-4)", 0),
        ("string.sub(v,1,20)", 1),
        ("string.sub(v,1,-2)..string.char(255-string.byte(v,-1))", 0),
        ("string.char(255-string.byte(v,1))..string.sub(v,2)", 1),
        ("string.rep(string.char(255),#v)", 1),
        // Behind the head of an entry the record says of which layout it is: another release's.
        ("string.sub(v,1,42)..string.char(2)..string.sub(v,44)", 1),
    ];
    for (n, (harm, stays)) in harms.iter().enumerate() {
        put(&world.other, "k", "v", &[]).await;
        let script = format!(
            "EVAL \"local n=0 for _,k in ipairs(redis.call('KEYS','*')) do \
             local v=redis.call('GET',k) redis.call('SET',k,{harm}) n=n+1 end return n\" 0"
        );
        assert_eq!(world.server.command(&script).unwrap(), ":1\r\n", "{harm}");
        let newcomer = world.newcomer(&format!("newcomer-{n}"));
        gives(&newcomer, "k", None).await;
        let status = newcomer.call(Call::get("/v1/status")).await.json();
        let tier = &status["caches"]["default"]["tiers"][1];
        assert_eq!(tier["errors"], 0, "{harm}: {tier}");
        assert_eq!(tier["misses"], 1, "{harm}: {tier}");
        assert_eq!(world.server.command("DBSIZE").unwrap(), format!(":{stays}\r\n"), "{harm}");
        let written = put(&newcomer, "k", "again", &[]).await;
        assert_eq!(written.header("larder-outcome"), Some("l1=done, l2=done"), "{harm}");
        gives(&world.newcomer(&format!("next-{n}")), "k", Some("again")).await;
        assert_eq!(world.server.command("FLUSHDB").unwrap(), "+OK\r\n");
        world.other.call(Call::delete("/v1/cache/default/k")).await;
    }
}
