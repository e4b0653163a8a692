//! A PostgreSQL server as a cache tier, bare, below records and below a memory tier.
//!
//! Every place has a schema of its own on the server that the tests of this process share.

use std::sync::Arc;

use bytes::Bytes;
use larder::cache::{PostgresCache, Tiered};
use larder::clock::random_u64;
use larder::compose::RefillPolicy;
use larder::registry::OpenError;
use larder::{BoxError, ManualClock, SharedTier};
use larder_testkit::service::PostgresServer;
use larder_testkit::{Need, Place, Subject};

use super::{encoded, memory};
use crate::Candidate;

/// A tier over a cache in PostgreSQL.
type Over = fn(PostgresCache, &ManualClock) -> Result<SharedTier<Bytes>, BoxError>;

pub(super) fn all() -> Vec<Candidate<SharedTier<Bytes>>> {
    let wrappers: [(&str, Over); 2] = [
        ("postgres", |postgres, _| Ok(SharedTier::new(postgres))),
        ("memory-over-postgres", |postgres, clock| {
            let far = encoded(postgres, clock)?;
            let tier = Tiered::builder(memory(clock, 32 << 20), far).refill(RefillPolicy::Always);
            Ok(SharedTier::new(tier.clock(clock.shared()).build()))
        }),
    ];
    let missing = PostgresServer::missing();
    let candidate = |subject| Candidate { subject, missing: missing.clone() };
    let mut all = vec![candidate(Subject::new("postgres-uri", by_uri).offering([Need::Reopen]))];
    all.extend(wrappers.map(|(name, over)| {
        let subject = Subject::new(name, move || place(over));
        candidate(subject.offering([Need::Clock]))
    }));
    all
}

fn uri(server: &PostgresServer) -> String {
    format!("{}?schema=law_{:016x}&timeout=10s", server.uri(), random_u64())
}

/// As it is opened by an address, with the time of the machine.
fn by_uri() -> Result<Place<SharedTier<Bytes>>, BoxError> {
    let server = PostgresServer::shared()?;
    let uri = uri(&server);
    let open = move || {
        let uri = uri.clone();
        async move { larder::open_cache(&uri).await }
    };
    Ok(Place::new(open).keeping(server))
}

fn place(over: Over) -> Result<Place<SharedTier<Bytes>>, BoxError> {
    let server: Arc<PostgresServer> = PostgresServer::shared()?;
    let clock = ManualClock::default();
    let postgres = PostgresCache::builder(&uri(&server))?.clock(clock.shared()).attach();
    let tier = over(postgres, &clock)?;
    let open = move || std::future::ready(Ok::<_, OpenError>(tier.clone()));
    Ok(Place::new(open).with_clock(clock).keeping(server))
}
