//! What the backends of one technology share, whatever their contract.
//!
//! A driver connects and classifies errors. It knows no contract trait.

#[cfg(any(feature = "etcd", feature = "postgres", feature = "redis"))]
mod authority;

#[cfg(feature = "etcd")]
pub(crate) mod etcd;

#[cfg(feature = "log")]
pub(crate) mod log;

#[cfg(feature = "postgres")]
pub(crate) mod postgres;

#[cfg(feature = "redis")]
pub(crate) mod redis;
