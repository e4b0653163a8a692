//! Consensus stores by backend. `memory:` is [`larder_core::MemoryConsensus`].

#[cfg(any(feature = "etcd", feature = "postgres"))]
mod coalesce;
#[cfg(feature = "etcd")]
mod etcd;
#[cfg(feature = "log")]
mod log;
#[cfg(feature = "s3")]
mod object;
#[cfg(feature = "postgres")]
mod postgres;

#[cfg(feature = "etcd")]
pub use etcd::EtcdConsensus;
#[cfg(feature = "log")]
pub use log::LogConsensus;
#[cfg(feature = "s3")]
pub use object::ObjectConsensus;
#[cfg(feature = "postgres")]
pub use postgres::PostgresConsensus;
