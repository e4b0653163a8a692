//! Forgetting what another process has changed.

use futures_util::future::join;
use larder_core::{CacheError, Condition, KeyRef, Tier};

use super::Tiered;
use super::debts::Due;
use crate::compose::CompositionLayer;

impl<L1, L2, R, W> Tiered<L1, L2, R, W> {
    /// Drops `key` from what is private, and lets no read that is under way bring it back.
    pub(super) async fn forget_one<V>(&self, key: KeyRef<'_>, condition: Condition)
    where
        V: Clone + Send + Sync + 'static,
        L1: Tier<V>,
        L2: Tier<V>,
    {
        // From here on no refill lands whose read began before; one that is landing has the gate.
        let pass = self.order.begin(key);
        let (l1, l2) = {
            let _turn = pass.gate(CompositionLayer::L1).await;
            join(self.l1.tier.forget(key, condition), self.l2.tier.forget(key, condition)).await
        };
        for (debts, forgot) in [(&self.l1.debts, l1), (&self.l2.debts, l2)] {
            if let Err(error) = forgot {
                debts.owe_forgetting(key, pass.number(), || self.clock.instant());
                self.tell_remembered(&error);
            }
        }
    }

    /// As [`Tiered::forget_one`] for every key.
    pub(super) async fn forget_each<V>(&self)
    where
        V: Clone + Send + Sync + 'static,
        L1: Tier<V>,
        L2: Tier<V>,
    {
        self.order.void_reads().await;
        let number = self.order.number();
        let (l1, l2) = join(self.l1.tier.forget_all(), self.l2.tier.forget_all()).await;
        // Reads that began in between have seen what was there.
        self.order.void_reads().await;
        for (debts, forgot) in [(&self.l1.debts, l1), (&self.l2.debts, l2)] {
            if let Err(error) = forgot {
                debts.owe_all(number, Due::Forget, self.clock.instant());
                self.tell_remembered(&error);
            }
        }
    }

    fn tell_remembered(&self, error: &CacheError) {
        tracing::debug!(
            target: "larder::cache",
            composition = self.observer.name(),
            error = larder_core::error::chain(error),
            "a layer could not forget, and counts as empty there"
        );
    }
}
