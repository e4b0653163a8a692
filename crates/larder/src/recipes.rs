//! What can be built on a contract's calls alone, whatever the backend.

mod lease;
mod resolve;

pub use lease::{Attempt, Held, Lease};
pub use resolve::{Resolution, resolve};
