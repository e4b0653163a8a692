//! Caches: tiers in memory and over stores of bytes, two tiers as one, and the face of a service.
//!
//! ```text
//! Cache<V>                    versions, tags, loads, statistics
//!   SharedTier<Tagged<V>>     any tier
//!     Tiered                  two tiers as one, by the policies of `compose`; nests
//!       MemoryCache           typed, bounded in bytes; a hit is a clone of a handle
//!       Encoded               values over a store of bytes, as checksummed records
//!         LogCache            bytes in a folder (feature `log`)
//!         RedisCache          bytes in a Redis server (feature `redis`)
//!         PostgresCache       bytes in a PostgreSQL server (feature `postgres`)
//! ```
//!
//! The tiers are what [`Tier`] says; everything of the contract is re-exported here. This room
//! knows `compose` and the contracts, and neither spools nor consensus.

mod coherence;
mod encoded;
mod face;
mod guarded;
#[cfg(any(feature = "log", feature = "redis"))]
mod head;
mod load;
#[cfg(feature = "log")]
mod log;
mod memory;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;
mod tags;
mod tallied;
mod tiered;
mod weight;

pub use coherence::{CoherenceOptions, CoherenceStats};
#[cfg(feature = "json")]
pub use encoded::JsonCodec;
#[cfg(feature = "lz4")]
pub use encoded::Lz4Compressor;
#[cfg(feature = "postcard")]
pub use encoded::PostcardCodec;
#[cfg(feature = "zstd")]
pub use encoded::ZstdCompressor;
pub use encoded::{
    AnyCompressor, Codec, Compressor, Encoded, NAMESPACE_BYTES_MAX, NoCompression, RawCodec,
    Schema, SchemaError, UnknownCompressor,
};
pub use face::{Absent, Cache, CacheBuilder, CacheStats, Hit, Lookup, PutOptions};
pub use guarded::{GuardError, GuardOptions, Guarded, GuardedBuilder};
pub use larder_core::cache::*;
pub use load::{LoadError, LoadLease, LoadOptions, Loaded};
#[cfg(feature = "log")]
pub use log::{LogCache, LogCacheBuilder};
pub use memory::{MemoryCache, MemoryCacheBuilder};
#[cfg(feature = "postgres")]
pub use postgres::{PostgresCache, PostgresCacheBuilder};
#[cfg(feature = "redis")]
pub use redis::{RedisCache, RedisCacheBuilder};
pub use tags::{Tag, TagError, Tagged, TaggedCodec, Tags};
pub use tiered::{DebtLedger, DebtStats, LedgerError, Tiered, TieredBuilder};
pub use weight::Weight;

/// A cache of `capacity` bytes in the memory of this process, with the defaults of
/// [`MemoryCache::builder`].
pub fn memory<V: Weight + Clone + Send + Sync + 'static>(capacity: u64) -> MemoryCache<V> {
    MemoryCache::builder(capacity).build()
}
