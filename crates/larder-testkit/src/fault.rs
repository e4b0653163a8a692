//! Stores that fail on purpose: to try what stands on top of them, and the laws themselves.

mod consensus;
mod disturbed;
mod outage;
mod proxy;
mod spool;
mod tier;

pub use disturbed::{Disturbance, Disturbed, Fault};
pub use outage::{Interrupted, Outage, Trouble};
pub use proxy::{Direction, Proxy};

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::Random;

/// A store that sometimes fails: before a call took effect, after it, or without saying which.
///
/// The effect that the error claims is always true: a call that failed before is `NotApplied`, one
/// that failed afterwards or instead is `Unknown`. Reads fail too. Which calls fail depends on the
/// seed and on the order of the calls alone.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use larder_core::{Consensus, Failure, MemoryConsensus};
/// use larder_testkit::Unreliable;
///
/// let store = Unreliable::new(MemoryConsensus::default(), 7, 100);
/// let error = store.head("key").await.expect_err("every call fails");
/// println!("{}", error.effect());
/// store.heal();
/// assert!(store.head("key").await.is_ok());
/// # }
/// ```
pub type Unreliable<S> = Disturbed<S, Faults>;

/// Faults at random, as a seed decides.
pub struct Faults {
    percent: u8,
    healed: AtomicBool,
    count: AtomicU64,
    random: Mutex<Random>,
}

impl<S> Disturbed<S, Faults> {
    /// `inner`, with `percent` per cent of the calls failing as `seed` decides.
    pub fn new(inner: S, seed: u64, percent: u8) -> Self {
        let faults = Faults {
            percent,
            healed: AtomicBool::new(false),
            count: AtomicU64::new(0),
            random: Mutex::new(Random::seeded(seed)),
        };
        Self::by(faults, inner)
    }

    /// From now on no call fails any more.
    pub fn heal(&self) {
        self.disturbance.healed.store(true, Ordering::SeqCst);
    }

    /// How many calls have failed on purpose.
    pub fn failed(&self) -> u64 {
        self.disturbance.count.load(Ordering::SeqCst)
    }
}

impl Faults {
    /// What happens to the next call.
    fn next(&self) -> Option<Fault> {
        if self.healed.load(Ordering::SeqCst) {
            return None;
        }
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        if !random.happens(self.percent) {
            return None;
        }
        self.count.fetch_add(1, Ordering::SeqCst);
        Some(match random.below(3) {
            0 => Fault::Before,
            1 => Fault::Instead,
            _ => Fault::After,
        })
    }
}

impl Disturbance for Faults {
    fn is_calm(&self) -> bool {
        self.healed.load(Ordering::SeqCst)
    }

    fn strike_now(&self) -> Option<Fault> {
        self.next()
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults").field("percent", &self.percent).finish_non_exhaustive()
    }
}
