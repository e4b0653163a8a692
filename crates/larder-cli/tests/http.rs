//! The HTTP interface of the real daemon: every route, and everything that is refused.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test fails by panicking, watches a real process, and says where it is"
)]

mod support;

use std::time::{Duration, Instant};

use support::{Call, Daemon, run};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A daemon in memory, with small limits.
fn in_memory(folder: &std::path::Path) -> Daemon {
    Daemon::configured(
        folder,
        r#"
        [cache.default]
        [cache.tiered]
        l1 = "memory:?capacity=1MiB"
        l2 = "memory:"
        [spool.default]
        l1 = "memory:"
        [consensus]
        uri = "memory:"
        [limits]
        body = "64KiB"
        "#,
    )
}

/// Begins a PUT of 4 bytes, and goes on when the daemon reads its body.
async fn begun_put(daemon: &Daemon) -> tokio::net::TcpStream {
    let mut stream = tokio::net::TcpStream::connect(&daemon.address).await.unwrap();
    let head = "PUT /v1/cache/default/k HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\n\
                content-length: 4\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let go_on = b"HTTP/1.1 100 Continue\r\n\r\n";
    let mut told = vec![0; go_on.len()];
    stream.read_exact(&mut told).await.unwrap();
    assert_eq!(told, go_on);
    stream
}

#[tokio::test]
async fn a_cache_entry_lives_as_long_as_its_ttl() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = in_memory(folder.path());
    let path = "/v1/cache/default/user%2F1%20%C3%A9";
    // How much of a life is left when it is looked at is the machine's business: a longer one is tried.
    for life in (0..8).map(|turn| 500_u64 << turn) {
        let put = Call::put(path, "hello").with("larder-ttl", format!("{life}ms"));
        let begun = Instant::now();
        daemon.call(put).await.is(204);
        let found = daemon.call(Call::get(path)).await;
        if found.status == 404 && begun.elapsed() >= Duration::from_millis(life) {
            continue;
        }
        let found = found.is(200);
        assert_eq!(found.body, "hello");
        assert_eq!(found.header("larder-source"), Some("l1"));
        assert_eq!(found.header("larder-freshness"), Some("fresh"));
        let left: u64 =
            found.header("larder-ttl").unwrap().strip_suffix("ms").unwrap().parse().unwrap();
        assert!(left <= life);
        tokio::time::sleep(Duration::from_millis(left + 1)).await;
        daemon.call(Call::get(path)).await.fails(404, "not-found");
        return;
    }
    panic!("no life was long enough to be seen");
}

#[tokio::test]
async fn a_cache_entry_without_a_ttl_stays_and_can_become_stale() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = in_memory(folder.path());
    let path = "/v1/cache/default/k";
    daemon.call(Call::put(path, "1").with("larder-ttl", "1ms")).await.is(204);
    daemon.call(Call::put(path, "2").with("larder-stale-after", "1ms")).await.is(204);
    tokio::time::sleep(Duration::from_millis(20)).await;
    let found = daemon.call(Call::get(path)).await.is(200);
    assert_eq!((found.body.as_ref(), found.header("larder-ttl")), (b"2".as_ref(), None));
    assert_eq!(found.header("larder-freshness"), Some("stale"));
    assert_eq!(daemon.call(Call::delete(path)).await.is(200).json()["deleted"], 1);
    daemon.call(Call::delete(path)).await.fails(404, "not-found");
    daemon.call(Call::put(path, "3")).await.is(204);
    daemon.call(Call::put(path, "4").with("larder-ttl", "0s")).await.is(204);
    daemon.call(Call::get(path)).await.fails(404, "not-found");
}

