//! What is in the table, and who may put it there.

use std::sync::Arc;
use std::time::Duration;

use larder::cache::PostgresCache;
use larder::{CacheError, Clock, Condition, DeleteStatus, ManualClock, Tier, Timestamp};
use larder_testkit::service::PostgresServer;

use crate::place::{cache, data, key, number, text, uri, version};

pub(crate) async fn what_has_expired_is_deleted_in_the_background() {
    let server = PostgresServer::shared().unwrap();
    let clock = ManualClock::default();
    let cache = PostgresCache::builder(&uri(&server, "schema=swept&timeout=10s")).unwrap();
    let cache = cache.clock(clock.shared()).attach();
    let soon = |at: usize| {
        let value = text("x").with_ttl(clock.now(), Duration::from_mins(1));
        (key(&format!("short {at}")), value)
    };
    let count = || number(&server, "SELECT count(*) FROM swept.cache");
    cache.write_many((0..2_500).map(soon).collect(), Condition::Always).await.unwrap();
    cache.write(key("long").as_ref(), text("x"), Condition::Always).await.unwrap();
    assert_eq!(count(), 2_501);
    clock.advance(Duration::from_mins(2));
    for turn in 0.. {
        // Whoever writes pays.
        cache.write(key("other").as_ref(), text("x"), Condition::Always).await.unwrap();
        if turn > 256 && count() == 2 {
            break;
        }
        assert!(turn < 2_000, "{} rows are left", count());
    }
    assert_eq!(data(&cache, &key("long")).await.unwrap(), "x");

    // A client whose clock is ahead takes nothing that the server knows to be alive.
    let far = text("x").with_ttl(larder::SystemClock.now(), Duration::from_hours(1));
    cache.write(key("far").as_ref(), far, Condition::Always).await.unwrap();
    clock.advance(Duration::from_hours(24 * 3_650));
    for _ in 0..600 {
        cache.write(key("other").as_ref(), text("x"), Condition::Always).await.unwrap();
    }
    assert_eq!(number(&server, "SELECT count(*) FROM swept.cache WHERE key = 'far'"), 1);
}

pub(crate) async fn schemas_do_not_meet() {
    let server = PostgresServer::shared().unwrap();
    let caches = ["meet", "mee", "meet_2"].map(|name| cache(&server, &format!("schema={name}")));
    let k = key("k");
    for (cache, number) in caches.iter().zip(["0", "1", "2"]) {
        cache.write(k.as_ref(), text(number), Condition::Always).await.unwrap();
    }
    caches[0].clear().await.unwrap();
    assert_eq!(data(&caches[0], &k).await, None);
    assert_eq!(data(&caches[1], &k).await.unwrap(), "1");
    assert_eq!(data(&caches[2], &k).await.unwrap(), "2");
}

pub(crate) async fn a_key_that_is_written_twice_at_once_ends_with_the_last() {
    let server = PostgresServer::shared().unwrap();
    let cache = cache(&server, "schema=twice");
    let [a, b] = ["a", "b"].map(key);
    let dead = text("dead").with_ttl(Timestamp::EPOCH, Duration::ZERO);
    let entries = vec![
        (a.clone(), text("1")),
        (b.clone(), text("2")),
        (a.clone(), text("3")),
        (b.clone(), dead),
    ];
    let written = cache.write_many(entries, Condition::Always).await.unwrap();
    assert!(written.iter().all(|status| status.applied) && written.len() == 4, "{written:?}");
    assert_eq!(data(&cache, &a).await.unwrap(), "3");
    assert_eq!(data(&cache, &b).await, None);
    let twice = [a.as_ref(), b.as_ref(), a.as_ref()];
    let removed = cache.remove_many(&twice, Condition::Always).await.unwrap();
    assert_eq!(removed, [DeleteStatus::Deleted(1), DeleteStatus::Missing, DeleteStatus::Missing]);
}

