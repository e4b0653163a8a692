//! Loading what is not here, and refreshing what is stale.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use larder_core::error::chain;
use larder_core::{
    Age, BoxError, CacheValue, Condition, KeyRef, Now, Tier as _, Timestamp, Version, WriteStatus,
};
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};

use super::super::Tagged;
use super::super::load::{
    Elected, Flight, Keep, LoadError, LoadOptions, Loaded, Look, Turn, Turned,
};
use super::hit::{Entry, Hit};
use super::{Cache, Change, Inner};
use crate::compose::{Offload as _, OffloadKey, Refused, RefusedReason};

type FlightOf<V> = Flight<Entry<V>>;

impl<V: Clone + Send + Sync + 'static> Cache<V> {
    /// Returns the value of `key`, and loads it when the cache has none, or only a stale one; with
    /// the options of the cache. `None`: there is no such value, as the loader says or has said.
    ///
    /// - A fresh value is returned at once; that allocates nothing when a tier in memory has it.
    /// - One load of a key runs at a time in this process: everybody else waits for it, or takes
    ///   the stale value; see [`LoadOptions`] for who waits how long.
    /// - The load runs in the background and is cached also when everybody who waited has left.
    /// - An error goes to those who wait now and is not kept. While the loader fails, a stale value
    ///   is served until it expires, and the next try waits for a while.
    /// - A `put`, `remove`, `remove_tag` or `clear` that begins during a load wins: what was loaded
    ///   goes to those who were waiting already and is not cached, and later callers do not wait
    ///   for that load.
    /// - Tiers that cannot be asked are a miss, and tiers that cannot be written do not matter to
    ///   the caller; both are counted and reported.
    ///
    /// A loader that asks the cache for its own key waits for itself until the hard timeout.
    ///
    /// # Errors
    /// [`LoadError`], when there is no value to fall back on.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect on a load that has begun, nor on others who wait for it.
    ///
    /// ```
    /// use larder::cache::{Cache, LoadError, Loaded, memory};
    /// use larder_core::{KeyRef, SharedTier};
    /// use bytes::Bytes;
    /// use std::time::Duration;
    ///
    /// async fn query(id: u32) -> Result<Option<Bytes>, std::io::Error> {
    ///     Ok((id == 1).then(|| Bytes::from("one")))
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let cache: Cache<Bytes> = Cache::builder(SharedTier::new(memory(64 << 20))).build();
    /// let one = cache.get_or_load(KeyRef::new("row/1")?, || query(1)).await?;
    /// assert_eq!(one.map(|hit| hit.value), Some(Bytes::from("one")));
    /// // That there is no such row is remembered for a while as well.
    /// assert!(cache.get_or_load(KeyRef::new("row/2")?, || query(2)).await?.is_none());
    /// // A loader may say how long its value lives.
    /// let load = async || Ok::<_, LoadError>(Loaded::new(Bytes::from("now")).ttl(Duration::from_secs(1)));
    /// let now = cache.get_or_load(KeyRef::new("time")?, load).await?;
    /// # assert!(now.is_some());
    /// # Ok(()) }
    /// ```
    pub async fn get_or_load<L, F, T, E>(
        &self,
        key: KeyRef<'_>,
        loader: L,
    ) -> Result<Option<Hit<V>>, LoadError>
    where
        L: FnOnce() -> F + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Into<Loaded<V>>,
        E: Into<BoxError>,
    {
        self.get_or_load_with(key, &self.0.load, loader).await
    }

    /// As [`Cache::get_or_load`], with options of this call. Who joins a load that is under way
    /// waits by its own options; the life of the value is decided by those of the load.
    ///
    /// # Errors
    /// As [`Cache::get_or_load`].
    ///
    /// # Cancel safety
    /// As [`Cache::get_or_load`].
    pub async fn get_or_load_with<L, F, T, E>(
        &self,
        key: KeyRef<'_>,
        options: &LoadOptions,
        loader: L,
    ) -> Result<Option<Hit<V>>, LoadError>
    where
        L: FnOnce() -> F + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Into<Loaded<V>>,
        E: Into<BoxError>,
    {
        if let Now::Hit(found) = self.read_now(key)
            && let Ok(entry) = self.0.accept(found)
            && entry.age == Age::Fresh
            && !self.0.is_due_eagerly(&entry, options)
        {
            self.count(&entry);
            return Ok(entry.into_hit());
        }
        let load = async move { loader().await.map(Into::into).map_err(LoadError::loader) };
        self.obtain(key, options, load).await.map(Entry::into_hit)
    }

    /// The entry of `key`: what is here, if it will do, or else what `load` gives.
    async fn obtain(
        &self,
        key: KeyRef<'_>,
        options: &LoadOptions,
        load: impl Future<Output = Result<Loaded<V>, LoadError>> + Send + 'static,
    ) -> Result<Entry<V>, LoadError> {
        let inner = &*self.0;
        let called = inner.versions.next();
        loop {
            let (flight, found) = match inner.flights.look(key) {
                Look::Join(flight) => (flight, None),
                Look::Token(token) => {
                    let found = self.find_or_miss(key).await;
                    if let Some(entry) =
                        found.as_ref().filter(|entry| inner.will_do(key, entry, options))
                    {
                        self.count(entry);
                        return Ok(self.serve(entry.clone()));
                    }
                    let version = || inner.versions.next();
                    match inner.flights.elect(key, token, found.clone(), version) {
                        Elected::Join(flight) => (flight, found),
                        Elected::Lead { flight, recheck } => {
                            self.start(&flight, recheck, options, load);
                            // It is younger than this call, so whatever it gives will do.
                            let given = self.wait(&flight, found, options).await;
                            return given.map(|entry| self.serve(entry));
                        }
                    }
                }
            };
            inner.tally.joined_loads.increment();
            let entry = self.wait(&flight, found, options).await?;
            if flight.version() > called || !inner.is_invalid(&entry) {
                return Ok(self.serve(entry));
            }
            // It was invalidated while it was loaded, perhaps before this call: not for us.
            inner.flights.detach(&flight);
        }
    }

    /// Starts a load in the background.
    fn start(
        &self,
        flight: &Arc<FlightOf<V>>,
        recheck: bool,
        options: &LoadOptions,
        load: impl Future<Output = Result<Loaded<V>, LoadError>> + Send + 'static,
    ) {
        let ending = Ending { cache: self.clone(), flight: Arc::clone(flight) };
        let task = ending.fly(recheck, options.clone(), load);
        if let Err(Refused { task, reason }) =
            self.0.offload.register(OffloadKey::unique("cache-load"), task)
        {
            let error = LoadError::Refused(reason);
            self.0.tally.load_error(&error);
            flight.tell(Err(error));
            drop(task);
        }
    }

    /// What `flight` gives, or what there is to fall back on.
    async fn wait(
        &self,
        flight: &FlightOf<V>,
        found: Option<Entry<V>>,
        options: &LoadOptions,
    ) -> Result<Entry<V>, LoadError> {
        let inner = &*self.0;
        let spare = found.or_else(|| flight.fallback()).and_then(|entry| inner.usable(entry));
        match &spare {
            Some(entry) => self.count(entry),
            None => inner.tally.misses.increment(),
        }
        let limit = match &spare {
            Some(entry) if entry.age == Age::Fresh => Duration::ZERO,
            Some(_) => options.soft_timeout.min(options.hard_timeout),
            None => options.hard_timeout,
        };
        if let Some(entry) = spare.as_ref().filter(|_| limit.is_zero()) {
            return Ok(entry.clone());
        }
        if !flight.has_ended()
            && let Err(error) = self.outlast(flight, limit).await
        {
            inner.tally.load_error(&error);
            return spare.ok_or(error);
        }
        // Whatever ended the wait: what is known by now counts.
        let after = options.hard_timeout;
        let outcome = flight.outcome().unwrap_or(Err(LoadError::TimedOut { after }));
        outcome.or_else(|error| {
            let spare = spare.or_else(|| flight.fallback());
            spare.and_then(|entry| inner.usable(entry)).ok_or(error)
        })
    }

    /// Waits for the end of `flight`, or for `limit`.
    async fn outlast(&self, flight: &FlightOf<V>, limit: Duration) -> Result<(), LoadError> {
        let inner = &*self.0;
        if Handle::try_current().is_err() {
            return Err(LoadError::Refused(RefusedReason::NoRuntime));
        }
        let Ok(_place) = inner.waiting.try_acquire() else {
            return Err(LoadError::TooManyWaiters { waiters_max: inner.waiters_max });
        };
        let _ = timeout(limit, flight.ended()).await;
        Ok(())
    }

    fn serve(&self, entry: Entry<V>) -> Entry<V> {
        if entry.age == Age::Stale {
            self.0.tally.stale_served.increment();
        }
        entry
    }

    /// What is in the tiers; nothing when they cannot be asked.
    async fn find_or_miss(&self, key: KeyRef<'_>) -> Option<Entry<V>> {
        self.find(key).await.unwrap_or_else(|_| {
            self.0.tally.errors.increment();
            None
        })
    }
}