#[tokio::test]
async fn a_tag_removes_the_entries_that_have_it() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = in_memory(folder.path());
    for (key, tags) in [("a", "red, blue"), ("b", "blue"), ("c", "green")] {
        let path = format!("/v1/cache/default/{key}");
        daemon.call(Call::put(path, key).with("larder-tags", tags)).await.is(204);
    }
    daemon.call(Call::delete("/v1/cache/default?tag=blue")).await.is(200);
    daemon.call(Call::get("/v1/cache/default/a")).await.is(404);
    daemon.call(Call::get("/v1/cache/default/b")).await.is(404);
    daemon.call(Call::get("/v1/cache/default/c")).await.is(200);
}

#[tokio::test]
async fn a_tiered_cache_tells_what_became_of_each_layer() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = in_memory(folder.path());
    let put = daemon.call(Call::put("/v1/cache/tiered/k", "v")).await.is(204);
    assert_eq!(put.header("larder-outcome"), Some("l1=done, l2=done"));
    let found = daemon.call(Call::get("/v1/cache/tiered/k")).await.is(200);
    assert_eq!((found.body.as_ref(), found.header("larder-source")), (b"v".as_ref(), Some("l1")));
    assert_eq!(daemon.call(Call::delete("/v1/cache/tiered/k")).await.is(200).json()["deleted"], 2);
}

#[tokio::test]
async fn a_spool_entry_is_stored_listed_loaded_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path());
    let payload: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let stored = daemon.call(Call::post("/v1/spool/default", payload.clone())).await.is(201);
    let id = stored.json()["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/spool/default/{id}");
    assert_eq!(stored.header("location"), Some(path.as_str()));
    assert_eq!(daemon.call(Call::get(&path)).await.is(200).body, payload);

    let other = "/v1/spool/default/0190A1B2C3D47000800000000000ABCD";
    daemon.call(Call::put(other, "").with("larder-sync", "false")).await.is(204);
    assert!(daemon.call(Call::get(other)).await.is(200).body.is_empty());

    let listing = daemon.call(Call::get("/v1/spool/default")).await.is(200);
    assert_eq!(listing.header("content-type"), Some("application/x-ndjson"));
    let lines = listing.lines();
    assert_eq!(lines.len(), 3);
    let entry = lines.iter().find(|line| line["id"] == id).unwrap();
    assert_eq!(entry["size"], 100_000);
    assert!(entry["created"].as_str().unwrap().ends_with('Z'));
    let last = "{\"complete\":true,\"items\":2,\"corrupt\":0}\n";
    assert!(listing.body.ends_with(last.as_bytes()));

    daemon.call(Call::delete(&path)).await.is(204);
    daemon.call(Call::delete(&path)).await.is(204);
    daemon.call(Call::get(&path)).await.fails(404, "not-found");
    let compacted = daemon.call(Call::post("/v1/spool/default/compact", "")).await.is(200);
    assert_eq!(compacted.json()["entries"], 1);
}

#[tokio::test]
async fn a_long_listing_is_complete_also_for_a_slow_reader() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = in_memory(folder.path());
    let mut client = daemon.client().await;
    for _ in 0..3_000 {
        client.send(Call::post("/v1/spool/default", "x")).await.unwrap().is(201);
    }
    let mut stream = tokio::net::TcpStream::connect(&daemon.address).await.unwrap();
    stream.write_all(b"GET /v1/spool/default HTTP/1.0\r\n\r\n").await.unwrap();
    let (mut text, mut buffer) = (Vec::new(), vec![0; 16 << 10]);
    loop {
        let read = stream.read(&mut buffer).await.unwrap();
        if read == 0 {
            break;
        }
        text.extend_from_slice(&buffer[..read]);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let text = String::from_utf8(text).unwrap();
    assert_eq!(text.matches("\"size\":1").count(), 3_000);
    assert!(text.contains("\"complete\":true,\"items\":3000"), "{}", &text[text.len() - 100..]);
}

