//! Many reads at once: one call to L2 for what L1 lacks.

use larder_core::{CacheError, Found, KeyRef, Tier};

use super::{Known, ReadCall, ReadResult, Tiered, failure};
use crate::compose::{
    CompositionError, CompositionLayer, CompositionReadPolicy, OnLayerError, Operation,
};

type Answers<V> = Vec<Option<Found<V>>>;

impl<L1, L2, R, W> Tiered<L1, L2, R, W> {
    /// Asks L1 for everything, L2 for what that leaves open, and lets the read policy decide for
    /// each key between the two answers. A layer that fails is treated as by a single read.
    pub(super) async fn find_many<V>(&self, keys: &[KeyRef<'_>]) -> Result<Answers<V>, CacheError>
    where
        V: Clone + Send + Sync + 'static,
        L1: Tier<V>,
        L2: Tier<V>,
        R: CompositionReadPolicy,
        W: Send + Sync,
    {
        let tokens: Vec<_> = keys.iter().map(|key| self.order.token(*key)).collect();
        // Before the layer is asked: a debt that is paid meanwhile does not vouch for what it held.
        let owed: Vec<_> = keys.iter().map(|key| self.l1.debts.owes(*key)).collect();
        let near = self.l1.tier.read_many(keys).await;
        let (mut near, near_error) = match near {
            Ok(found) => (found, None),
            Err(error) => {
                self.l1.tally.failed();
                (keys.iter().map(|_| None).collect(), Some(error))
            }
        };
        near.resize_with(keys.len(), || None);
        let mut open = Vec::new();
        for (at, (owed, found)) in owed.into_iter().zip(&mut near).enumerate() {
            *found = found.take().filter(|_| !owed).map(|found| self.l1.above(found));
            if !found.as_ref().is_some_and(|found| self.decides(found)) {
                if found.is_none() && near_error.is_none() {
                    self.l1.tally.missed();
                }
                open.push(at);
            }
        }
        let asked: Vec<_> =
            open.iter().copied().filter(|at| !self.l2.debts.owes(keys[*at])).collect();
        let wanted: Vec<_> = asked.iter().map(|at| keys[*at]).collect();
        let far =
            if wanted.is_empty() { Ok(Vec::new()) } else { self.l2.tier.read_many(&wanted).await };
        match &far {
            Ok(far) => {
                far.iter().filter(|found| found.is_none()).for_each(|_| self.l2.tally.missed());
            }
            Err(_) => self.l2.tally.failed(),
        }
        // Whether a key would be told as missing on the word of a layer that was not heard.
        let near_lacks = asked.iter().any(|at| near[*at].is_none());
        let far_lacks = asked.len() < open.len()
            || far.as_ref().is_ok_and(|far| far.iter().any(Option::is_none));
        let far = self.judge_far(far, near_error, near_lacks, far_lacks)?;

        let mut far_of: Answers<V> = keys.iter().map(|_| None).collect();
        for (at, found) in asked.into_iter().zip(far) {
            far_of[at] = found.map(|found| self.l2.above(found));
        }
        for at in open {
            let read = self.choose(keys[at], near[at].take(), far_of[at].take()).await?;
            if self.refill.wants(&read)
                && let Some(found) = &read.value
            {
                self.fill(keys[at], tokens[at], &found.value).await;
            }
            near[at] = read.value;
        }
        Ok(near)
    }

    fn decides<V>(&self, found: &Found<V>) -> bool
    where
        R: CompositionReadPolicy,
    {
        let stale = found.value.stale.is_some_and(|stale| self.clock.is_past(stale));
        self.read.l1_hit_decides(stale)
    }

    /// What the failures of the two layers come to.
    fn judge_far<V>(
        &self,
        far: Result<Answers<V>, CacheError>,
        near_error: Option<CacheError>,
        near_lacks: bool,
        far_lacks: bool,
    ) -> Result<Answers<V>, CacheError> {
        let (error, layer) = match (far, near_error) {
            (Ok(far), None) => return Ok(far),
            (Err(l2), Some(l1)) => {
                let error = CompositionError::both(l1, l2);
                self.observer.failed(Operation::Read, &error);
                return Err(failure("read", error));
            }
            (Ok(far), Some(error)) => {
                if !far_lacks || self.on_layer_error == OnLayerError::Miss {
                    self.observer.degraded(Operation::Read, CompositionLayer::L1, &error);
                    return Ok(far);
                }
                (error, CompositionLayer::L1)
            }
            (Err(error), None) => {
                if !near_lacks || self.on_layer_error == OnLayerError::Miss {
                    self.observer.degraded(Operation::Read, CompositionLayer::L2, &error);
                    return Ok(Vec::new());
                }
                (error, CompositionLayer::L2)
            }
        };
        let error = CompositionError::layer(layer, error);
        self.observer.failed(Operation::Read, &error);
        Err(failure("read", error))
    }

    /// The policy's choice between two answers that are there.
    async fn choose<V>(
        &self,
        key: KeyRef<'_>,
        near: Option<Found<V>>,
        far: Option<Found<V>>,
    ) -> Result<ReadResult<Found<V>, CacheError>, CacheError>
    where
        V: Clone + Send + Sync + 'static,
        L1: Tier<V>,
        L2: Tier<V>,
        R: CompositionReadPolicy,
        W: Send + Sync,
    {
        let l1 = ReadCall { layer: &self.l1, key, known: Known::Said(near) };
        let l2 = ReadCall { layer: &self.l2, key, known: Known::Said(far) };
        let read = self.read.execute_with(self.read_request(&key), l1, l2).await;
        read.map_err(|error| failure("read", error))
    }
}
