//! A server that dies, hangs and loses connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use larder::cache::{RedisCache, Tiered, memory};
use larder::{CacheError, Condition, Effect, Failure, Key, Retry, Tier};
use larder_testkit::service::RedisServer;

use crate::fake::{Answer, Fake};
use crate::place::{assert_fails, cache, data, in_the_end, key, text, within};

/// Long enough for a busy machine to answer in where it should.
const LIMIT: Duration = Duration::from_secs(1);

async fn put(tier: &impl Tier<Bytes>, at: &Key, words: &str) -> Result<bool, CacheError> {
    let status = tier.write(at.as_ref(), text(words), Condition::Always).await?;
    Ok(status.applied)
}

pub(crate) async fn a_killed_server_fails_calls_in_time_and_is_found_again() {
    let server = RedisServer::start().unwrap();
    let cache = cache(&server, "timeout=1s");
    let k = key("k");
    assert!(put(&cache, &k, "before").await.unwrap());
    server.kill();
    for _ in 0..20 {
        let error = within(LIMIT, cache.read(k.as_ref())).await.unwrap_err();
        assert_eq!((error.effect(), error.retry()), (Effect::NotApplied, Retry::Later));
        let error = within(LIMIT, put(&cache, &k, "meanwhile")).await.unwrap_err();
        assert_eq!(error.retry(), Retry::Later, "{error:?}");
    }
    // By now nobody believes in the connection, so it is known that nothing was sent.
    let text = assert_fails(put(&cache, &k, "never").await, Effect::NotApplied, Retry::Later);
    assert!(text.contains("cannot connect to redis://127.0.0.1:"), "{text}");
    assert_fails(
        cache.remove(k.as_ref(), Condition::Always).await,
        Effect::NotApplied,
        Retry::Later,
    );
    assert_fails(cache.clear().await, Effect::Unknown, Retry::Later);

    server.restart().unwrap();
    // It has forgotten, and what failed has not come about.
    assert_eq!(in_the_end(async || cache.read(k.as_ref()).await).await, None);
    assert!(put(&cache, &k, "after").await.unwrap());
    assert_eq!(data(&cache, &k).await.unwrap(), "after");
}

pub(crate) async fn a_stopped_server_fails_calls_in_time_and_keeps_their_order() {
    let server = RedisServer::start().unwrap();
    let cache = cache(&server, "timeout=1s");
    let k = key("k");
    for round in 0..3 {
        let (old, late, new) =
            (format!("old {round}"), format!("late {round}"), format!("new {round}"));
        assert!(put(&cache, &k, &old).await.unwrap());
        server.pause().unwrap();
        let error = assert_fails(
            within(LIMIT, put(&cache, &k, &late)).await,
            Effect::Unknown,
            Retry::Later,
        );
        assert!(error.contains("no answer"), "{error}");
        assert_fails(within(LIMIT, cache.read(k.as_ref())).await, Effect::NotApplied, Retry::Later);
        server.resume().unwrap();
        // The late one was sent before this one, and is not to come after it.
        assert!(in_the_end(async || put(&cache, &k, &new).await).await);
        for _ in 0..20 {
            assert_eq!(data(&cache, &k).await.unwrap(), new.as_bytes());
        }
    }
}

pub(crate) async fn killed_connections_are_opened_again_and_nothing_wrong_is_read() {
    let server = Arc::new(RedisServer::start().unwrap());
    let cache = Arc::new(cache(&server, "timeout=5s"));
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
                        assert_eq!(
                            (error.effect(), error.retry()),
                            (Effect::NotApplied, Retry::Later)
                        );
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
        let killing = move || server.command("CLIENT KILL TYPE normal SKIPME yes");
        tokio::task::spawn_blocking(killing).await.unwrap().unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    enough.store(true, Ordering::SeqCst);
    let mut failed = 0;
    for client in clients {
        failed += client.await.unwrap();
    }
    assert!(failed > 0, "nobody noticed that connections were killed");
    in_the_end(async || cache.read(key("k0").as_ref()).await).await;
}

pub(crate) async fn a_connection_that_ended_while_idle_is_not_noticed() {
    let server = RedisServer::start().unwrap();
    let cache = cache(&server, "timeout=5s");
    let k = key("k");
    for number in 0..5 {
        put(&cache, &k, &number.to_string()).await.unwrap();
        server.command("CLIENT KILL TYPE normal SKIPME yes").unwrap();
        // The end of it is there by now; several turns let it be heard also where the first is a late one.
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(data(&cache, &k).await.unwrap(), number.to_string());
    }
}

pub(crate) async fn a_connection_that_stays_silent_is_given_up() {
    let fake = Fake::start(Answer::Stays, Answer::Says("$-1")).await;
    let cache = RedisCache::open(&format!("{}?timeout=200ms", fake.uri)).await.unwrap();
    let k = key("k");
    // Calls that are not answered do not cost the connection at once: it keeps the order.
    for _ in 0..2 {
        assert_fails(cache.read(k.as_ref()).await, Effect::NotApplied, Retry::Later);
    }
    assert_eq!(fake.connections(), 1);
    assert_eq!(in_the_end(async || cache.read(k.as_ref()).await).await, None);
    assert_eq!(fake.connections(), 2);
}

