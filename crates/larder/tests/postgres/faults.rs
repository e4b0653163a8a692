//! A server that dies, hangs and loses connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use larder::cache::PostgresCache;
use larder::consensus::PostgresConsensus;
use larder::{CacheError, Condition, Effect, Failure, Key, Retry, Tier};
use larder_testkit::Proxy;
use larder_testkit::service::PostgresServer;

use crate::place::{assert_fails, cache, data, in_the_end, key, text, within};

/// Long enough for a busy machine to answer in where it should.
const LIMIT: Duration = Duration::from_secs(1);

async fn put(tier: &impl Tier<Bytes>, at: &Key, words: &str) -> Result<bool, CacheError> {
    let status = tier.write(at.as_ref(), text(words), Condition::Always).await?;
    Ok(status.applied)
}

pub(crate) async fn a_killed_server_fails_calls_in_time_and_is_found_again() {
    let server = PostgresServer::start().unwrap();
    let cache = cache(&server, "timeout=1s");
    let k = key("k");
    assert!(in_the_end(async || put(&cache, &k, "before").await).await);
    server.kill();
    for _ in 0..20 {
        let error = within(LIMIT, cache.read(k.as_ref())).await.unwrap_err();
        assert_eq!((error.effect(), error.retry()), (Effect::NotApplied, Retry::Later));
        let error = within(LIMIT, put(&cache, &k, "meanwhile")).await.unwrap_err();
        assert_eq!(error.retry(), Retry::Later, "{error:?}");
    }
    // By now nobody believes in a connection, so it is known that nothing was sent.
    let text = assert_fails(put(&cache, &k, "never").await, Effect::NotApplied, Retry::Later);
    assert!(text.contains("cannot connect to postgres://127.0.0.1:"), "{text}");
    server.restart().unwrap();
    // It has forgotten after a crash, and what failed has not come about.
    assert_eq!(in_the_end(async || cache.read(k.as_ref()).await).await, None);
    assert!(in_the_end(async || put(&cache, &k, "after").await).await);
    assert_eq!(data(&cache, &k).await.unwrap(), "after");

    // One that ends in order tells its clients and forgets nothing.
    server.stop().unwrap();
    let error = within(LIMIT, put(&cache, &k, "meanwhile")).await.unwrap_err();
    assert_eq!(error.retry(), Retry::Later, "{error:?}");
    server.restart().unwrap();
    let found = in_the_end(async || cache.read(k.as_ref()).await).await;
    assert_eq!(found.unwrap().value.data, "after");
}

pub(crate) async fn a_stopped_server_fails_calls_in_time() {
    let server = PostgresServer::start().unwrap();
    let cache = cache(&server, "timeout=1s");
    let k = key("k");
    assert!(in_the_end(async || put(&cache, &k, "old").await).await);
    // One that has not told the server yet what it writes.
    let other = crate::place::cache(&server, "timeout=300ms");
    in_the_end(async || other.read(k.as_ref()).await).await;
    server.pause().unwrap();
    let told = within(LIMIT, put(&other, &k, "never told")).await;
    assert_fails(told, Effect::NotApplied, Retry::Later);
    let error =
        assert_fails(within(LIMIT, put(&cache, &k, "late")).await, Effect::Unknown, Retry::Later);
    assert!(error.contains("no answer"), "{error}");
    // The connection was given up, and no other one can be had.
    let error =
        assert_fails(within(LIMIT, put(&cache, &k, "no")).await, Effect::NotApplied, Retry::Later);
    assert!(error.contains("no connection"), "{error}");
    assert_fails(within(LIMIT, cache.read(k.as_ref())).await, Effect::NotApplied, Retry::Later);
    server.resume().unwrap();
    let found = in_the_end(async || cache.read(k.as_ref()).await).await.unwrap().value.data;
    assert!(found == "old" || found == "late", "{found:?}");
    assert!(in_the_end(async || put(&cache, &k, "new").await).await);
}

/// One that takes connections, and from whom nothing comes.
pub(crate) async fn a_silent_server_fails_calls_in_time_and_keeps_no_place() {
    let server = PostgresServer::start_with(&["fsync=on"]).unwrap();
    let proxy = Proxy::to_port(server.port()).unwrap();
    let place = format!("postgres://larder@{}/postgres", proxy.address());
    proxy.hang();
    // As long as opening takes at most.
    let opening = Duration::from_secs(5);
    let refused = within(opening, PostgresCache::open(&place)).await.unwrap_err();
    assert_eq!((refused.effect(), refused.retry()), (Effect::NotApplied, Retry::Later));
    assert!(larder::error::chain(&refused).contains("no connection"), "{refused:?}");
    let refused = within(opening, PostgresConsensus::open(&place)).await.unwrap_err();
    assert_eq!((refused.effect(), refused.retry()), (Effect::NotApplied, Retry::Later));
    let left = within(opening, larder::registry::drop_schema(&place)).await.unwrap_err();
    assert_eq!(left.retry(), Retry::Later, "{left:?}");
    // Whoever cannot connect holds the only place no longer than that.
    let uri = format!("{place}?timeout=300ms&connections=1");
    let cache = PostgresCache::builder(&uri).unwrap().attach();
    let k = key("k");
    for _ in 0..3 {
        let error = within(LIMIT, put(&cache, &k, "never")).await;
        let told = assert_fails(error, Effect::NotApplied, Retry::Later);
        assert!(told.contains("no connection"), "{told}");
    }
    proxy.restore();
    assert!(in_the_end(async || put(&cache, &k, "heard").await).await);
    assert_eq!(data(&cache, &k).await.unwrap(), "heard");
}

