//! What is in the server, and what others put there.

use std::time::Duration;

use larder::{
    CacheError, Clock, Condition, DeleteStatus, Effect, Failure, SystemClock, Tier, WriteStatus,
};
use larder_testkit::service::RedisServer;

use crate::place::{cache, data, key, text, version};

pub(crate) async fn the_server_is_told_the_life_that_is_left() {
    let server = RedisServer::shared().unwrap();
    let cache = cache(&server, "namespace=life");
    let now = SystemClock.now();
    let k = key("k");
    let left = || {
        let answer = server.command("PTTL life:k").unwrap();
        answer.trim().strip_prefix(':').unwrap().parse::<i64>().unwrap()
    };
    for condition in [Condition::Always, Condition::IfNewerThan(version(9))] {
        let short = text("x").with_ttl(now, Duration::from_mins(1));
        cache.write(k.as_ref(), short, condition).await.unwrap();
        assert!((50_000..=60_000).contains(&left()), "{condition:?}: {}", left());
        cache.write(k.as_ref(), text("x"), condition).await.unwrap();
        assert_eq!(left(), -1, "{condition:?}: a write without an expiry left the old one");
    }
    // Less than a millisecond is rounded up, and the server frees the memory by itself.
    let soon = text("x").with_ttl(SystemClock.now(), Duration::from_micros(300));
    cache.write(k.as_ref(), soon, Condition::Always).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(left(), -2);
}

pub(crate) async fn namespaces_do_not_meet() {
    let server = RedisServer::shared().unwrap();
    let caches = ["meet", "mee", "meet2"].map(|name| cache(&server, &format!("namespace={name}")));
    let k = key("k:*?[a]");
    for (cache, number) in caches.iter().zip(["0", "1", "2"]) {
        cache.write(k.as_ref(), text(number), Condition::Always).await.unwrap();
    }
    // More keys than the server looks at in one step.
    let many: Vec<_> = (0..3_000).map(|number| (key(&format!("n{number}")), text("x"))).collect();
    caches[0].write_many(many.clone(), Condition::Always).await.unwrap();
    caches[0].clear().await.unwrap();
    assert_eq!(data(&caches[0], &k).await, None);
    let refs: Vec<_> = many.iter().map(|(key, _)| key.as_ref()).collect();
    let left = caches[0].read_many(&refs).await.unwrap();
    assert!(left.iter().all(Option::is_none), "a clear left entries");
    assert_eq!(data(&caches[1], &k).await.unwrap(), "1");
    assert_eq!(data(&caches[2], &k).await.unwrap(), "2");
}

pub(crate) async fn what_another_program_wrote_is_a_miss_and_gives_way() {
    let server = RedisServer::shared().unwrap();
    let cache = cache(&server, "namespace=foreign");
    let others = ["SET foreign:k someting-else", "SET foreign:k x", "RPUSH foreign:k a list"];
    for other in others {
        let k = key("k");
        let put = || {
            server.command("DEL foreign:k").unwrap();
            server.command(other).unwrap();
        };
        put();
        assert_eq!(data(&cache, &k).await, None, "{other}");
        assert_eq!(cache.read_many(&[k.as_ref()]).await.unwrap(), [None], "{other}");

        // What does not count is not there for a condition, and stays when it does not hold.
        for refused in [Condition::IfVersionIs(None), Condition::IfVersionIs(Some(version(1)))] {
            let written = cache.write(k.as_ref(), text("ours"), refused).await.unwrap();
            assert_eq!(written, WriteStatus::NOT_NEWER, "{other}");
        }
        let newer = Condition::IfNewerThan(version(1));
        assert_eq!(cache.remove(k.as_ref(), newer).await.unwrap(), DeleteStatus::Missing);
        assert_eq!(server.command("EXISTS foreign:k").unwrap(), ":1\r\n", "{other}");

        assert!(cache.write(k.as_ref(), text("ours"), newer).await.unwrap().applied, "{other}");
        assert_eq!(data(&cache, &k).await.unwrap(), "ours");
        put();
        cache.write(k.as_ref(), text("ours"), Condition::Always).await.unwrap();
        assert_eq!(data(&cache, &k).await.unwrap(), "ours");
        put();
        cache.remove(k.as_ref(), Condition::Always).await.unwrap();
        assert_eq!(server.command("EXISTS foreign:k").unwrap(), ":0\r\n", "{other}");
    }
}

