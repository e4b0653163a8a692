//! What the backends of one technology share, whatever their contract.
//!
//! A driver connects and classifies errors. It knows no contract trait.

#[cfg(any(feature = "etcd", feature = "postgres", feature = "redis", feature = "s3"))]
mod authority;

#[cfg(feature = "etcd")]
pub(crate) mod etcd;

#[cfg(feature = "log")]
pub(crate) mod log;

#[cfg(feature = "s3")]
pub(crate) mod object;

#[cfg(feature = "postgres")]
pub(crate) mod postgres;

#[cfg(feature = "redis")]
pub(crate) mod redis;

#[cfg(any(feature = "etcd-tls", feature = "postgres-tls", feature = "redis-tls", feature = "s3"))]
mod tls;

#[cfg(any(feature = "etcd", feature = "postgres", feature = "redis"))]
mod trust;