pub(crate) async fn terminated_connections_are_opened_again_and_nothing_wrong_is_read() {
    let server = Arc::new(PostgresServer::start().unwrap());
    let cache = Arc::new(cache(&server, "timeout=5s&connections=3"));
    let enough = Arc::new(AtomicBool::new(false));
    let clients = (0..4).map(|client| {
        let (cache, enough) = (Arc::clone(&cache), Arc::clone(&enough));
        tokio::spawn(async move {
            let k = key(&format!("k{client}"));
            let (mut acknowledged, mut failed) = (0, 0);
            for number in 1_i64.. {
                if enough.load(Ordering::SeqCst) {
                    break;
                }
                match put(&*cache, &k, &number.to_string()).await {
                    Ok(_) => acknowledged = number,
                    Err(error) => {
                        assert_eq!(error.retry(), Retry::Later, "{error:?}");
                        failed += 1;
                    }
                }
                match cache.read(k.as_ref()).await {
                    Ok(found) => {
                        let data = found.map(|found| found.value.data).unwrap_or_default();
                        let seen: i64 = std::str::from_utf8(&data).unwrap().parse().unwrap_or(0);
                        let fits = (acknowledged..=number).contains(&seen);
                        assert!(fits, "{seen} is not between {acknowledged} and {number}");
                    }
                    Err(error) => {
                        let answers = (error.effect(), error.retry());
                        assert_eq!(answers, (Effect::NotApplied, Retry::Later), "{error:?}");
                        failed += 1;
                    }
                }
            }
            failed
        })
    });
    let clients: Vec<_> = clients.collect();
    for _ in 0..40 {
        let server = Arc::clone(&server);
        let ending = move || server.terminate("larder");
        tokio::task::spawn_blocking(ending).await.unwrap().unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    enough.store(true, Ordering::SeqCst);
    let mut failed = 0;
    for client in clients {
        failed += client.await.unwrap();
    }
    assert!(failed > 0, "nobody noticed that connections were terminated");
    in_the_end(async || cache.read(key("k0").as_ref()).await).await;
}

pub(crate) async fn an_answer_that_nobody_waits_for_reaches_nobody_else() {
    let server = PostgresServer::shared().unwrap();
    let cache = Arc::new(cache(&server, "schema=dropped&timeout=10s&connections=2"));
    let keys: Vec<_> = (0..20).map(|number| key(&format!("k{number}"))).collect();
    for (number, k) in keys.iter().enumerate() {
        put(&*cache, k, &number.to_string()).await.unwrap();
    }
    for turn in 0..300_u64 {
        let [dropped, asked] = [turn, turn + 7].map(|turn| usize::try_from(turn % 20).unwrap());
        let patience = Duration::from_micros(turn * 3);
        let _ = tokio::time::timeout(patience, cache.read(keys[dropped].as_ref())).await;
        assert_eq!(data(&*cache, &keys[asked]).await.unwrap(), asked.to_string());
    }
}

pub(crate) async fn a_lock_that_somebody_holds_is_waited_for_in_time() {
    let server = PostgresServer::shared().unwrap();
    // The server gives up at 7/8 of it, and has the rest of it to say so.
    let limit = 4 * LIMIT;
    let cache = cache(&server, "schema=locked&timeout=4s");
    let k = key("k");
    assert!(in_the_end(async || put(&cache, &k, "old").await).await);
    let mut holder = server.session().unwrap();
    holder.query("BEGIN; LOCK TABLE locked.cache").unwrap();
    // The server says itself that it gave up, so it is known that nothing was written.
    let told =
        assert_fails(within(limit, put(&cache, &k, "no")).await, Effect::NotApplied, Retry::Later);
    assert!(told.contains("57014") || told.contains("55P03"), "{told}");
    assert_fails(within(limit, cache.clear()).await, Effect::NotApplied, Retry::Later);
    holder.query("COMMIT").unwrap();
    let found = in_the_end(async || cache.read(k.as_ref()).await).await.unwrap();
    assert_eq!(found.value.data, "old");
}

pub(crate) async fn a_tier_outlives_the_runtime_that_connected_it() {
    let server = PostgresServer::shared().unwrap();
    let cache = cache(&server, "schema=runtimes");
    let k = key("k");
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            runtime.enable_all().build().unwrap().block_on(put(&cache, &k, "x")).unwrap();
        });
        other.join().unwrap();
    });
    assert_eq!(data(&cache, &k).await.unwrap(), "x");
}

/// Of which the kernel has some thousand pieces for the whole machine.
pub(crate) async fn a_server_that_is_gone_leaves_no_shared_memory() {
    let server = PostgresServer::start().unwrap();
    let data = server.query("SHOW data_directory").unwrap().remove(0).remove(0).unwrap();
    let note = std::fs::read_to_string(format!("{data}/postmaster.pid")).unwrap();
    let id = note.lines().nth(6).unwrap().split_whitespace().nth(1).unwrap().to_owned();
    let is_there = || {
        let pieces = std::fs::read_to_string("/proc/sysvipc/shm").unwrap();
        pieces.lines().any(|piece| piece.split_whitespace().nth(1) == Some(id.as_str()))
    };
    assert!(is_there());
    drop(server);
    assert!(!is_there());
}