pub(crate) async fn a_value_above_the_limit_is_refused_and_the_others_are_written() {
    let server = RedisServer::shared().unwrap();
    let cache = cache(&server, "namespace=large&max_value=1KiB");
    let [a, b, c] = ["a", "b", "c"].map(key);
    cache.write(b.as_ref(), text("old"), Condition::Always).await.unwrap();
    let fits = text(&"x".repeat(1_024));
    let large = text(&"x".repeat(1_025));
    let error = cache.write(b.as_ref(), large.clone(), Condition::Always).await.unwrap_err();
    assert!(matches!(error, CacheError::TooLarge { bytes: 1_025, bytes_max: 1_024 }), "{error:?}");
    assert_eq!(error.effect(), Effect::NotApplied);
    let entries = vec![(a.clone(), fits.clone()), (b.clone(), large), (c.clone(), fits.clone())];
    let error = cache.write_many(entries, Condition::Always).await.unwrap_err();
    assert!(matches!(error, CacheError::TooLarge { .. }), "{error:?}");
    assert_eq!(data(&cache, &a).await, Some(fits.data.clone()));
    assert_eq!(data(&cache, &b).await.unwrap(), "old");
    assert_eq!(data(&cache, &c).await, Some(fits.data));
}

pub(crate) async fn a_forgotten_script_is_loaded_again() {
    let server = RedisServer::start().unwrap();
    let cache = cache(&server, "namespace=script");
    let k = key("k");
    for number in 1..4 {
        server.command("SCRIPT FLUSH").unwrap();
        let value = text("x").with_version(version(number));
        let newer = Condition::IfNewerThan(version(number));
        assert!(cache.write(k.as_ref(), value, newer).await.unwrap().applied, "{number}");
    }
    server.command("SCRIPT FLUSH").unwrap();
    let keys: Vec<_> = (0..50).map(|number| key(&format!("k{number}"))).collect();
    let entries = keys.iter().map(|key| (key.clone(), text("x").with_version(version(1))));
    let newer = Condition::IfNewerThan(version(1));
    let written = cache.write_many(entries.collect(), newer).await.unwrap();
    assert_eq!(written, [WriteStatus::WRITTEN; 50]);
    server.command("SCRIPT FLUSH").unwrap();
    let refs: Vec<_> = keys.iter().map(larder::Key::as_ref).collect();
    let removed = cache.remove_many(&refs, Condition::IfNewerThan(version(2))).await.unwrap();
    assert_eq!(removed, [DeleteStatus::Deleted(1); 50]);
}

pub(crate) async fn all_calls_share_one_connection() {
    let server = RedisServer::start().unwrap();
    let cache = std::sync::Arc::new(cache(&server, "namespace=one&timeout=10s"));
    let before = received(&server);
    let calls = (0..200).map(|number| {
        let cache = std::sync::Arc::clone(&cache);
        tokio::spawn(async move {
            let k = key(&format!("k{number}"));
            let value = text(&number.to_string());
            cache.write(k.as_ref(), value.clone(), Condition::Always).await.unwrap();
            assert_eq!(data(&*cache, &k).await, Some(value.data));
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap();
    }
    // One is the connection that asks now.
    assert_eq!(received(&server) - before, 2);
}

/// How many connections there have been.
fn received(server: &RedisServer) -> u64 {
    let stats = server.command("INFO stats").unwrap();
    let line = stats.lines().find_map(|line| line.strip_prefix("total_connections_received:"));
    line.unwrap().trim().parse().unwrap()
}
