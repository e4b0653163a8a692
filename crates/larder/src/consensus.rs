//! Consensus stores by backend. `memory:` is [`larder_core::MemoryConsensus`].

#[cfg(feature = "log")]
mod log;

#[cfg(feature = "log")]
pub use log::LogConsensus;
