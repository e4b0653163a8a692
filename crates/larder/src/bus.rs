//! Buses: small messages from each process to all others, for the coherence of caches.
//!
//! Here are the backends; everything of the contract is re-exported. This room knows neither
//! caches nor spools nor consensus.

#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;

pub use larder_core::bus::*;
pub use larder_core::{MemoryBus, SharedBus};
#[cfg(feature = "postgres")]
pub use postgres::PostgresBus;
#[cfg(feature = "redis")]
pub use redis::RedisBus;