impl<V: Clone + Send + Sync + 'static> Inner<V> {
    /// Whether `entry` can be served with no load at all.
    fn will_do(&self, key: KeyRef<'_>, entry: &Entry<V>, options: &LoadOptions) -> bool {
        let good = entry.age == Age::Fresh && !self.is_due_eagerly(entry, options);
        good || self.pauses.holds(key, self.clock.instant())
    }

    /// Whether a fresh entry is so old that it is to be refreshed.
    fn is_due_eagerly(&self, entry: &Entry<V>, options: &LoadOptions) -> bool {
        let Some(percent) = options.eager_refresh_percent else { return false };
        let end = entry.stale.into_iter().chain(entry.expire).min();
        let (Some(version), Some(end)) = (entry.version, end) else { return false };
        // A version tells when its write began.
        let start = Timestamp::from_millis(version.reading() >> 16);
        let part = end.since(start).saturating_mul(percent.min(100).into()) / 100;
        self.clock.is_past(start.saturating_add(part))
    }

    /// `entry` with its age as of now, unless it has expired or was invalidated.
    fn usable(&self, mut entry: Entry<V>) -> Option<Entry<V>> {
        if entry.expire.is_some_and(|expire| self.clock.is_past(expire)) || self.is_invalid(&entry)
        {
            return None;
        }
        entry.age = self.age(entry.stale);
        Some(entry)
    }

    fn is_invalid(&self, entry: &Entry<V>) -> bool {
        self.covers(entry.version, &entry.tags)
    }

    /// The life of what was loaded, from now on: when it expires and when it is stale.
    fn life_of(
        &self,
        loaded: &Loaded<V>,
        options: &LoadOptions,
    ) -> (Option<Timestamp>, Option<Timestamp>) {
        let Keep::Yes { ttl, stale_after } = loaded.keep else { return (None, None) };
        let (ttl, stale_after) = match &loaded.data {
            Some(_) => {
                (ttl.or(options.ttl).or(self.default_ttl), stale_after.or(options.stale_after))
            }
            None => (ttl.or(Some(options.negative_ttl)), stale_after),
        };
        let (now, share) = (self.clock.now(), self.jitter.share(options.jitter_percent));
        let from_now = |life: Duration| now.saturating_add(share.shorten(life));
        (ttl.map(from_now), stale_after.map(from_now))
    }
}

