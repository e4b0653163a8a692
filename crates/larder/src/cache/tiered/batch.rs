//! Many writes or removes at once: one call to each layer, in the order of each key.

use std::collections::HashSet;
use std::sync::Arc;

use larder_core::{
    BackendError, CacheError, CacheValue, Condition, DeleteStatus, Effect, Failure as _, Key,
    KeyRef, Tier, WriteStatus,
};

use super::debts::Loss;
use super::layer::{Answer, Change, Layer, Ticket};
use super::write::{conclude, done, states};
use super::{Tiered, failure};
use crate::compose::{CompositionWritePolicy, LayerCall, LayerOutcome, remove_both};

/// The changes of a batch, each with its place in the order of its key. No key is in it twice.
type Batch<V> = Arc<[(Arc<Ticket>, Change<V>)]>;

/// The writes or removes of a batch in one layer.
struct BatchCall<'a, L, V> {
    layer: &'a Arc<Layer<L>>,
    batch: &'a Batch<V>,
    condition: Condition,
}

impl<V, L> LayerCall<Vec<Answer>, CacheError> for BatchCall<'_, L, V>
where
    V: Clone + Send + Sync + 'static,
    L: Tier<V>,
{
    async fn call(&self) -> Result<Vec<Answer>, CacheError> {
        land(self.layer, self.batch, self.condition).await
    }

    fn call_owned(&self) -> impl Future<Output = Result<Vec<Answer>, CacheError>> + Send + 'static {
        let (layer, batch, condition) =
            (Arc::clone(self.layer), Arc::clone(self.batch), self.condition);
        async move { land(&layer, &batch, condition).await }
    }
}

/// Makes the changes in `layer`, but for those that a later one has overtaken.
async fn land<V, L>(
    layer: &Layer<L>,
    batch: &[(Arc<Ticket>, Change<V>)],
    condition: Condition,
) -> Result<Vec<Answer>, CacheError>
where
    V: Clone + Send + Sync + 'static,
    L: Tier<V>,
{
    // In the order of the keys: two batches never wait for one another in a circle.
    let mut by_key: Vec<usize> = (0..batch.len()).collect();
    by_key.sort_unstable_by_key(|at| batch[*at].0.key());
    let mut turns: Vec<_> = batch.iter().map(|_| None).collect();
    for at in by_key {
        turns[at] = Some(batch[at].0.enter(layer.which).await);
    }

    let mut answers = vec![Answer::Superseded; batch.len()];
    let mut groups: Vec<(Condition, Vec<usize>)> = Vec::new();
    for (at, (ticket, change)) in batch.iter().enumerate() {
        let Some(turn) = &mut turns[at] else { continue };
        let by_version = change.goes_by_version(condition);
        match ticket.admit(layer.which, turn, by_version, condition, change.not_applied()) {
            Err(answer) => answers[at] = answer,
            Ok(condition) => match groups.iter_mut().find(|(of, _)| *of == condition) {
                Some((_, group)) => group.push(at),
                None => groups.push((condition, vec![at])),
            },
        }
    }

    let mut failed = None;
    for (asked, group) in groups {
        let said = match ask(layer, batch, &group, asked).await {
            // One large value must not hide what became of the others.
            Err(CacheError::TooLarge { .. }) => {
                let mut said = Vec::with_capacity(group.len());
                for at in &group {
                    said.push(ask(layer, batch, &[*at], asked).await.map(|said| said[0]));
                }
                said
            }
            Ok(said) => said.into_iter().map(Ok).collect(),
            Err(error) => {
                failed.get_or_insert(error);
                Vec::new()
            }
        };
        let mut said = said.into_iter();
        for at in group {
            let (ticket, change) = &batch[at];
            let said = match said.next() {
                Some(Ok(answer)) => {
                    answers[at] = answer;
                    Ok(answer)
                }
                Some(Err(error)) => {
                    let effect = error.effect();
                    failed.get_or_insert(error);
                    Err(effect)
                }
                // The error of a batch is that of one key, and says nothing about the others.
                None => Err(Effect::Unknown),
            };
            if let Some(turn) = &mut turns[at] {
                let by_version = change.goes_by_version(condition);
                ticket.conclude(layer.which, turn, by_version, asked, said);
            }
        }
    }
    failed.map_or(Ok(answers), Err)
}

