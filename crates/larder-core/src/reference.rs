//! The contracts as executable models: one lock, ordered maps, nothing clever.
//!
//! Every backend is compared with these. [`MemorySpool`], [`MemoryConsensus`] and [`MemoryBus`] are also
//! what `memory:` opens; [`ReferenceTier`] is the model of a cache tier only (the `larder` crate has a
//! memory tier that evicts).

mod bus;
mod cache;
mod consensus;
mod spool;

pub use bus::MemoryBus;
pub use cache::ReferenceTier;
pub use consensus::MemoryConsensus;
pub use spool::MemorySpool;