#[tokio::test]
async fn a_deadline_that_has_passed_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path());
    let path = "/v1/spool/default/0190a1b2c3d47000800000000000abcd";
    let late = Call::put(path, "late").with("larder-deadline", "0s");
    daemon.call(late).await.fails(504, "deadline");
    daemon.call(Call::get(path)).await.is(404);
    daemon.call(Call::put(path, "in time").with("larder-deadline", "30s")).await.is(204);
}

#[tokio::test]
async fn versions_are_set_read_scanned_and_truncated() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path());
    let path = "/v1/consensus/leader%2Fa";
    daemon.call(Call::get(path)).await.fails(404, "not-found");
    let first = Call::put(format!("{path}?seqno=1"), "v1").with("if-none-match", "*");
    assert_eq!(daemon.call(first.clone()).await.is(200).header("etag"), Some("\"1\""));
    let lost = daemon.call(first).await.fails(412, "condition-not-met");
    assert_eq!((lost.header("etag"), lost.json()["current"].as_u64()), (Some("\"1\""), Some(1)));
    let second = Call::put(format!("{path}?seqno=5"), vec![0, 255]).with("if-match", "\"1\"");
    assert_eq!(daemon.call(second).await.is(200).header("etag"), Some("\"5\""));
    let head = daemon.call(Call::get(path)).await.is(200);
    assert_eq!((head.body.as_ref(), head.header("etag")), ([0, 255].as_ref(), Some("\"5\"")));

    let empty = Call::put("/v1/consensus/none?seqno=9", "x").with("if-match", "\"3\"");
    let empty = daemon.call(empty).await.fails(412, "condition-not-met");
    assert!(empty.header("etag").is_none() && empty.json()["current"].is_null());

    let versions = daemon.call(Call::get(format!("{path}/versions"))).await.is(200).json();
    assert_eq!(
        versions,
        serde_json::json!([
            { "seqno": 1, "data": "djE=" }, { "seqno": 5, "data": "AP8=" },
        ])
    );
    let from = daemon.call(Call::get(format!("{path}/versions?from=2&limit=1"))).await.is(200);
    assert_eq!(from.json()[0]["seqno"], 5);
    let none = daemon.call(Call::get(format!("{path}/versions?from=6"))).await.is(200);
    assert_eq!(none.json(), serde_json::json!([]));

    let keys = daemon.call(Call::get("/v1/consensus")).await.is(200).lines();
    assert_eq!(keys[0]["key"], "leader/a");
    assert_eq!(keys[1], serde_json::json!({ "complete": true, "items": 1 }));

    let truncate = |before: u64| Call::delete(format!("{path}/versions?before={before}"));
    assert_eq!(daemon.call(truncate(5)).await.is(200).json()["deleted"], 1);
    assert_eq!(daemon.call(truncate(5)).await.is(200).json()["deleted"], 0);
    daemon.call(truncate(6)).await.fails(409, "above-head");
    let missing = Call::delete("/v1/consensus/none/versions?before=0");
    daemon.call(missing).await.fails(404, "not-found");
}

#[tokio::test]
async fn of_two_writers_that_expect_the_same_one_wins() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path());
    let path = "/v1/consensus/k";
    let first = Call::put(format!("{path}?seqno=0"), "0").with("if-none-match", "*");
    daemon.call(first).await.is(200);
    for round in 0..50_u64 {
        let next = round + 1;
        let write = |who: &'static str| {
            let call = Call::put(format!("{path}?seqno={next}"), who);
            daemon.call(call.with("if-match", format!("\"{round}\"")))
        };
        let (a, b) = tokio::join!(write("a"), write("b"));
        let (won, lost) = if a.status.as_u16() == 200 { (a, b) } else { (b, a) };
        let tag = format!("\"{next}\"");
        assert_eq!(won.is(200).header("etag"), Some(tag.as_str()));
        let lost = lost.fails(412, "condition-not-met");
        assert_eq!(lost.header("etag"), Some(tag.as_str()));
    }
}

