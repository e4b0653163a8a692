use larder::SharedBus;
use larder::registry::attach_bus;
use larder_testkit::{Place, Subject, subjects};

use crate::Candidate;

pub(crate) fn all() -> Vec<Candidate<SharedBus>> {
    let by_uri = || std::future::ready(attach_bus("memory:"));
    vec![
        subjects::memory_bus().into(),
        Subject::new("memory-uri", move || Ok(Place::new(by_uri))).into(),
        #[cfg(feature = "redis")]
        redis(),
        #[cfg(feature = "postgres")]
        postgres(),
    ]
}

/// Every place has a namespace of its own on the server that the tests of this process share.
#[cfg(feature = "redis")]
fn redis() -> Candidate<SharedBus> {
    use larder::clock::random_u64;
    use larder_testkit::service::RedisServer;

    let subject = Subject::new("redis", || {
        let server = RedisServer::shared()?;
        let uri = format!("{}?namespace=law-{:016x}&timeout=10s", server.uri(0), random_u64());
        Ok(Place::new(move || std::future::ready(attach_bus(&uri))).keeping(server))
    });
    Candidate { subject, missing: RedisServer::missing() }
}

/// A name of its own for each place, on the server that the tests of this process share.
#[cfg(feature = "postgres")]
fn postgres() -> Candidate<SharedBus> {
    use larder_testkit::service::PostgresServer;
    let subject = Subject::new("postgres", || {
        let server = PostgresServer::shared()?;
        let name = larder::clock::random_u64();
        let uri = format!("{}?schema=law_{name:016x}&timeout=10s", server.uri());
        Ok(Place::new(move || std::future::ready(attach_bus(&uri))).keeping(server))
    });
    Candidate { subject, missing: PostgresServer::missing() }
}
