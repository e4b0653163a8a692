//! What can be built on a contract's calls alone, whatever the backend.

mod resolve;

pub use resolve::{Resolution, resolve};
