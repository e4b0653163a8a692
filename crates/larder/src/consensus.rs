//! Consensus stores by backend, and what can be put around any of them. `memory:` is
//! [`larder_core::MemoryConsensus`].

#[cfg(any(feature = "etcd", feature = "postgres"))]
mod coalesce;
#[cfg(feature = "etcd")]
mod etcd;
#[cfg(feature = "log")]
mod log;
mod measured;
#[cfg(feature = "s3")]
mod object;
#[cfg(feature = "postgres")]
mod postgres;
mod timeout;

#[cfg(feature = "etcd")]
pub use etcd::EtcdConsensus;
#[cfg(feature = "log")]
pub use log::LogConsensus;
pub use measured::Measured;
#[cfg(feature = "s3")]
pub use object::ObjectConsensus;
#[cfg(feature = "postgres")]
pub use postgres::PostgresConsensus;
pub use timeout::Timeout;