#[tokio::test]
async fn operators_see_health_metrics_status_and_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path());
    let secret = "/v1/cache/default/secret-key";
    daemon.call(Call::put(secret, "v")).await.is(204);
    daemon.call(Call::get(secret)).await.is(200);
    daemon.call(Call::post("/v1/spool/default", "v")).await.is(201);
    daemon.call(Call::get("/v1/consensus/secret-key")).await.is(404);
    daemon.call(Call::get("/healthz")).await.is(200);
    assert_eq!(daemon.call(Call::get("/readyz")).await.is(200).json()["ready"], true);

    let status = daemon.call(Call::get("/v1/status")).await.is(200).json();
    assert_eq!(status["operations"]["cache_get"]["requests"], 1);
    assert_eq!(status["spools"]["default"]["entries"], 1);
    assert_eq!(status["spools"]["default"]["durability"], "power");
    assert_eq!(status["caches"]["default"]["hits"], 1);
    assert_eq!(status["caches"]["default"]["capacity"], 256 << 20);
    assert_eq!(status["pid"], daemon.pid());

    let metrics = daemon.call(Call::get("/metrics")).await.is(200);
    let metrics = String::from_utf8(metrics.body.to_vec()).unwrap();
    let counted = "larder_http_requests_total{method=\"GET\",route=\"/v1/cache/{cache}/{key}\",\
                   status=\"200\"} 1";
    assert!(metrics.contains(counted), "{metrics}");
    assert!(metrics.contains("larder_spool_entries{spool=\"default\"} 1"), "{metrics}");
    assert!(metrics.contains("larder_http_request_duration_seconds_bucket{"), "{metrics}");
    let head = "{store=\"default\",operation=\"head\",outcome=\"ok\"} 1";
    assert!(metrics.contains(&format!("larder_consensus_calls_total{head}")), "{metrics}");
    assert!(metrics.contains("larder_consensus_duration_seconds_bucket{"), "{metrics}");
    assert!(!metrics.contains("secret-key"));

    let page = daemon.call(Call::get("/")).await.is(200);
    assert!(page.header("content-type").unwrap().starts_with("text/html"));
    assert!(page.header("content-security-policy").is_some());
    let page = String::from_utf8(page.body.to_vec()).unwrap();
    assert!(page.contains("/v1/status"));
    let hosts = page.replace("http://www.w3.org/2000/svg", "");
    assert!(!hosts.contains("http://") && !hosts.contains("https://"), "the page needs no host");
}

