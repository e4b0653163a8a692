//! Many keys at once: one call to each tier.

use std::collections::HashMap;

use larder_core::{
    CacheError, CacheValue, Condition, DeleteStatus, Key, KeyRef, Tier as _, WriteStatus,
};

use super::super::Tagged;
use super::hit::{Entry, Lookup};
use super::{Cache, Change, PutOptions};

impl<V: Clone + Send + Sync + 'static> Cache<V> {
    /// What the cache knows about each of `keys`, in their order: as [`Cache::look_up`], with one
    /// call to the far tier for all that the near one lacks.
    ///
    /// # Errors
    /// As [`Cache::get`], for the first key that failed.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    ///
    /// ```
    /// use larder::cache::{Cache, Lookup, PutOptions, memory};
    /// use larder_core::{Key, KeyRef, SharedTier};
    /// use bytes::Bytes;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let cache: Cache<Bytes> = Cache::builder(SharedTier::new(memory(64 << 20))).build();
    /// let entries = vec![
    ///     (Key::new("a")?, Bytes::from("1"), PutOptions::new()),
    ///     (Key::new("b")?, Bytes::from("2"), PutOptions::new()),
    /// ];
    /// cache.put_many(entries).await?;
    /// let keys = [KeyRef::new("a")?, KeyRef::new("b")?, KeyRef::new("c")?];
    /// cache.remove_many(&keys[..1]).await?;
    /// let found = cache.get_many(&keys).await?;
    /// assert!(matches!(&found[..], [Lookup::Miss, Lookup::Hit(_), Lookup::Miss]));
    /// # Ok(()) }
    /// ```
    pub async fn get_many(&self, keys: &[KeyRef<'_>]) -> Result<Vec<Lookup<V>>, CacheError> {
        let found = self.find_many(keys).await;
        let found = found.inspect_err(|_| self.0.tally.errors.increment())?;
        let told = found.into_iter().map(|entry| {
            match &entry {
                Some(entry) => self.count(entry),
                None => self.0.tally.misses.increment(),
            }
            entry.map_or(Lookup::Miss, Entry::into_lookup)
        });
        Ok(told.collect())
    }

    /// As [`Cache::put`] for each entry, with one call to each tier. Answers in their order. Of a key
    /// that is named twice the last value counts, for both answers.
    ///
    /// Not atomic: others may see some of them before the rest.
    ///
    /// # Errors
    /// As [`Cache::put`], for the first key that failed; others may have been written.
    ///
    /// # Cancel safety
    /// Dropping the future leaves it unknown which values were written.
    pub async fn put_many(
        &self,
        entries: Vec<(Key, V, PutOptions)>,
    ) -> Result<Vec<WriteStatus>, CacheError> {
        let written = self.store_many(entries).await;
        match &written {
            Ok(written) => written.iter().for_each(|_| self.0.tally.puts.increment()),
            Err(_) => self.0.tally.errors.increment(),
        }
        written
    }

    /// As [`Cache::remove`] for each of `keys`, with one call to each tier. Answers in their order.
    ///
    /// # Errors
    /// As [`Cache::remove`], for the first key that failed; others may have been removed.
    ///
    /// # Cancel safety
    /// Dropping the future leaves it unknown which keys were removed.
    pub async fn remove_many(&self, keys: &[KeyRef<'_>]) -> Result<Vec<DeleteStatus>, CacheError> {
        let mut changes: Vec<_> = keys.iter().map(|key| self.0.flights.change(*key)).collect();
        for change in &mut changes {
            change.settled().await;
        }
        let mut notices: Vec<_> =
            keys.iter().map(|key| self.notice(*key, Change::Remove)).collect();
        let removed = self.0.tier.remove_many(keys, Condition::Always).await;
        match &removed {
            Ok(removed) => {
                let there = removed.iter().filter(|status| status.count() > 0);
                there.for_each(|_| self.0.tally.removes.increment());
            }
            Err(error) => {
                self.0.tally.errors.increment();
                // It is the error of one key: the others may have been removed.
                if keys.len() == 1 {
                    for notice in &mut notices {
                        notice.failed(error);
                    }
                }
            }
        }
        removed
    }

    async fn find_many(&self, keys: &[KeyRef<'_>]) -> Result<Vec<Option<Entry<V>>>, CacheError> {
        if !self.vouch().await {
            return Ok(keys.iter().map(|_| None).collect());
        }
        let answers = self.0.tier.read_many(keys).await?;
        let mut found = Vec::with_capacity(keys.len());
        for (key, answer) in keys.iter().zip(answers) {
            found.push(match answer.map(|answer| self.0.accept(answer)) {
                None => None,
                Some(Ok(entry)) => Some(entry),
                Some(Err(invalid)) => {
                    self.0.tally.invalidated.increment();
                    self.drop_invalid(*key, invalid).await;
                    // It may have hidden a valid value in a far layer.
                    self.find(*key).await?
                }
            });
        }
        Ok(found)
    }

    async fn store_many(
        &self,
        entries: Vec<(Key, V, PutOptions)>,
    ) -> Result<Vec<WriteStatus>, CacheError> {
        let inner = &*self.0;
        let version = inner.versions.next();
        // Where each answer is found: at the last entry of its key.
        let mut last: HashMap<Key, usize> = HashMap::with_capacity(entries.len());
        let mut places = Vec::with_capacity(entries.len());
        let mut values: Vec<(Key, CacheValue<Tagged<V>>)> = Vec::with_capacity(entries.len());
        for (key, data, options) in entries {
            let value = inner.value(data, options, version);
            let at = *last.entry(key.clone()).or_insert(values.len());
            places.push(at);
            match values.get_mut(at) {
                Some(earlier) => earlier.1 = value,
                None => values.push((key, value)),
            }
        }
        let keys: Vec<Key> = values.iter().map(|(key, _)| key.clone()).collect();
        let mut changes: Vec<_> =
            keys.iter().map(|key| inner.flights.change(key.as_ref())).collect();
        for (change, key) in changes.iter_mut().zip(&keys) {
            change.settled().await;
            inner.pauses.end(key.as_ref());
        }
        // Told also when the call fails: that is the error of one key.
        let mut notices: Vec<_> =
            keys.iter().map(|key| self.notice(key.as_ref(), Change::Put)).collect();
        let conditional = inner.tier.conditions().if_newer_than;
        let condition =
            if conditional { Condition::IfNewerThan(version) } else { Condition::Always };
        let mut written = inner.tier.write_many(values.clone(), condition).await?;
        for ((status, notice), (key, value)) in written.iter_mut().zip(&mut notices).zip(values) {
            let mut version = version;
            if !status.applied && conditional {
                (*status, version) = self.insist(key.as_ref(), value).await?;
            }
            notice.wrote(*status, Some(version));
        }
        Ok(spread(&places, &written))
    }
}

/// The answer at each of `places`.
fn spread(places: &[usize], written: &[WriteStatus]) -> Vec<WriteStatus> {
    places.iter().filter_map(|at| written.get(*at).copied()).collect()
}
