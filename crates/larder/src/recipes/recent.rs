//! A recent version of a key, from memory while it is young enough.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use larder_core::{
    CaSResult, Consensus, ConsensusError, SeqNo, SharedClock, SystemClock, VersionedData,
};

/// Recent heads: another promise than [`Consensus::head`], and a cheaper one.
///
/// What [`Recent::head_recent`] gives was the head at some moment of the last `max_age`, or was still to be it:
/// through one object the sequence numbers of a key never go back. It is for configuration, flags and routes,
/// which many read and few change.
///
/// It cannot be put where a [`Consensus`] is wanted, and no compare-and-set is ever judged by what it
/// remembers: an old version rejects nothing.
///
/// A store that is away is an error as soon as what is remembered is too old.
///
/// ```
/// use larder::recipes::Recent;
/// use larder::{Consensus, MemoryConsensus, SeqNo, VersionedData};
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::ConsensusError> {
/// let recent = Recent::new(MemoryConsensus::default());
/// let new = VersionedData { seqno: SeqNo(1), data: "on".into() };
/// recent.compare_and_set("flag", None, new.clone()).await?;
/// assert_eq!(recent.head_recent("flag", Duration::from_secs(5)).await?, Some(new));
/// # Ok(()) }
/// ```
pub struct Recent<C> {
    store: C,
    clock: SharedClock,
    keys_max: usize,
    heads: Mutex<HashMap<String, Seen>>,
}

/// What is known of a key.
#[derive(Default)]
struct Seen {
    /// The newest head that anybody was given.
    head: Option<VersionedData>,
    /// When it was asked for at the latest; `None`: it is not to be served any more.
    asked: Option<Instant>,
    /// Calls that are under way. Until the last of them has ended the head is kept, so that none of them
    /// can bring an older one than another one gave.
    calls: usize,
}

impl<C: Consensus> Recent<C> {
    /// The keys that are remembered at a time, unless said otherwise.
    pub const KEYS: usize = 1_000;

    /// Recent heads of `store`, remembering [`Recent::KEYS`] of them.
    pub fn new(store: C) -> Self {
        let clock = SystemClock::shared();
        Self { store, clock, keys_max: Self::KEYS, heads: Mutex::default() }
    }

    /// Remembers `keys` heads at a time, besides those of calls that are under way. Beyond that all are forgotten.
    #[must_use]
    pub fn keys(mut self, keys: usize) -> Self {
        self.keys_max = keys;
        self
    }

    /// The same by another clock; its monotonic scale counts. Default: the system clock.
    #[must_use]
    pub fn with_clock(mut self, clock: SharedClock) -> Self {
        self.clock = clock;
        self
    }

    /// The store itself, to write to.
    pub const fn store(&self) -> &C {
        &self.store
    }

    /// A head of `key` that is at most `max_age` old; zero: as [`Consensus::head`].
    ///
    /// The age counts from before the store was asked. The one that was remembered, or the one that is read now,
    /// or a newer one that somebody else has got meanwhile.
    ///
    /// # Errors
    /// Those of [`Consensus::head`].
    ///
    /// # Cancel safety
    /// Has no effect.
    pub async fn head_recent(
        &self,
        key: &str,
        max_age: Duration,
    ) -> Result<Option<VersionedData>, ConsensusError> {
        let asked = self.clock.instant();
        if let Some(seen) = self.lock().get(key)
            && let Some(since) = seen.asked
            && asked.saturating_duration_since(since) < max_age
        {
            return Ok(seen.head.clone());
        }
        let call = Call::begin(self, key);
        let head = self.store.head(key).await?;
        Ok(call.learn(head, asked))
    }

    /// [`Consensus::compare_and_set`] of the store, which alone judges it. What it tells of the head is
    /// remembered, so that this process reads what it has written.
    ///
    /// # Errors
    /// Those of [`Consensus::compare_and_set`].
    ///
    /// # Cancel safety
    /// As there; what is remembered then is what was.
    pub async fn compare_and_set(
        &self,
        key: &str,
        expected: Option<SeqNo>,
        new: VersionedData,
    ) -> Result<CaSResult, ConsensusError> {
        let (asked, call) = (self.clock.instant(), Call::begin(self, key));
        let result = self.store.compare_and_set(key, expected, new.clone()).await?;
        match result {
            CaSResult::Committed => drop(call.learn(Some(new), asked)),
            CaSResult::ExpectationMismatch { current } => call.overtake(current),
        }
        Ok(result)
    }
}

impl<C> Recent<C> {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Seen>> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call on one key that is under way.
struct Call<'a, C> {
    recent: &'a Recent<C>,
    key: &'a str,
}

impl<'a, C> Call<'a, C> {
    fn begin(recent: &'a Recent<C>, key: &'a str) -> Self {
        let mut heads = recent.lock();
        if let Some(seen) = heads.get_mut(key) {
            seen.calls += 1;
        } else {
            if heads.len() >= recent.keys_max {
                heads.retain(|_, seen| seen.calls > 0);
            }
            heads.insert(key.to_owned(), Seen { calls: 1, ..Seen::default() });
        }
        Self { recent, key }
    }

    /// Remembers a head unless a newer one is known; the newer one.
    fn learn(&self, head: Option<VersionedData>, asked: Instant) -> Option<VersionedData> {
        let mut heads = self.recent.lock();
        let Some(seen) = heads.get_mut(self.key) else { return head };
        if number(head.as_ref()) >= number(seen.head.as_ref()) {
            seen.head = head;
            seen.asked = seen.asked.max(Some(asked));
        }
        seen.head.clone()
    }

    /// Serves no head any more that is known to be replaced.
    fn overtake(&self, current: Option<SeqNo>) {
        if let Some(seen) = self.recent.lock().get_mut(self.key)
            && number(seen.head.as_ref()) < current
        {
            seen.asked = None;
        }
    }
}

impl<C> Drop for Call<'_, C> {
    fn drop(&mut self) {
        let mut heads = self.recent.lock();
        let Some(seen) = heads.get_mut(self.key) else { return };
        seen.calls -= 1;
        if seen.calls == 0 && seen.asked.is_none() {
            heads.remove(self.key);
        }
    }
}

fn number(head: Option<&VersionedData>) -> Option<SeqNo> {
    head.map(|head| head.seqno)
}

impl<C: fmt::Debug> fmt::Debug for Recent<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recent")
            .field("store", &self.store)
            .field("keys_max", &self.keys_max)
            .finish_non_exhaustive()
    }
}