/// Bad input, and what it is answered with. Nothing of it may change anything.
#[tokio::test]
#[expect(clippy::too_many_lines, reason = "it is a table")]
async fn bad_requests_are_refused_by_name_and_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = in_memory(folder.path());
    let put = |path: &str| Call::put(path, "x");
    let cas = |path: &str| Call::put(path, "x").with("if-none-match", "*");
    let id = "0190a1b2c3d47000800000000000abcd";
    let long = "k".repeat(1025);
    let too_large = vec![0_u8; (64 << 10) + 1];
    let spool_id = format!("/v1/spool/default/{id}");
    let table: Vec<(&str, Call, u16, &str)> = vec![
        ("no such route", Call::get("/v2/cache"), 404, "no-such-route"),
        ("slash in a key", put("/v1/cache/default/a/b"), 404, "no-such-route"),
        ("empty key", put("/v1/cache/default/"), 404, "no-such-route"),
        ("wrong method", Call::post("/v1/consensus/k", "x"), 405, "method-not-allowed"),
        ("unknown cache", put("/v1/cache/nope/k"), 404, "no-such-cache"),
        ("unknown cache, tag", Call::delete("/v1/cache/nope?tag=t"), 404, "no-such-cache"),
        ("unknown spool", Call::post("/v1/spool/nope", "x"), 404, "no-such-spool"),
        ("unknown spool, list", Call::get("/v1/spool/nope"), 404, "no-such-spool"),
        ("key with a NUL", put("/v1/cache/default/a%00b"), 400, "bad-key"),
        ("consensus key with a NUL", cas("/v1/consensus/a%00b?seqno=1"), 400, "bad-key"),
        ("long key", put(&format!("/v1/cache/default/{long}")), 400, "bad-key"),
        ("long consensus key", cas(&format!("/v1/consensus/{long}?seqno=1")), 400, "bad-key"),
        ("stray percent", put("/v1/cache/default/a%zz"), 400, "bad-encoding"),
        ("cut percent", put("/v1/cache/default/a%4"), 400, "bad-encoding"),
        ("not UTF-8", put("/v1/cache/default/%FF"), 400, "bad-encoding"),
        (
            "ttl without a unit",
            put("/v1/cache/default/k").with("larder-ttl", "30"),
            400,
            "bad-header",
        ),
        ("negative ttl", put("/v1/cache/default/k").with("larder-ttl", "-1s"), 400, "bad-header"),
        (
            "stale is no time",
            put("/v1/cache/default/k").with("larder-stale-after", "x"),
            400,
            "bad-header",
        ),
        (
            "two ttls",
            put("/v1/cache/default/k").with("larder-ttl", "1s").with("larder-ttl", "2s"),
            400,
            "bad-header",
        ),
        ("empty tag", put("/v1/cache/default/k").with("larder-tags", "a,,b"), 400, "bad-tag"),
        ("tag is missing", Call::delete("/v1/cache/default"), 400, "bad-tag"),
        ("unknown parameter", put("/v1/cache/default/k?ttl=30s"), 400, "bad-parameter"),
        (
            "cache body too large",
            Call::put("/v1/cache/default/k", too_large.clone()),
            413,
            "too-large",
        ),
        (
            "spool body too large",
            Call::post("/v1/spool/default", too_large.clone()),
            413,
            "too-large",
        ),
        (
            "consensus body too large",
            Call::put("/v1/consensus/k?seqno=1", too_large).with("if-none-match", "*"),
            413,
            "too-large",
        ),
        ("id that is not one", put("/v1/spool/default/123"), 400, "bad-id"),
        (
            "id with other digits",
            Call::get(format!("/v1/spool/default/{}g", &id[..31])),
            400,
            "bad-id",
        ),
        ("sync is neither", put(&spool_id).with("larder-sync", "yes"), 400, "bad-header"),
        (
            "delete: sync is neither",
            Call::delete(&spool_id).with("larder-sync", "1"),
            400,
            "bad-header",
        ),
        ("deadline is no time", put(&spool_id).with("larder-deadline", "soon"), 400, "bad-header"),
        ("no condition", put("/v1/consensus/k?seqno=1"), 400, "bad-condition"),
        (
            "both conditions",
            cas("/v1/consensus/k?seqno=1").with("if-match", "\"1\""),
            400,
            "bad-condition",
        ),
        (
            "condition without quotes",
            put("/v1/consensus/k?seqno=1").with("if-match", "0"),
            400,
            "bad-condition",
        ),
        (
            "weak condition",
            put("/v1/consensus/k?seqno=1").with("if-match", "W/\"0\""),
            400,
            "bad-condition",
        ),
        ("any version", put("/v1/consensus/k?seqno=1").with("if-match", "*"), 400, "bad-condition"),
        ("no seqno", cas("/v1/consensus/k"), 400, "bad-seqno"),
        ("seqno is no number", cas("/v1/consensus/k?seqno=one"), 400, "bad-seqno"),
        (
            "seqno above i64::MAX",
            cas("/v1/consensus/k?seqno=9223372036854775808"),
            400,
            "bad-seqno",
        ),
        (
            "seqno above u64::MAX",
            cas("/v1/consensus/k?seqno=99999999999999999999"),
            400,
            "bad-seqno",
        ),
        (
            "expected above i64::MAX",
            put("/v1/consensus/k?seqno=1").with("if-match", "\"9223372036854775808\""),
            400,
            "bad-condition",
        ),
        (
            "seqno does not grow",
            put("/v1/consensus/k?seqno=5").with("if-match", "\"5\""),
            400,
            "invalid-argument",
        ),
        (
            "limit is too large",
            Call::get("/v1/consensus/k/versions?limit=1000000"),
            400,
            "bad-limit",
        ),
        ("before is missing", Call::delete("/v1/consensus/k/versions"), 400, "bad-seqno"),
        (
            "truncate without data",
            Call::delete("/v1/consensus/k/versions?before=0"),
            404,
            "not-found",
        ),
    ];
    for (name, call, status, code) in table {
        println!("{name}");
        let answer = daemon.call(call).await.fails(status, code);
        assert_eq!(answer.header("allow").is_some(), status == 405, "{name}");
    }
    daemon.call(Call::get("/v1/cache/default/k")).await.is(404);
    assert_eq!(daemon.call(Call::get("/v1/spool/default")).await.lines().len(), 1);
    assert_eq!(daemon.call(Call::get("/v1/consensus")).await.lines().len(), 1);
}

