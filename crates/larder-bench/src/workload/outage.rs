//! Redis stopped for ten seconds under load: what callers notice, and what is made up for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use larder::cache::{
    Cache, Encoded, Guarded, LoadError, LoadOptions, MemoryCache, NoCompression, PutOptions,
    RawCodec, RedisCache, Schema, Tagged, TaggedCodec, Tiered,
};
use larder::{Clock, Key, SharedTier, SystemClock};
use larder_testkit::meter::Histogram;
use larder_testkit::service::RedisServer;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::cache_extent;
use crate::args::CacheArgs;
use crate::bench::say;
use crate::error::Result;
use crate::near;
use crate::row::{Row, float};

/// The longest that p99 may exceed the time limit by.
pub(crate) const P99_MAX_US: f64 = 55_000.0;
pub(crate) const STOPPED: &str = "larder, server stopped";

/// What the server gets for an answer, and a refresh for a fresh value.
const SOFT: Duration = Duration::from_millis(50);
const CLIENTS: usize = 64;
/// A client asks so often, whether it was answered or not.
const EVERY: Duration = Duration::from_millis(10);
/// After so long a call counts as hung.
const HUNG: Duration = Duration::from_secs(5);

const PHASES: [&str; 3] = ["larder, before", STOPPED, "larder, afterwards"];

type Tiers = Tiered<MemoryCache<Tagged<Bytes>>, SharedTier<Tagged<Bytes>>>;

/// What a client met in each phase.
#[derive(Default)]
struct Met {
    phases: [Histogram; 3],
    failed: u64,
    hung: u64,
}

pub(crate) async fn run(arguments: &CacheArgs) -> Result<Vec<Row>> {
    let (rounds, _) = cache_extent(arguments);
    let (before, outage) = if arguments.smoke {
        (Duration::from_millis(50), Duration::from_millis(100))
    } else {
        (Duration::from_secs(2), Duration::from_secs(10))
    };
    let mut rows = Vec::new();
    for round in 0..rounds {
        say(&format!("outage, round {} of {rounds}", round + 1));
        rows.extend(one_round(round, before, outage).await?);
    }
    Ok(rows)
}

async fn one_round(round: usize, before: Duration, outage: Duration) -> Result<Vec<Row>> {
    let server = RedisServer::start()?;
    let uri = format!("{}?timeout={}ms", server.uri(0), SOFT.as_millis());
    let schema = Schema::new("bench", "bytes", 1)?;
    let store = RedisCache::builder(&uri)?.attach();
    let records = Encoded::new(store, TaggedCodec(RawCodec), NoCompression, schema);
    let guard = larder::registry::guard_options(&uri)?.unwrap_or_default();
    let far = SharedTier::new(Guarded::builder(records).options(guard).build());
    let near = MemoryCache::builder(64 << 20).build();
    let tiers: Arc<Tiers> = Arc::new(Tiered::builder(near, far).build());
    let options = LoadOptions::new()
        .ttl(Duration::from_mins(1))
        .stale_after(Duration::from_millis(30))
        .soft_timeout(SOFT);
    let tier = SharedTier::new(Arc::clone(&tiers));
    let cache = Cache::builder(tier).load_options(options).build();

    let phase = Arc::new(AtomicU8::new(0));
    let keys = near::keys(CLIENTS)?;
    let clients = keys.into_iter().map(|own| {
        let (cache, phase) = (cache.clone(), Arc::clone(&phase));
        tokio::spawn(client(cache, own, phase))
    });
    let clients: Vec<_> = clients.collect();
    sleep(before).await;
    phase.store(1, Ordering::SeqCst);
    server.pause()?;
    sleep(outage).await;
    server.resume()?;
    phase.store(2, Ordering::SeqCst);
    let owed = tiers.debts()[1].owed;
    let resumed = SystemClock.instant();
    sleep(before).await;
    phase.store(3, Ordering::SeqCst);
    let mut all = Vec::new();
    for client in clients {
        all.push(client.await??);
    }
    // Beyond the bound single keys are given up, and the far tier owes everything until it was cleared.
    while tiers.debts()[1].owed > 0 || tiers.debts()[1].whole {
        if SystemClock.instant().saturating_duration_since(resumed) > Duration::from_mins(1) {
            return Err(format!("debts are not paid: {:?}", tiers.debts()).into());
        }
        sleep(Duration::from_millis(10)).await;
    }
    let paid = SystemClock.instant().saturating_duration_since(resumed);
    Ok(rows(round, &all, [owed, tiers.debts()[1].dropped], paid))
}

fn rows(round: usize, all: &[Met], [owed, given_up]: [u64; 2], paid: Duration) -> Vec<Row> {
    let cell = format!("{CLIENTS} clients, time limit {} ms", SOFT.as_millis());
    let row = |(at, name): (usize, &&str)| {
        let (mut times, mut worst) = (Histogram::default(), 0.0_f64);
        for met in all {
            times.merge(&met.phases[at]);
            worst = worst.max(met.phases[at].quantile(990));
        }
        Row::new("outage", name, &cell, round)
            .with("calls", float(times.count()))
            .with("p50_us", times.quantile(500))
            .with("p99_us", times.quantile(990))
            .with("p99_us_of_the_worst_client", worst)
            .with("longest_us", times.quantile(1000))
    };
    let mut rows: Vec<Row> = PHASES.iter().enumerate().map(row).collect();
    let sum = |of: fn(&Met) -> u64| float(all.iter().map(of).sum());
    if let Some(stopped) = rows.get_mut(1) {
        *stopped = stopped
            .clone()
            .with("failed", sum(|met| met.failed))
            .with("hung", sum(|met| met.hung))
            .with("owed_keys", float(owed))
            .with("given_up_keys", float(given_up))
            .with("paid_after_ms", paid.as_secs_f64() * 1000.0);
    }
    rows
}

/// Asks at fixed times; a call that begins late because the one before took long counts from when it
/// should have begun.
async fn client(cache: Cache<Bytes>, own: Key, phase: Arc<AtomicU8>) -> Result<Met> {
    let mut met = Met::default();
    let mut times = interval(EVERY);
    times.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for turn in 0_u64.. {
        let due: Instant = times.tick().await.into_std();
        let at = usize::from(phase.load(Ordering::SeqCst));
        let Some(of_phase) = met.phases.get_mut(at) else { break };
        match timeout(HUNG, ask(&cache, &own, turn)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => met.failed += 1,
            Err(_) => met.hung += 1,
        }
        of_phase.record(SystemClock.instant().saturating_duration_since(due));
    }
    Ok(met)
}

/// A put, a look-up of what nobody has, a load of what is often stale, and one of what is new.
async fn ask(cache: &Cache<Bytes>, own: &Key, turn: u64) -> Result<()> {
    let query = || async {
        sleep(Duration::from_millis(1)).await;
        Ok::<_, LoadError>(Bytes::from_static(b"what the database has"))
    };
    match turn % 4 {
        0 => {
            let value = Bytes::from(turn.to_string());
            cache.put(own.as_ref(), value, PutOptions::new()).await?;
        }
        1 => {
            let missing = Key::new(format!("{}/missing/{turn}", own.as_str()))?;
            cache.get(missing.as_ref()).await?;
        }
        2 => {
            let hot = Key::new("hot")?;
            cache.get_or_load(hot.as_ref(), query).await?;
        }
        _ => {
            let new = Key::new(format!("{}/new/{turn}", own.as_str()))?;
            cache.get_or_load(new.as_ref(), query).await?;
        }
    }
    Ok(())
}
