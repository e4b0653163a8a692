//! The public test kit of larder: the contracts as named laws, and what proves that the laws bite.
//!
//! Point it at any implementation of a contract, ours or yours:
//!
//! ```
//! use larder_core::{BoxError, MemoryConsensus, SharedConsensus};
//! use larder_testkit::{CheckOptions, Contract, Place, Subject, check};
//!
//! # #[tokio::main]
//! # async fn main() {
//! let subject = Subject::new("mine", || {
//!     Ok(Place::new(async || {
//!         Ok::<_, BoxError>(SharedConsensus::new(MemoryConsensus::default()))
//!     }))
//! });
//! let options = CheckOptions::default();
//! let report = check(&subject, SharedConsensus::laws(), options, |_| ()).await;
//! assert_eq!(report.broken(), 0, "{report:#?}");
//! # }
//! ```
//!
//! | room | what it holds |
//! |---|---|
//! | [`laws`] | every promise of the contracts as a [`Law`] |
//! | [`Unreliable`] | a store that fails on purpose, with an effect that is true |
//! | [`Outage`] | a cache tier that goes away when a test says so, and comes back |
//! | [`Proxy`] | a way to a server that can be cut, stopped and slowed down |
//! | [`history`] | recorded histories of concurrent clients, and whether one order explains them |
//! | [`meter`] | what a benchmark measures: latencies, processor time, the disk and its own limit |
//! | [`service`] | real services, started for the tests of one process |
//! | [`subjects`] | the reference models as [`Subject`]s |
//!
//! It starts no runtime and knows no driver; a backend comes in through a [`Place`].

mod check;
mod contract;
mod fault;
pub mod history;
mod law;
pub mod laws;
mod markdown;
pub mod meter;
mod model;
mod place;
mod random;
pub mod service;
mod stage;
pub mod subjects;
mod violation;

pub use check::{CheckOptions, Finding, Outcome, Report, check, try_law};
pub use contract::Contract;
pub use fault::{
    Direction, Disturbance, Disturbed, Fault, Faults, Interrupted, Outage, Proxy, Trouble,
    Unreliable,
};
pub use law::{Law, LawRun, Need};
pub use markdown::laws_markdown;
pub use place::{Harm, Place, Subject};
pub use random::Random;
pub use stage::Stage;
pub use violation::{Verdict, Violation, same_bytes};