#[tokio::test]
async fn a_chunked_body_is_bounded_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = in_memory(folder.path());
    let mut stream = tokio::net::TcpStream::connect(&daemon.address).await.unwrap();
    let head = "POST /v1/spool/default HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
                transfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = format!("2000\r\n{}\r\n", "x".repeat(0x2000));
    for _ in 0..20 {
        stream.write_all(chunk.as_bytes()).await.unwrap();
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert_eq!(daemon.call(Call::get("/v1/spool/default")).await.lines().len(), 1);
}

#[tokio::test]
async fn clients_that_stand_still_are_let_go() {
    let folder = tempfile::tempdir().unwrap();
    let limits = "[limits]\nhead_timeout = \"2s\"\nidle_timeout = \"1s\"\n";
    let daemon = Daemon::configured(folder.path(), limits);
    // The head never ends; the body stops; nothing is ever asked.
    let half_head = "GET /healthz HTTP/1.1\r\nhost:";
    let half_body =
        "POST /v1/spool/default HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\nhalf";
    for sent in [half_head, half_body, ""] {
        let mut stream = tokio::net::TcpStream::connect(&daemon.address).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let ended = stream.read_to_string(&mut answer);
        let ended = tokio::time::timeout(Duration::from_mins(1), ended).await;
        assert!(ended.is_ok(), "still connected after: {sent:?}");
        if sent == half_body {
            assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        }
    }
    assert_eq!(daemon.call(Call::get("/v1/spool/default")).await.lines().len(), 1);
}

#[tokio::test]
async fn a_spool_that_is_full_says_when_to_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let config = "[spool.default]\nl1 = \"memory:?capacity=1KiB\"\n";
    let daemon = Daemon::configured(folder.path(), config);
    daemon.call(Call::post("/v1/spool/default", vec![0; 1_000])).await.is(201);
    let full = daemon.call(Call::post("/v1/spool/default", vec![0; 1_000])).await;
    assert!(full.fails(503, "full").header("retry-after").is_some());
    let large = daemon.call(Call::post("/v1/spool/default", vec![0; 2_000])).await;
    large.fails(413, "too-large");
}