pub(crate) async fn batches_in_opposite_orders_do_not_stop_one_another() {
    let server = PostgresServer::shared().unwrap();
    let cache = Arc::new(cache(&server, "schema=circle&timeout=30s"));
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = 'postgres'";
    let before = number(&server, deadlocks);
    let clients = (0..8_u64).map(|client| {
        let cache = Arc::clone(&cache);
        tokio::spawn(async move {
            let keys: Vec<_> = (0..16_u64)
                .map(|at| if client % 2 == 0 { at } else { 15 - at })
                .map(|at| key(&format!("k{at}")))
                .collect();
            let refs: Vec<_> = keys.iter().map(larder::Key::as_ref).collect();
            for turn in 0..40 {
                let version = version(turn * 8 + client);
                let value = text("x").with_version(version);
                let entries = || keys.iter().map(|key| (key.clone(), value.clone())).collect();
                let newer = Condition::IfNewerThan(version);
                let is = Condition::IfVersionIs(Some(version));
                cache.write_many(entries(), newer).await.unwrap();
                cache.write_many(entries(), is).await.unwrap();
                if turn % 4 == 0 {
                    cache.remove_many(&refs, newer).await.unwrap();
                }
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    assert_eq!(number(&server, deadlocks), before);
}

pub(crate) async fn times_beyond_the_range_of_the_server_are_kept() {
    let server = PostgresServer::shared().unwrap();
    let cache = cache(&server, "schema=times");
    let k = key("k");
    let half = u64::MAX / 2;
    let times = [half - 1, half, half + 1, half + 2, u64::MAX - 1, u64::MAX];
    // Of versions the last one is a moment before that.
    for (nanos, reading) in
        times.into_iter().zip([half - 1, half, half + 1, half + 2, u64::MAX - 2, u64::MAX - 1])
    {
        let time = Some(Timestamp::from_nanos(nanos));
        let mut value = text("x").with_version(version(reading));
        (value.expire, value.stale) = (time, time);
        let newer = Condition::IfNewerThan(version(reading));
        assert!(cache.write(k.as_ref(), value.clone(), newer).await.unwrap().applied, "{nanos}");
        assert_eq!(cache.read(k.as_ref()).await.unwrap().unwrap().value, value, "{nanos}");
        // It still counts.
        let older = Condition::IfNewerThan(version(0));
        assert!(!cache.write(k.as_ref(), text("y"), older).await.unwrap().applied, "{nanos}");
    }
}

pub(crate) async fn a_version_that_no_clock_gives_is_a_miss_and_can_be_replaced() {
    let server = PostgresServer::shared().unwrap();
    let cache = cache(&server, "schema=foreign_versions");
    let (k, sound) = (key("k"), key("sound"));
    cache.write(sound.as_ref(), text("s"), Condition::Always).await.unwrap();
    // Too short, too long, empty, and a reading beyond the last.
    for version in ["01".to_owned(), "01".repeat(17), String::new(), "ff".repeat(16)] {
        let row = format!("'k', 'x', '\\x{version}', NULL, NULL");
        let plant = format!("INSERT INTO foreign_versions.cache VALUES ({row})");
        server.query(&plant).unwrap();
        assert_eq!(data(&cache, &k).await, None, "{version}");
        let both = cache.read_many(&[k.as_ref(), sound.as_ref()]).await.unwrap();
        let both: Vec<_> =
            both.into_iter().map(|found| found.map(|found| found.value.data)).collect();
        assert_eq!(both, [None, Some(bytes::Bytes::from("s"))], "{version}");
        assert!(cache.write(k.as_ref(), text("new"), Condition::Always).await.unwrap().applied);
        assert_eq!(data(&cache, &k).await.unwrap(), "new", "{version}");
        let removed = cache.remove(k.as_ref(), Condition::Always).await.unwrap();
        assert_eq!(removed, DeleteStatus::Deleted(1), "{version}");
    }
}

pub(crate) async fn a_value_above_the_limit_is_refused_and_the_others_are_written() {
    let server = PostgresServer::shared().unwrap();
    let cache = cache(&server, "schema=large&max_value=1KiB");
    let [a, b, c] = ["a", "b", "c"].map(key);
    cache.write(b.as_ref(), text("old"), Condition::Always).await.unwrap();
    let (fits, large) = (text(&"x".repeat(1_024)), text(&"x".repeat(1_025)));
    let entries = vec![(a.clone(), fits.clone()), (b.clone(), large), (c.clone(), fits.clone())];
    let error = cache.write_many(entries, Condition::Always).await.unwrap_err();
    assert!(matches!(error, CacheError::TooLarge { bytes: 1_025, bytes_max: 1_024 }), "{error:?}");
    assert_eq!(data(&cache, &a).await, Some(fits.data.clone()));
    assert_eq!(data(&cache, &b).await.unwrap(), "old");
    assert_eq!(data(&cache, &c).await, Some(fits.data));
}

pub(crate) async fn there_are_no_more_connections_than_were_allowed() {
    let server = PostgresServer::start().unwrap();
    let cache = Arc::new(cache(&server, "connections=2&timeout=30s"));
    let calls = (0..200).map(|number| {
        let cache = Arc::clone(&cache);
        tokio::spawn(async move {
            let (k, value) = (key(&format!("k{number}")), text(&number.to_string()));
            cache.write(k.as_ref(), value.clone(), Condition::Always).await.unwrap();
            assert_eq!(data(&*cache, &k).await, Some(value.data));
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap();
    }
    let ours = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'larder'";
    assert!((1..=2).contains(&number(&server, ours)));
}
