//! Who is told of what a composite puts right on its own.

use std::sync::{Mutex, MutexGuard, PoisonError};

use larder_core::{Repair, RepairListener};

/// The listeners of one composite.
#[derive(Debug, Default)]
pub(super) struct Repairs(Mutex<Vec<RepairListener>>);

impl Repairs {
    /// Tells `listener` from now on.
    pub(super) fn add(&self, listener: &RepairListener) {
        self.lock().push(listener.clone());
    }

    /// Tells everybody of `repair`.
    pub(super) fn tell(&self, repair: Repair<'_>) {
        // They may take their time, and are few.
        let listeners = self.lock().clone();
        for listener in listeners {
            listener.hear(repair);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<RepairListener>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
