//! What the backends of one technology share, whatever their contract.
//!
//! A driver connects and classifies errors. It knows no contract trait.

#[cfg(feature = "log")]
pub(crate) mod log;

#[cfg(feature = "redis")]
pub(crate) mod redis;