#[tokio::test]
async fn an_unhealthy_spool_refuses_writes_serves_reads_and_is_not_ready() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path());
    let stored = daemon.call(Call::post("/v1/spool/default", "kept")).await.is(201);
    let path = format!("/v1/spool/default/{}", stored.json()["id"].as_str().unwrap());
    daemon.terminate();
    let spool = folder.path().join("spool");
    std::fs::remove_file(spool.join("MANIFEST")).unwrap();

    let daemon = Daemon::start(folder.path());
    let refused = daemon.call(Call::post("/v1/spool/default", "x")).await.fails(503, "unhealthy");
    assert!(refused.header("retry-after").is_some());
    let ready = daemon.call(Call::get("/readyz")).await.is(503);
    let reason = ready.json()["reasons"][0].as_str().unwrap().to_owned();
    assert!(reason.starts_with("spool default: "), "{reason}");
    daemon.call(Call::get("/healthz")).await.is(200);
    assert_eq!(daemon.call(Call::get(&path)).await.is(200).body, "kept");
    daemon.call(Call::get("/v1/spool/default")).await.is(200);
    daemon.call(Call::put("/v1/cache/default/k", "v")).await.is(204);
    let metrics = daemon.call(Call::get("/metrics")).await.is(200).body;
    let metrics = String::from_utf8(metrics.to_vec()).unwrap();
    assert!(metrics.contains("larder_spool_healthy{spool=\"default\"} 0"), "{metrics}");
    let condition = |name: &str| format!("condition{{spool=\"default\",condition=\"{name}\"}}");
    assert!(metrics.contains(&(condition("structural-damage") + " 2")), "{metrics}");
    assert!(metrics.contains(&(condition("no-space") + " 0")), "{metrics}");
    assert!(metrics.contains("larder_spool_gate_refused_total{spool=\"default\"} 1"), "{metrics}");
    let status = daemon.call(Call::get("/v1/status")).await.is(200).json();
    let health = &status["spools"]["default"]["health"];
    assert_eq!(health["state"], "shedding");
    assert_eq!(health["conditions"][0]["name"], "structural-damage");
    assert!(health["conditions"][0]["since"].is_string(), "{health}");
    daemon.terminate();

    run(&["spool", "acknowledge", &support::log_uri(&spool)]).ok();
    let daemon = Daemon::start(folder.path());
    daemon.call(Call::get("/readyz")).await.is(200);
    daemon.call(Call::post("/v1/spool/default", "x")).await.is(201);
}

#[tokio::test]
async fn sigterm_lets_running_requests_finish() {
    let folder = tempfile::tempdir().unwrap();
    let mut daemon = in_memory(folder.path());
    let mut stream = begun_put(&daemon).await;
    stream.write_all(b"ha").await.unwrap();
    let mut idle = daemon.client().await;
    idle.send(Call::get("/healthz")).await.unwrap().is(200);
    daemon.signal("-TERM");
    daemon.turns_clients_away().await;
    stream.write_all(b"lf").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
    assert_eq!(daemon.wait().code(), Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut daemon = in_memory(folder.path());
    let _busy = begun_put(&daemon).await;
    daemon.signal("-INT");
    // Both at once might be taken for one.
    daemon.turns_clients_away().await;
    daemon.signal("-INT");
    // Whom the request keeps until it ends, or is cut off, ends well.
    assert_eq!(daemon.wait().code(), Some(1));
}

#[tokio::test]
async fn what_was_stored_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path());
    let stored = daemon.call(Call::post("/v1/spool/default", "kept")).await.is(201);
    let first = Call::put("/v1/consensus/k?seqno=3", "v3").with("if-none-match", "*");
    daemon.call(first).await.is(200);
    assert_eq!(daemon.terminate().code(), Some(0));
    for contract in ["spool", "consensus"] {
        let folder = folder.path().join(contract);
        let verified = run(&["verify", folder.to_str().unwrap(), "--json"]).ok();
        assert_eq!(verified.objects()[0]["sound"], true);
        assert_eq!(verified.objects()[0]["clean"], true, "{contract}");
    }
    let daemon = Daemon::start(folder.path());
    let path = format!("/v1/spool/default/{}", stored.json()["id"].as_str().unwrap());
    assert_eq!(daemon.call(Call::get(path)).await.is(200).body, "kept");
    assert_eq!(
        daemon.call(Call::get("/v1/consensus/k")).await.is(200).header("etag"),
        Some("\"3\"")
    );
}
