//! No background at all.

use std::future::Future;

use super::{Offload, OffloadKey, Refused, RefusedReason, Registered};

/// An [`Offload`] that takes nothing: every task comes back as [`RefusedReason::Disabled`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DisabledOffload;

impl DisabledOffload {
    /// The offload that takes nothing.
    pub const fn new() -> Self {
        Self
    }
}

impl Offload for DisabledOffload {
    fn register<F>(&self, _key: OffloadKey, task: F) -> Result<Registered, Refused<F>>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Err(Refused { task, reason: RefusedReason::Disabled })
    }
}
