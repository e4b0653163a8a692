//! A Redis server as a cache tier, bare, below records and below a memory tier.
//!
//! Every place has a namespace of its own on the server that the tests of this process share.

use std::sync::Arc;

use bytes::Bytes;
use larder::cache::{RedisCache, Tiered};
use larder::clock::random_u64;
use larder::compose::RefillPolicy;
use larder::registry::OpenError;
use larder::{BoxError, ManualClock, SharedTier};
use larder_testkit::service::RedisServer;
use larder_testkit::{Need, Place, Subject};

use super::{encoded, memory};
use crate::Candidate;

/// A tier over a cache in Redis.
type Over = fn(RedisCache, &ManualClock) -> Result<SharedTier<Bytes>, BoxError>;

pub(super) fn all() -> Vec<Candidate<SharedTier<Bytes>>> {
    let wrappers: [(&str, Over); 4] = [
        ("redis", |redis, _| Ok(SharedTier::new(redis))),
        ("encoded-over-redis", |redis, clock| Ok(SharedTier::new(encoded(redis, clock)?))),
        ("memory-over-redis", |redis, clock| {
            let far = encoded(redis, clock)?;
            let tier = Tiered::builder(memory(clock, 32 << 20), far).refill(RefillPolicy::Always);
            Ok(SharedTier::new(tier.clock(clock.shared()).build()))
        }),
        // Nothing is in L1 unless it was written there: every read has to find its way.
        ("refusing-l1-over-redis", |redis, clock| {
            let tier = Tiered::builder(memory(clock, 0), redis).refill(RefillPolicy::Never);
            Ok(SharedTier::new(tier.clock(clock.shared()).build()))
        }),
    ];
    let missing = RedisServer::missing();
    let candidate = |subject| Candidate { subject, missing: missing.clone() };
    let mut all = vec![candidate(Subject::new("redis-uri", by_uri).offering([Need::Reopen]))];
    all.extend(wrappers.map(|(name, over)| {
        let subject = Subject::new(name, move || place(over));
        candidate(subject.offering([Need::Clock]))
    }));
    all
}

fn uri(server: &RedisServer) -> String {
    format!("{}?namespace=law-{:016x}&timeout=10s", server.uri(0), random_u64())
}

/// As it is opened by an address, with the time of the machine.
fn by_uri() -> Result<Place<SharedTier<Bytes>>, BoxError> {
    let server = RedisServer::shared()?;
    let uri = uri(&server);
    let open = move || {
        let uri = uri.clone();
        async move { larder::open_cache(&uri).await }
    };
    Ok(Place::new(open).keeping(server))
}

fn place(over: Over) -> Result<Place<SharedTier<Bytes>>, BoxError> {
    let server: Arc<RedisServer> = RedisServer::shared()?;
    let clock = ManualClock::default();
    let redis = RedisCache::builder(&uri(&server))?.clock(clock.shared()).attach();
    let tier = over(redis, &clock)?;
    let open = move || std::future::ready(Ok::<_, OpenError>(tier.clone()));
    Ok(Place::new(open).with_clock(clock).keeping(server))
}
