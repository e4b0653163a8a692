//! **larder keeps it fresh, keeps it safe, keeps it in order**: a tiered cache, a durable spool
//! and compare-and-set consensus for services, each one contract with many backends.
//!
//! ```
//! # async fn demo() -> Result<(), Box<dyn std::error::Error>> {
//! use larder::{CaSResult, Consensus, SeqNo, Spool, SpoolId, SystemClock, VersionedData};
//!
//! // Keep it safe: Ok means that the payload survives a power cut.
//! # let dir = std::env::temp_dir().join(format!("larder-doc-{}", std::process::id()));
//! # let (spool_uri, uri) = (format!("log:{}/s", dir.display()), format!("log:{}/c", dir.display()));
//! let spool = larder::open_spool(&spool_uri).await?; // such as "log:./data/spool"
//! let id = SpoolId::new(&SystemClock);
//! spool.store(id, "a message".into(), true, None).await?;
//! assert_eq!(spool.load(id).await?, "a message");
//!
//! // Keep it in order: of all who expect the same version, one wins.
//! let store = larder::open_consensus(&uri).await?; // such as "log:./data/consensus"
//! let leader = VersionedData { seqno: SeqNo(1), data: "me".into() };
//! let won = store.compare_and_set("leader", None, leader.clone()).await?;
//! let lost = store.compare_and_set("leader", None, leader).await?;
//! assert_eq!(won, CaSResult::Committed);
//! assert_eq!(lost, CaSResult::ExpectationMismatch { current: Some(SeqNo(1)) });
//! # spool.shutdown().await?;
//! # drop((spool, store));
//! # std::fs::remove_dir_all(dir)?;
//! # Ok(())
//! # }
//! # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(demo()).unwrap();
//! ```
//!
//! | room | what it holds |
//! |---|---|
//! | [`bus`] | messages between processes by backend |
//! | [`cache`] | tiers in memory and over stores of bytes, two tiers as one, the face of a service |
//! | [`compose`] | policies that join two layers of a contract into one |
//! | [`spool`] | spools by backend |
//! | [`consensus`] | consensus stores by backend |
//! | [`recipes`] | what is built on a contract's calls alone |
//! | [`registry`] | from an address to a live store |
//!
//! Everything of `larder-core` (contracts, ids, errors, clocks) is re-exported here. Backends need
//! a tokio runtime with time enabled.

pub mod address;
pub mod bus;
pub mod cache;
pub mod compose;
pub mod consensus;
mod driver;
pub mod recipes;
pub mod registry;
pub mod spool;

pub use address::{Address, AddressError};
pub use larder_core::*;
pub use registry::{OpenError, attach_bus, open_cache, open_consensus, open_spool};

#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/coherence.md")]
struct CoherencePage;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/consensus.md")]
struct ConsensusPage;

#[cfg(all(doctest, feature = "redis"))]
#[doc = include_str!("../../../docs/redis.md")]
struct RedisPage;

#[cfg(all(doctest, feature = "postgres"))]
#[doc = include_str!("../../../docs/postgres.md")]
struct PostgresPage;

#[cfg(all(doctest, feature = "etcd"))]
#[doc = include_str!("../../../docs/etcd.md")]
struct EtcdPage;

#[cfg(all(doctest, feature = "s3"))]
#[doc = include_str!("../../../docs/s3.md")]
struct S3Page;
