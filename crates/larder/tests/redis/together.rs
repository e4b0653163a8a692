//! Reads that wait at the same time and are sent as one command.

use std::sync::Arc;
use std::time::Duration;

use larder::cache::RedisCache;
use larder::{Condition, Effect, Key, Retry, Tier};
use larder_testkit::service::RedisServer;
use tokio::task::JoinHandle;

use crate::place::{assert_fails, cache, data, key, text, within};

/// How often the server has carried out a command since the last reset.
fn calls(server: &RedisServer, command: &str) -> u64 {
    let stats = server.command("INFO commandstats").unwrap();
    let start = format!("cmdstat_{command}:calls=");
    let line = stats.lines().find_map(|line| line.strip_prefix(&start));
    line.map_or(0, |rest| rest.split(',').next().unwrap().parse().unwrap())
}

fn keys(count: usize) -> Vec<Key> {
    (0..count).map(|number| key(&format!("k{number}"))).collect()
}

/// Begins to read each key, in this order.
async fn reading(cache: &Arc<RedisCache>, keys: &[Key]) -> Vec<JoinHandle<Option<String>>> {
    let mut reads = Vec::new();
    for key in keys {
        let (cache, key) = (Arc::clone(cache), key.clone());
        reads.push(tokio::spawn(async move {
            let found = data(&*cache, &key).await;
            found.map(|data| String::from_utf8(data.to_vec()).unwrap())
        }));
        // Each begins before the next one does.
        tokio::task::yield_now().await;
    }
    reads
}

pub(crate) async fn reads_that_wait_together_are_one_command() {
    let server = RedisServer::start().unwrap();
    let cache = Arc::new(cache(&server, "timeout=10s"));
    let keys = keys(40);
    // Every other one is missing.
    for key in keys.iter().step_by(2) {
        cache.write(key.as_ref(), text(key.as_str()), Condition::Always).await.unwrap();
    }
    server.command("CONFIG RESETSTAT").unwrap();
    server.pause().unwrap();
    let reads = reading(&cache, &keys).await;
    server.resume().unwrap();
    for (number, (read, key)) in reads.into_iter().zip(&keys).enumerate() {
        let expected = (number % 2 == 0).then(|| key.as_str().to_owned());
        assert_eq!(read.await.unwrap(), expected, "{key:?}");
    }
    let (alone, together) = (calls(&server, "get"), calls(&server, "mget"));
    assert!(alone <= 4 && (1..=4).contains(&together), "{alone} GET, {together} MGET");
}

pub(crate) async fn a_read_sees_what_was_written_before_it_however_many_read() {
    let server = RedisServer::start().unwrap();
    let cache = Arc::new(cache(&server, "timeout=10s"));
    let clients = (0..16).map(|client| {
        let cache = Arc::clone(&cache);
        tokio::spawn(async move {
            let own = key(&format!("own{client}"));
            for number in 0..200 {
                let words = number.to_string();
                cache.write(own.as_ref(), text(&words), Condition::Always).await.unwrap();
                assert_eq!(data(&*cache, &own).await.unwrap(), words, "client {client}");
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
}

pub(crate) async fn a_read_that_waits_for_others_keeps_its_own_time_limit() {
    let limit = Duration::from_secs(1);
    let server = RedisServer::start().unwrap();
    let cache = Arc::new(cache(&server, "timeout=1s"));
    let k = key("k");
    cache.write(k.as_ref(), text("v"), Condition::Always).await.unwrap();
    server.pause().unwrap();
    let before = reading_errors(&cache, 4);
    // Those who come later, before the others have given up, have their time from now on.
    tokio::time::sleep(limit / 2).await;
    let later = within(limit, cache.read(k.as_ref())).await;
    let told = assert_fails(later, Effect::NotApplied, Retry::Later);
    assert!(told.contains("no answer"), "{told}");
    for read in before {
        assert!(read.await.unwrap());
    }
    server.resume().unwrap();
    // Nobody is left behind who is in the way of those who come now.
    for _ in 0..20 {
        assert_eq!(data(&*cache, &k).await.unwrap(), "v");
    }
}

fn reading_errors(cache: &Arc<RedisCache>, count: usize) -> Vec<JoinHandle<bool>> {
    let read = |_| {
        let cache = Arc::clone(cache);
        tokio::spawn(async move { cache.read(key("k").as_ref()).await.is_err() })
    };
    (0..count).map(read).collect()
}

pub(crate) async fn a_caller_that_leaves_takes_no_other_with_it() {
    let server = RedisServer::start().unwrap();
    let cache = Arc::new(cache(&server, "timeout=10s"));
    let keys = keys(20);
    for key in &keys {
        cache.write(key.as_ref(), text(key.as_str()), Condition::Always).await.unwrap();
    }
    server.pause().unwrap();
    let mut reads = reading(&cache, &keys).await;
    // The first ones are on their way, and who waits behind them is to be sent by them.
    for read in reads.drain(..10) {
        read.abort();
        assert!(read.await.unwrap_err().is_cancelled());
    }
    server.resume().unwrap();
    for (read, key) in reads.into_iter().zip(&keys[10..]) {
        let read = tokio::time::timeout(Duration::from_mins(1), read).await;
        assert_eq!(read.unwrap().unwrap().as_deref(), Some(key.as_str()));
    }
}

pub(crate) async fn reads_outlive_the_runtime_that_was_to_send_them() {
    let server = RedisServer::start().unwrap();
    let cache = Arc::new(cache(&server, "timeout=20s"));
    let keys = keys(8);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    for key in &keys {
        cache.write(key.as_ref(), text(key.as_str()), Condition::Always).await.unwrap();
    }
    server.pause().unwrap();
    let doomed: Vec<_> = keys
        .iter()
        .take(4)
        .map(|key| {
            let (cache, key) = (Arc::clone(&cache), key.clone());
            runtime.spawn(async move { data(&*cache, &key).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let reads = reading(&cache, &keys).await;
    runtime.shutdown_background();
    for read in doomed {
        assert!(read.await.is_err());
    }
    server.resume().unwrap();
    for (read, key) in reads.into_iter().zip(&keys) {
        assert_eq!(read.await.unwrap().as_deref(), Some(key.as_str()));
    }
    assert_eq!(data(&*cache, &keys[0]).await.unwrap(), keys[0].as_str());
}
