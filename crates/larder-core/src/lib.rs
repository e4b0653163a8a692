//! The contracts of larder: what a cache tier, a spool and a consensus store promise.
//!
//! This crate holds traits, the types in their signatures, their errors, a clock and a reference
//! implementation of each contract. It starts no runtime and knows no driver, so a service can
//! depend on it for years while the backends behind it change.
//!
//! | room | what it holds |
//! |---|---|
//! | [`cache`] | [`Tier`]: values with expiry, staleness and versions |
//! | [`spool`] | [`Spool`]: a durable set of payloads by id |
//! | [`consensus`] | [`Consensus`]: versioned data, replaced only by compare-and-set |
//! | [`bus`] | [`Bus`]: small messages between processes, for invalidation |
//! | [`enumerate`] | how an enumeration ends |
//! | [`shared`] | handles for choosing a backend at run time |
//! | [`error`] | [`Effect`] and [`Retry`]: what every error answers |
//! | [`clock`] | the only door to time and randomness |
//! | [`channel`] | the bounded channel that `enumerate` feeds |
//! | [`reference`](mod@reference) | the contracts as small executable models; also the `memory:` backends |
//!
//! What it is not: a collection of backends (see the `larder` crate) or a test suite (see
//! `larder-testkit`).

pub mod bus;
pub mod cache;
pub mod channel;
pub mod clock;
pub mod consensus;
pub mod enumerate;
pub mod error;
pub mod key;
pub mod reference;
pub mod seqno;
pub mod shared;
pub mod spool;
pub mod spool_id;
pub mod timestamp;
pub mod version;

pub use bus::{Bus, BusError, Subscription, Topic};
pub use cache::{
    Age, BreakerState, CacheError, CacheValue, Condition, Conditions, DeleteStatus, Found,
    GuardStats, LayerState, Now, Repair, RepairListener, Source, Tier, TierStats, TierUsage,
    WriteStatus,
};
pub use clock::{Clock, ManualClock, SharedClock, SystemClock};
pub use consensus::{
    CaSResult, Consensus, ConsensusError, Determinate, InvalidArgument, KeyStream, VersionedData,
};
pub use enumerate::{EnumerateAborted, EnumerateHandle, EnumerateReport, EnumerateSummary};
pub use error::{BackendError, BoxError, Durability, Effect, Failure, Retry};
pub use key::{Key, KeyError, KeyRef};
pub use reference::{MemoryBus, MemoryConsensus, MemorySpool};
pub use seqno::SeqNo;
pub use shared::{SharedBus, SharedConsensus, SharedSpool, SharedTier};
pub use spool::{
    Listing, ListingSender, Spool, SpoolCondition, SpoolEntry, SpoolError, SpoolHealth,
    SpoolSender, SpoolStats,
};
pub use spool_id::{SpoolId, SpoolIdError};
pub use timestamp::Timestamp;
pub use version::{HybridClock, Version};
