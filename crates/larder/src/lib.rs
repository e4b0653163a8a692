//! **larder keeps it fresh, keeps it safe, keeps it in order**: a tiered cache, a durable spool
//! and compare-and-set consensus for services, each one contract with many backends.
//!
//! | room | what it holds |
//! |---|---|
//! | [`cache`] | tiers in memory and over stores of bytes, two tiers as one, the face of a service |
//! | [`compose`] | policies that join two layers of a contract into one |
//! | [`recipes`] | what is built on a contract's calls alone |
//! | [`registry`] | from an address to a live store |
//!
//! Everything of `larder-core` (contracts, ids, errors, clocks) is re-exported here. Backends need
//! a tokio runtime with time enabled.

pub mod address;
pub mod cache;
pub mod compose;
pub mod recipes;
pub mod registry;

pub use address::{Address, AddressError};
pub use larder_core::*;
pub use registry::{OpenError, open_cache, open_consensus, open_spool};
