//! The contracts as executable models: one lock, ordered maps, nothing clever.
//!
//! Every backend is compared with these. [`MemorySpool`] and [`MemoryConsensus`] are also what
//! `memory:` opens; [`ReferenceTier`] is the model of a cache tier only (the `larder` crate has a
//! memory tier that evicts).

mod cache;
mod consensus;
mod spool;

pub use cache::ReferenceTier;
pub use consensus::MemoryConsensus;
pub use spool::MemorySpool;
