//! Where the tests are, and what they need.

use larder::cache::RedisCache;
use larder_testkit::service::RedisServer;

#[path = "../support/tier.rs"]
mod tier;

pub(crate) use tier::*;

/// A cache on `server`, connected at its first call.
pub(crate) fn cache(server: &RedisServer, parameters: &str) -> RedisCache {
    RedisCache::builder(&format!("{}?{parameters}", server.uri(0))).unwrap().attach()
}
