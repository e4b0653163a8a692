//! Where the tests are, and what they need.

use larder::cache::PostgresCache;
use larder_testkit::service::PostgresServer;

#[path = "../support/tier.rs"]
mod tier;

pub(crate) use tier::*;

/// The address of a schema of `server`.
pub(crate) fn uri(server: &PostgresServer, parameters: &str) -> String {
    format!("{}?{parameters}", server.uri())
}

/// A cache on `server`, connected at its first call.
pub(crate) fn cache(server: &PostgresServer, parameters: &str) -> PostgresCache {
    PostgresCache::builder(&uri(server, parameters)).unwrap().attach()
}

/// The one number that a query gives.
pub(crate) fn number(server: &PostgresServer, sql: &str) -> u64 {
    server.query(sql).unwrap()[0][0].as_deref().unwrap().parse().unwrap()
}