pub(crate) async fn a_connection_lost_after_sending_leaves_the_effect_unknown() {
    let fake = Fake::start(Answer::HangsUp, Answer::HangsUp).await;
    let cache = RedisCache::open(&fake.uri).await.unwrap();
    let k = key("k");
    let error = assert_fails(put(&cache, &k, "x").await, Effect::Unknown, Retry::Later);
    assert!(error.contains("ended before the answer"), "{error}");
    let removed = cache.remove(k.as_ref(), Condition::Always).await;
    assert_fails(removed, Effect::Unknown, Retry::Later);
    let many = cache.write_many(vec![(k.clone(), text("x"))], Condition::Always).await;
    assert_fails(many, Effect::Unknown, Retry::Later);
    assert_fails(cache.read(k.as_ref()).await, Effect::NotApplied, Retry::Later);
}

pub(crate) async fn a_server_that_hangs_while_it_greets_fails_calls_in_time() {
    let fake = Fake::start(Answer::IsDeaf, Answer::Says("$-1")).await;
    let cache = RedisCache::builder(&format!("{}?timeout=200ms", fake.uri)).unwrap().attach();
    let k = key("k");
    let limit = Duration::from_millis(200);
    for _ in 0..3 {
        let ended = within(limit, put(&cache, &k, "x")).await;
        let error = assert_fails(ended, Effect::NotApplied, Retry::Later);
        assert!(error.contains("no connection"), "{error}");
    }
    assert_eq!(fake.connections(), 1, "one attempt for all who wait");
    // An attempt has a limit of its own; the next one gets through.
    assert_eq!(in_the_end(async || cache.read(k.as_ref()).await).await, None);
}

pub(crate) async fn a_tier_outlives_the_runtime_that_connected_it() {
    let server = RedisServer::shared().unwrap();
    let cache = cache(&server, "namespace=runtimes");
    let k = key("k");
    let cache = std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            runtime.enable_all().build().unwrap().block_on(put(&cache, &k, "x")).unwrap();
        });
        other.join().unwrap();
        &cache
    });
    assert_eq!(data(cache, &k).await.unwrap(), "x");
}

pub(crate) async fn a_tier_outlives_the_runtime_that_was_connecting_it() {
    let fake = Fake::start(Answer::IsDeaf, Answer::Says("$-1")).await;
    let cache = RedisCache::builder(&format!("{}?timeout=100ms", fake.uri)).unwrap().attach();
    let k = key("k");
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let ended = runtime.enable_all().build().unwrap().block_on(put(&cache, &k, "x"));
            assert_fails(ended, Effect::NotApplied, Retry::Later);
        });
        other.join().unwrap();
    });
    // Whoever asks first may be told that the attempt went down with its runtime.
    assert_eq!(in_the_end(async || cache.read(k.as_ref()).await).await, None);
}

/// Counts who is told that there is no connection.
struct Complaints(Arc<AtomicUsize>);

impl tracing::Subscriber for Complaints {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "larder::redis" && *metadata.level() == tracing::Level::WARN
    }

    fn event(&self, event: &tracing::Event<'_>) {
        let mut told = false;
        event.record(&mut |_: &tracing::field::Field, words: &dyn std::fmt::Debug| {
            told |= format!("{words:?}").contains("cannot connect");
        });
        self.0.fetch_add(usize::from(told), Ordering::SeqCst);
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

async fn two_outages(told: &AtomicUsize) {
    let server = RedisServer::start().unwrap();
    let cache = cache(&server, "timeout=5s");
    let k = key("k");
    for outage in 1..3 {
        in_the_end(async || cache.read(k.as_ref()).await).await;
        server.kill();
        for _ in 0..4 {
            cache.read(k.as_ref()).await.unwrap_err();
            // Longer than the pause between two attempts.
            tokio::time::sleep(Duration::from_millis(120)).await;
        }
        assert_eq!(told.load(Ordering::SeqCst), outage);
        server.restart().unwrap();
    }
}

pub(crate) async fn an_outage_is_told_once() {
    let told = Arc::new(AtomicUsize::new(0));
    let complaints = Complaints(Arc::clone(&told));
    let watched = std::thread::spawn(move || {
        // Events are seen by the thread that makes them.
        let _watching = tracing::subscriber::set_default(complaints);
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().build().unwrap().block_on(two_outages(&told));
    });
    watched.join().unwrap();
}

pub(crate) async fn a_memory_tier_serves_while_the_server_is_away() {
    let server = RedisServer::start().unwrap();
    let far = cache(&server, "timeout=1s");
    let tier = Tiered::builder(memory::<Bytes>(1 << 20), far).build();
    let [k, other] = ["k", "other"].map(key);
    assert!(put(&tier, &k, "both").await.unwrap());
    server.kill();
    assert_eq!(data(&tier, &k).await.unwrap(), "both");
    assert!(within(LIMIT, put(&tier, &k, "near")).await.unwrap());
    assert_eq!(data(&tier, &k).await.unwrap(), "near");
    // A miss near and an error far is a miss.
    assert_eq!(within(LIMIT, tier.read(other.as_ref())).await.unwrap(), None);
    server.restart().unwrap();
    assert!(in_the_end(async || put(&tier, &other, "again").await).await);
    assert_eq!(data(&tier, &other).await.unwrap(), "again");
}
