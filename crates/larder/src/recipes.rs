//! What can be built on a contract's calls alone, whatever the backend.

mod backoff;
mod lease;
mod nonced;
mod recent;
mod resolve;
mod update;
mod watch;

pub use lease::{Attempt, Held, Lease};
pub use nonced::Nonced;
pub use recent::Recent;
pub use resolve::{Resolution, resolve};
pub use update::{Update, Updated, update};
pub use watch::Watch;
