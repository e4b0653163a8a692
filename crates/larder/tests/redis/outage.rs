//! A server that stands still under load, as callers see it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use larder::cache::{
    Cache, Encoded, Guarded, LoadError, LoadOptions, MemoryCache, NoCompression, PutOptions,
    RawCodec, RedisCache, Schema, Tagged, TaggedCodec, Tiered,
};
use larder::registry::guard_options;
use larder::{Clock, Key, SharedTier, SystemClock, Tier};
use larder_testkit::service::RedisServer;
use tokio::time::{MissedTickBehavior, interval};

use crate::place::key;

/// What the server gets for an answer, and a refresh for a fresh value.
const SOFT: Duration = Duration::from_millis(50);
const CLIENTS: usize = 32;
/// So often each of them asks while the server stands still: for ten seconds, where the machine keeps up.
const CALLS: u64 = 1_000;
/// A client asks so often, whether it was answered or not.
const EVERY: Duration = Duration::from_millis(10);
/// How long is waited for what has to come. It measures nothing: a busy machine may take its time.
const PATIENCE: Duration = Duration::from_mins(2);

type Tiers = Tiered<MemoryCache<Tagged<Bytes>>, SharedTier<Tagged<Bytes>>>;

/// What a service has, over a server that gets `SOFT` for each answer.
struct Service {
    cache: Cache<Bytes>,
    tiers: Arc<Tiers>,
    server: Arc<RedisServer>,
}

fn records(uri: &str) -> Encoded<RedisCache, TaggedCodec<RawCodec>, NoCompression> {
    let schema = Schema::new("outage", "bytes", 1).unwrap();
    let store = RedisCache::builder(uri).unwrap().attach();
    Encoded::new(store, TaggedCodec(RawCodec), NoCompression, schema)
}

impl Service {
    fn start() -> Self {
        let server = Arc::new(RedisServer::start().unwrap());
        let uri = format!("{}?timeout={}ms", server.uri(0), SOFT.as_millis());
        let guard = guard_options(&uri).unwrap().unwrap();
        let far = Guarded::builder(records(&uri)).options(guard).build();
        let near = MemoryCache::builder(8 << 20).build();
        let tiers = Arc::new(Tiered::builder(near, SharedTier::new(far)).build());
        let options = LoadOptions::new()
            .ttl(Duration::from_mins(1))
            .stale_after(Duration::from_millis(30))
            .soft_timeout(SOFT);
        let tier = SharedTier::new(Arc::clone(&tiers));
        let cache = Cache::builder(tier).load_options(options).build();
        Self { cache, tiers, server }
    }
}

/// Asks at fixed times, those that are past at once; what it put last.
async fn client(cache: Cache<Bytes>, number: usize) -> u64 {
    let own = own(number);
    let mut times = interval(EVERY);
    times.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut last_put = 0;
    for turn in 1..=CALLS {
        times.tick().await;
        match turn % 4 {
            0 => {
                let value = Bytes::from(turn.to_string());
                cache.put(own.as_ref(), value, PutOptions::new()).await.unwrap();
                last_put = turn;
            }
            // Nobody has it, so both tiers are asked.
            1 => {
                let missing = key(&format!("missing/{number}/{turn}"));
                assert!(cache.get(missing.as_ref()).await.unwrap().is_none());
            }
            // Everybody's, and often stale.
            2 => load(&cache, &key("hot")).await,
            // In neither tier.
            _ => load(&cache, &key(&format!("new/{number}/{turn}"))).await,
        }
    }
    last_put
}

async fn load(cache: &Cache<Bytes>, at: &Key) {
    let loader = || async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        Ok::<_, LoadError>(Bytes::from_static(b"from the database"))
    };
    assert!(cache.get_or_load(at.as_ref(), loader).await.unwrap().is_some());
}

fn own(client: usize) -> Key {
    key(&format!("own/{client}"))
}

pub(crate) async fn callers_go_on_while_the_server_stands_still_and_it_catches_up_afterwards() {
    let service = Service::start();
    // Everything is connected and warm.
    service.cache.put(key("hot").as_ref(), Bytes::from("hot"), PutOptions::new()).await.unwrap();
    service.server.pause().unwrap();
    let clients = (0..CLIENTS).map(|number| tokio::spawn(client(service.cache.clone(), number)));
    let mut last_puts = Vec::new();
    for client in clients.collect::<Vec<_>>() {
        last_puts.push(client.await.unwrap());
    }
    // How long a call takes is also the machine's business. How many were let wait for the server, each for
    // `SOFT`, is not: those on their way when it was given up, and one now and then that tries it again.
    let guard = service.tiers.tier_stats()[1].guard.unwrap();
    let calls = CLIENTS as u64 * CALLS;
    assert!(guard.timeouts < calls / 100, "of {calls} calls: {guard:?}");
    assert!(guard.refused > calls / 2, "of {calls} calls: {guard:?}");
    let [near, far] = service.tiers.debts();
    assert_eq!((near.owed, far.whole), (0, false));
    assert!(far.owed >= CLIENTS as u64, "{far:?}");

    service.server.resume().unwrap();
    let began = SystemClock.instant();
    while service.tiers.debts()[1].owed > 0 {
        let waited = SystemClock.instant() - began;
        assert!(waited < PATIENCE, "not paid: {:?}", service.tiers.debts());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Another process sees what was put last.
    let far = records(&format!("{}?timeout=20s", service.server.uri(0)));
    for (number, last) in last_puts.into_iter().enumerate() {
        let found = far.read(own(number).as_ref()).await.unwrap().unwrap();
        assert_eq!(found.value.data.data, Some(Bytes::from(last.to_string())), "client {number}");
    }
}
