//! Consensus stores by backend. `memory:` is [`larder_core::MemoryConsensus`].

#[cfg(feature = "postgres")]
mod coalesce;
#[cfg(feature = "log")]
mod log;
#[cfg(feature = "postgres")]
mod postgres;

#[cfg(feature = "log")]
pub use log::LogConsensus;
#[cfg(feature = "postgres")]
pub use postgres::PostgresConsensus;
