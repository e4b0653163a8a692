//! A server that stands still under load, as callers see it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use larder::cache::{
    Cache, Encoded, Guarded, LoadError, LoadOptions, MemoryCache, NoCompression, PutOptions,
    RawCodec, RedisCache, Schema, Tagged, TaggedCodec, Tiered,
};
use larder::registry::guard_options;
use larder::{Clock, Key, SharedTier, SystemClock, Tier};
use larder_testkit::meter::Histogram;
use larder_testkit::service::RedisServer;
use tokio::time::{MissedTickBehavior, interval};

use crate::place::key;

/// What the server gets for an answer, and a refresh for a fresh value.
const SOFT: Duration = Duration::from_millis(50);
const OUTAGE: Duration = Duration::from_secs(10);
const CLIENTS: usize = 32;
/// A client asks so often, whether it was answered or not.
const EVERY: Duration = Duration::from_millis(10);
/// Other tests have the processors as well: how much later than it should an answer may come.
const SLACK: Duration = Duration::from_millis(100);

type Tiers = Tiered<MemoryCache<Tagged<Bytes>>, SharedTier<Tagged<Bytes>>>;

/// What a service has, over a server that gets `SOFT` for each answer.
struct Service {
    cache: Cache<Bytes>,
    tiers: Arc<Tiers>,
    server: Arc<RedisServer>,
}

fn records(server: &RedisServer) -> Encoded<RedisCache, TaggedCodec<RawCodec>, NoCompression> {
    let uri = format!("{}?timeout={}ms", server.uri(0), SOFT.as_millis());
    let schema = Schema::new("outage", "bytes", 1).unwrap();
    let store = RedisCache::builder(&uri).unwrap().attach();
    Encoded::new(store, TaggedCodec(RawCodec), NoCompression, schema)
}

impl Service {
    fn start() -> Self {
        let server = Arc::new(RedisServer::start().unwrap());
        let uri = format!("{}?timeout={}ms", server.uri(0), SOFT.as_millis());
        let guard = guard_options(&uri).unwrap().unwrap();
        let far = Guarded::builder(records(&server)).options(guard).build();
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

/// What one client met.
#[derive(Default)]
struct Met {
    times: Histogram,
    longest: Duration,
    last_put: u64,
}

/// Asks at fixed times until `enough`; a call that begins late because the one before took long counts
/// from when it should have begun.
async fn client(cache: Cache<Bytes>, number: usize, enough: Arc<AtomicBool>) -> Met {
    let mut met = Met::default();
    let own = own(number);
    let mut times = interval(EVERY);
    times.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for turn in 1_u64.. {
        let due: Instant = times.tick().await.into_std();
        if enough.load(Ordering::SeqCst) {
            break;
        }
        match turn % 4 {
            0 => {
                let value = Bytes::from(turn.to_string());
                cache.put(own.as_ref(), value, PutOptions::new()).await.unwrap();
                met.last_put = turn;
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
        let took = SystemClock.instant().saturating_duration_since(due);
        met.times.record(took);
        met.longest = met.longest.max(took);
    }
    met
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
    let enough = Arc::new(AtomicBool::new(false));
    service.server.pause().unwrap();
    let clients = (0..CLIENTS)
        .map(|number| tokio::spawn(client(service.cache.clone(), number, Arc::clone(&enough))));
    let clients: Vec<_> = clients.collect();
    tokio::time::sleep(OUTAGE).await;
    enough.store(true, Ordering::SeqCst);
    let mut last_puts = Vec::new();
    for client in clients {
        let met = client.await.unwrap();
        let calls = u64::try_from(OUTAGE.as_millis() / EVERY.as_millis()).unwrap();
        assert!(met.times.count() >= calls * 9 / 10, "{} calls", met.times.count());
        let p99 = Duration::from_secs_f64(met.times.quantile(990) / 1e6);
        assert!(p99 < SOFT + SLACK, "p99 of a client: {p99:?}");
        assert!(met.longest < 3 * SOFT + 4 * SLACK, "a call took {:?}", met.longest);
        last_puts.push(met.last_put);
    }
    let [near, far] = service.tiers.debts();
    assert_eq!((near.owed, far.whole), (0, false));
    assert!(far.owed >= CLIENTS as u64, "{far:?}");

    service.server.resume().unwrap();
    let began = SystemClock.instant();
    while service.tiers.debts()[1].owed > 0 {
        let waited = SystemClock.instant() - began;
        assert!(waited < Duration::from_secs(40), "not paid: {:?}", service.tiers.debts());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Another process sees what was put last.
    let far = records(&service.server);
    for (number, last) in last_puts.into_iter().enumerate() {
        let found = far.read(own(number).as_ref()).await.unwrap().unwrap();
        assert_eq!(found.value.data.data, Some(Bytes::from(last.to_string())), "client {number}");
    }
}
