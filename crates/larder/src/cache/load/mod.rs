//! Loading what a cache lacks: once for all who ask, in the background, and never over what was
//! put or removed meanwhile.
//!
//! ```text
//! LoadOptions, Loaded, LoadError   what callers say and are told
//! Flights                          the loads that are under way: one of a key at a time
//! Pauses                           keys whose loader has failed while a stale value was there
//! Jitter                           lives of unequal length
//! LoadLease                        one process at a time, where several share a tier
//! ```

mod error;
mod flight;
mod jitter;
mod lease;
mod loaded;
mod options;
mod pause;

pub use error::LoadError;
pub(super) use flight::{Elected, Flight, Flights, Look};
pub(super) use jitter::Jitter;
pub use lease::LoadLease;
pub(super) use lease::{Turn, Turned};
pub(super) use loaded::Keep;
pub use loaded::Loaded;
pub use options::LoadOptions;
pub(super) use pause::Pauses;
