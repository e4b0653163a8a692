//! A background that is chosen at run time.

use std::future::Future;

use super::{BoundedOffload, DisabledOffload, Offload, OffloadKey, Refused, Registered};

/// Either of the offloads of this crate, for composites without a type parameter for it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum AnyOffload {
    /// A bounded executor.
    Bounded(BoundedOffload),
    /// No background.
    Disabled(DisabledOffload),
}

impl Default for AnyOffload {
    /// A bounded executor of its own, with the default limits.
    fn default() -> Self {
        Self::Bounded(BoundedOffload::default())
    }
}

impl From<BoundedOffload> for AnyOffload {
    fn from(offload: BoundedOffload) -> Self {
        Self::Bounded(offload)
    }
}

impl From<DisabledOffload> for AnyOffload {
    fn from(offload: DisabledOffload) -> Self {
        Self::Disabled(offload)
    }
}

impl Offload for AnyOffload {
    fn register<F>(&self, key: OffloadKey, task: F) -> Result<Registered, Refused<F>>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        match self {
            Self::Bounded(offload) => offload.register(key, task),
            Self::Disabled(offload) => offload.register(key, task),
        }
    }
}