/// Asks the tier once for the changes of `group`, all writes or all removes.
async fn ask<V, L>(
    layer: &Layer<L>,
    batch: &[(Arc<Ticket>, Change<V>)],
    group: &[usize],
    condition: Condition,
) -> Result<Vec<Answer>, CacheError>
where
    V: Clone + Send + Sync + 'static,
    L: Tier<V>,
{
    let entries: Vec<(Key, CacheValue<V>)> = group
        .iter()
        .filter_map(|at| match &batch[*at] {
            (ticket, Change::Write(value)) => {
                let value = layer.capped(value.clone(), ticket.clock());
                Some((ticket.key().to_key(), value))
            }
            (_, Change::Remove) => None,
        })
        .collect();
    let said: Vec<Answer> = if entries.is_empty() {
        let keys: Vec<KeyRef<'_>> = group.iter().map(|at| batch[*at].0.key()).collect();
        let said = layer.tier.remove_many(&keys, condition).await?;
        said.into_iter().map(Answer::Removed).collect()
    } else {
        let said = layer.tier.write_many(entries, condition).await?;
        said.into_iter().map(Answer::Written).collect()
    };
    if said.len() == group.len() {
        return Ok(said);
    }
    let source = format!("{} answers to {} changes", said.len(), group.len());
    Err(BackendError::new("tiered", "batch", source).into())
}

impl<L1, L2, R, W> Tiered<L1, L2, R, W> {
    /// Writes many values with one call to each layer; a key that is named twice goes one by one.
    pub(super) async fn put_many<V>(
        &self,
        entries: Vec<(Key, CacheValue<V>)>,
        condition: Condition,
    ) -> Result<Vec<WriteStatus>, CacheError>
    where
        V: Clone + Send + Sync + 'static,
        L1: Tier<V>,
        L2: Tier<V>,
        Self: Tier<V>,
        W: CompositionWritePolicy,
    {
        self.supports::<V>(condition)?;
        let first = match entries.first() {
            Some((key, _)) if !repeats(entries.iter().map(|(key, _)| key.as_ref())) => key.clone(),
            _ => return self.put_each(entries, condition).await,
        };
        self.settle::<V>().await;
        let now = self.clock.now();
        let batch: Batch<V> = entries
            .into_iter()
            .map(|(key, value)| {
                let loss = Loss::of_write(&value, condition, now);
                (self.ticket(key.as_ref(), loss), Change::Write(value))
            })
            .collect();
        let l1 = BatchCall { layer: &self.l1, batch: &batch, condition };
        let l2 = BatchCall { layer: &self.l2, batch: &batch, condition };
        let outcome = self.write_both(first.as_ref(), condition, l1, l2).await?;
        let states = states(&outcome);
        let statuses = batch.iter().enumerate().map(|(at, (ticket, _))| {
            let answers = [answer(&outcome.l1, at), answer(&outcome.l2, at)];
            conclude(ticket, condition, answers, states)
        });
        Ok(statuses.collect())
    }

    /// Removes many keys with one call to each layer; a key that is named twice goes one by one.
    pub(super) async fn drop_many<V>(
        &self,
        keys: &[KeyRef<'_>],
        condition: Condition,
    ) -> Result<Vec<DeleteStatus>, CacheError>
    where
        V: Clone + Send + Sync + 'static,
        L1: Tier<V>,
        L2: Tier<V>,
        Self: Tier<V>,
        W: CompositionWritePolicy,
    {
        self.supports::<V>(condition)?;
        let first = match keys.first() {
            Some(first) if !repeats(keys.iter().copied()) => first,
            _ => return self.drop_each(keys, condition).await,
        };
        self.settle::<V>().await;
        let loss = Loss::of_remove(condition, self.clock.now());
        let batch: Batch<V> =
            keys.iter().map(|key| (self.ticket(*key, loss), Change::Remove)).collect();
        let outcome = remove_both(
            &self.write,
            self.write_request(first),
            BatchCall { layer: &self.l1, batch: &batch, condition },
            BatchCall { layer: &self.l2, batch: &batch, condition },
        )
        .await
        .map_err(|error| failure("remove", error))?;
        let deleted = |of, at| answer(of, at).map_or(DeleteStatus::Missing, Answer::deleted);
        Ok((0..keys.len())
            .map(|at| deleted(&outcome.l1, at).and(deleted(&outcome.l2, at)))
            .collect())
    }

    async fn put_each<V>(
        &self,
        entries: Vec<(Key, CacheValue<V>)>,
        condition: Condition,
    ) -> Result<Vec<WriteStatus>, CacheError>
    where
        Self: Tier<V>,
    {
        let mut written = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            written.push(self.write(key.as_ref(), value, condition).await);
        }
        written.into_iter().collect()
    }

    async fn drop_each<V>(
        &self,
        keys: &[KeyRef<'_>],
        condition: Condition,
    ) -> Result<Vec<DeleteStatus>, CacheError>
    where
        Self: Tier<V>,
    {
        let mut removed = Vec::with_capacity(keys.len());
        for key in keys {
            removed.push(Tier::<V>::remove(self, *key, condition).await);
        }
        removed.into_iter().collect()
    }
}

fn repeats<'a>(keys: impl Iterator<Item = KeyRef<'a>>) -> bool {
    let mut seen = HashSet::new();
    keys.into_iter().any(|key| !seen.insert(key))
}

/// What a layer that has answered said to one change of a batch.
fn answer(of: &LayerOutcome<CacheError, Vec<Answer>>, at: usize) -> Option<Answer> {
    done(of)?.get(at).copied()
}
