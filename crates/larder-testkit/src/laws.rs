//! Every promise of the contracts as a law.
//!
//! One folder per contract, one file per theme. A new law goes into the list at the top of its
//! theme and thereby reaches every backend, `larder check` and `docs/laws.md`.

use bytes::Bytes;
use larder_core::{SharedBus, SharedConsensus, SharedSpool, SharedTier};

use crate::Law;
use crate::law::{count, join};

mod bus;
mod cache;
mod consensus;
mod spool;

/// The laws of the spool.
pub static SPOOL: &[Law<SharedSpool>] = &join::<_, { count(spool::THEMES) }>(spool::THEMES);

/// The laws of consensus.
pub static CONSENSUS: &[Law<SharedConsensus>] =
    &join::<_, { count(consensus::THEMES) }>(consensus::THEMES);

/// The laws of the bus.
pub static BUS: &[Law<SharedBus>] = &join::<_, { count(bus::THEMES) }>(bus::THEMES);

/// The laws of the cache tier.
pub static CACHE: &[Law<SharedTier<Bytes>>] = &join::<_, { count(cache::THEMES) }>(cache::THEMES);
