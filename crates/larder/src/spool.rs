//! Spools by backend. `memory:` is [`larder_core::MemorySpool`].

#[cfg(feature = "log")]
mod log;

#[cfg(feature = "log")]
pub use log::{LogSpool, LogSpoolOptions};