/// A load on its way: however its task ends, those who wait are told.
struct Ending<V: Clone + Send + Sync + 'static> {
    cache: Cache<V>,
    flight: Arc<FlightOf<V>>,
}

impl<V: Clone + Send + Sync + 'static> Ending<V> {
    async fn fly(
        self,
        recheck: bool,
        options: LoadOptions,
        load: impl Future<Output = Result<Loaded<V>, LoadError>> + Send + 'static,
    ) {
        let turned = self.run(recheck, options, load).await;
        let lease = self.cache.0.lease.clone();
        // Who waits is told first.
        drop(self);
        if let (Some(lease), Some(turned)) = (lease, turned) {
            lease.give_back(turned).await;
        }
    }

    /// Loads in its turn, which is left to give back.
    async fn run(
        &self,
        recheck: bool,
        options: LoadOptions,
        load: impl Future<Output = Result<Loaded<V>, LoadError>> + Send + 'static,
    ) -> Option<Turned> {
        let (inner, flight) = (&*self.cache.0, &*self.flight);
        if recheck && let Some(entry) = self.cache.find_or_miss(flight.key()).await {
            if inner.will_do(flight.key(), &entry, &options) {
                flight.tell(Ok(entry));
                return None;
            }
            flight.fall_back_on(entry);
        }
        let turned = match self.queue(&options).await {
            Ok(turned) => turned,
            Err((entry, turned)) => {
                inner.tally.spared_loads.increment();
                flight.tell(Ok(entry));
                return turned;
            }
        };
        inner.tally.loads.increment();
        if flight.fallback().is_some() {
            inner.tally.refreshes.increment();
        }
        let load = AssertUnwindSafe(load).catch_unwind();
        let load = timeout(options.hard_timeout, load);
        let loaded = match (&inner.lease, turned) {
            (Some(lease), Some(turned)) => lease.during(turned, load).await,
            _ => load.await,
        };
        let loaded = match loaded {
            Ok(Ok(loaded)) => loaded,
            Ok(Err(_panic)) => Err(LoadError::Panicked),
            Err(_elapsed) => Err(LoadError::TimedOut { after: options.hard_timeout }),
        };
        match loaded {
            Ok(loaded) => self.land(loaded, &options).await,
            Err(error) => self.fail(error, &options),
        }
        turned
    }

    /// Waits for the turn to load among the processes that share a lease; `None`: without one. The
    /// error is the value that appeared meanwhile.
    async fn queue(
        &self,
        options: &LoadOptions,
    ) -> Result<Option<Turned>, (Entry<V>, Option<Turned>)> {
        let inner = &*self.cache.0;
        let Some(lease) = &inner.lease else { return Ok(None) };
        let turn = async {
            loop {
                match lease.turn(self.flight.key()).await {
                    Turn::Mine(turned) => match self.appeared(options).await {
                        Some(entry) => return Err((entry, Some(turned))),
                        None => return Ok(Some(turned)),
                    },
                    Turn::Theirs(wait) => sleep(wait).await,
                    Turn::Unreachable => return Ok(None),
                }
                if let Some(entry) = self.appeared(options).await {
                    return Err((entry, None));
                }
            }
        };
        let turned = timeout(lease.patience(options.hard_timeout), turn).await.unwrap_or(Ok(None));
        if matches!(turned, Ok(None)) {
            inner.tally.unleased_loads.increment();
        }
        turned
    }

    /// What another process has loaded, by now.
    async fn appeared(&self, options: &LoadOptions) -> Option<Entry<V>> {
        let entry = self.cache.find_or_miss(self.flight.key()).await;
        entry.filter(|entry| self.cache.0.will_do(self.flight.key(), entry, options))
    }

    /// Writes what was loaded to the tiers, unless something newer was put or removed.
    async fn land(&self, loaded: Loaded<V>, options: &LoadOptions) {
        let (inner, flight) = (&*self.cache.0, &*self.flight);
        let (expire, stale) = inner.life_of(&loaded, options);
        let Loaded { data, keep, tags } = loaded;
        let version = Some(flight.version()).filter(|_| keep != Keep::No);
        let value = CacheValue { data: Tagged { data, tags }, expire, stale, version };
        let Tagged { data, tags } = value.data.clone();
        let age = Age::Fresh;
        flight.tell(Ok(Entry { data, age, expire, stale, version, tags, source: None }));
        if keep == Keep::No {
            return;
        }
        inner.flights.landed(flight.key()).await;
        if inner.floors.cover(version, &value.data.tags) || !flight.lands() {
            inner.tally.superseded_loads.increment();
            return;
        }
        let condition = self.condition();
        let mut notice = self.cache.notice(flight.key(), Change::Put);
        if flight.fallback().is_none() {
            // It replaces nothing that others may have a copy of.
            notice.wrote(WriteStatus::NOT_NEWER, None);
        }
        match inner.tier.write(flight.key(), value, condition).await {
            Ok(written) => {
                notice.wrote(written, version);
                if written.applied {
                    inner.pauses.end(flight.key());
                } else {
                    inner.tally.superseded_loads.increment();
                }
            }
            Err(error) => {
                notice.failed(&error);
                inner.tally.errors.increment();
                tracing::debug!(
                    target: "larder::cache",
                    cache = inner.name,
                    error = chain(&error),
                    "a loaded value was not cached"
                );
            }
        }
    }

    /// Of two processes that load the same key the one that began later has the last word.
    fn condition(&self) -> Condition {
        let (inner, version) = (&*self.cache.0, self.flight.version());
        // A version too far ahead to be merged must not lock the key for ever.
        let ahead = |stored: Version| stored > version;
        let locked = self.flight.fallback().and_then(|entry| entry.version).is_some_and(ahead);
        if inner.tier.conditions().if_newer_than && !locked {
            Condition::IfNewerThan(version)
        } else {
            Condition::Always
        }
    }

    fn fail(&self, error: LoadError, options: &LoadOptions) {
        let (inner, flight) = (&*self.cache.0, &*self.flight);
        inner.tally.load_error(&error);
        let (cache, reason) = (&inner.name, error.as_str());
        if flight.fallback().is_some() {
            inner.pauses.failed(flight.key(), options, inner.clock.instant());
            // Nobody may be waiting, so nobody else tells.
            let error = chain(&error);
            tracing::warn!(target: "larder::cache", cache, reason, error, "a refresh failed");
        } else {
            let error = chain(&error);
            tracing::debug!(target: "larder::cache", cache, reason, error, "a load failed");
        }
        flight.tell(Err(error));
    }
}

impl<V: Clone + Send + Sync + 'static> Drop for Ending<V> {
    fn drop(&mut self) {
        if self.cache.0.flights.end(&self.flight) {
            self.cache.0.tally.load_error(&LoadError::CutOff);
        }
    }
}
