//! A lease: one of many processes at a time, with a token that rises.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use larder_core::clock::fill_random;
use larder_core::{
    CaSResult, Consensus, ConsensusError, SeqNo, SharedClock, SystemClock, VersionedData,
};

use super::{Resolution, resolve};

/// A lease of one key of a consensus store: at most one process holds it, and one that is gone loses
/// it after its time.
///
/// No clocks are compared. Whoever finds the lease held waits until the head has not moved for the
/// holder's time and a tenth, on its own monotonic clock from when it first saw it; a holder counts
/// from before it asked and stops a tenth early. Clocks have to run at the same rate within that.
///
/// A holder that is paused may still believe that it holds the lease. What has to be safe against
/// that compares [`Held::token`], and refuses a lower one than it has seen.
///
/// The key belongs to the lease alone. It is never deleted, as no key of a consensus store is.
///
/// ```
/// use larder::recipes::{Attempt, Lease};
/// use larder::MemoryConsensus;
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::ConsensusError> {
/// let store = MemoryConsensus::default();
/// let mine = Lease::new("jobs/nightly", Duration::from_secs(10));
/// let theirs = Lease::new("jobs/nightly", Duration::from_secs(10));
/// let Attempt::Held(held) = mine.acquire(&store).await? else { panic!("nobody else is here") };
/// assert!(matches!(theirs.acquire(&store).await?, Attempt::Taken { .. }));
/// mine.release(&store, held).await?;
/// assert!(matches!(theirs.acquire(&store).await?, Attempt::Held(_)));
/// # Ok(()) }
/// ```
pub struct Lease {
    key: String,
    ttl: Duration,
    clock: SharedClock,
    /// The head that somebody else made, and since when it has been that.
    seen: Mutex<Option<(SeqNo, Instant)>>,
}

/// What an attempt to get a lease came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "callers must handle both")]
pub enum Attempt {
    /// It is held now.
    Held(Held),
    /// Somebody else has it.
    Taken {
        /// When it can be taken over at the earliest, unless it is renewed or released.
        retry_in: Duration,
    },
}

/// A lease that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a lease that is not released keeps others out until its time is over"]
pub struct Held {
    token: SeqNo,
    head: SeqNo,
    nonce: [u8; 16],
    until: Instant,
}

impl Held {
    /// The fencing token: higher than that of every holder before.
    pub const fn token(&self) -> SeqNo {
        self.token
    }

    /// Until when it is certainly held, on the monotonic clock of the lease.
    pub const fn until(&self) -> Instant {
        self.until
    }
}

/// What the key of a lease holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    /// Nobody's when it is zero.
    ttl: Duration,
    nonce: [u8; 16],
}

impl State {
    const FORM: u8 = 1;
    const LEN: usize = 1 + 8 + 16;

    fn free() -> Self {
        Self { ttl: Duration::ZERO, nonce: unique() }
    }

    fn encode(self) -> Vec<u8> {
        let millis = u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX);
        [&[Self::FORM][..], &millis.to_be_bytes(), &self.nonce].concat()
    }

    /// What somebody has written. Bytes that are no state are held for as long as mine would be.
    fn decode(data: &[u8], ttl: Duration) -> Self {
        let unknown = Self { ttl, nonce: [0; 16] };
        if data.len() != Self::LEN || data.first() != Some(&Self::FORM) {
            return unknown;
        }
        let millis = data.get(1..).and_then(|rest| rest.first_chunk::<8>());
        let nonce = data.get(9..).and_then(|rest| rest.first_chunk::<16>());
        let (Some(millis), Some(nonce)) = (millis, nonce) else { return unknown };
        Self { ttl: Duration::from_millis(u64::from_be_bytes(*millis)), nonce: *nonce }
    }
}

fn unique() -> [u8; 16] {
    let mut nonce = [0; 16];
    fill_random(&mut nonce);
    nonce
}

impl Lease {
    /// The longest time a lease can have: a day.
    pub const TTL_MAX: Duration = Duration::from_hours(24);

    /// The lease of `key`, to be held for `ttl` at a time: from 10 milliseconds up to
    /// [`Lease::TTL_MAX`], beyond that the nearest of them.
    pub fn new(key: impl Into<String>, ttl: Duration) -> Self {
        let ttl = ttl.clamp(Duration::from_millis(10), Self::TTL_MAX);
        Self { key: key.into(), ttl, clock: SystemClock::shared(), seen: Mutex::default() }
    }

    /// The same lease by another clock; its monotonic scale counts. Default: the system clock.
    #[must_use]
    pub fn with_clock(mut self, clock: SharedClock) -> Self {
        self.clock = clock;
        self
    }

    /// Takes the lease if it is free or its holder has not been heard of for its time.
    ///
    /// To take over from a holder that is gone one has to ask at least twice: time counts from when
    /// this object has seen the holder's last sign of life.
    ///
    /// # Errors
    /// [`ConsensusError`]: not held. When the outcome is unknown it may seem held to others for its
    /// time.
    ///
    /// # Cancel safety
    /// Dropping the future may leave the lease taken by nobody until its time is over.
    pub async fn acquire<C: Consensus>(&self, store: &C) -> Result<Attempt, ConsensusError> {
        let head = store.head(&self.key).await?;
        let expected = head.as_ref().map(|head| head.seqno);
        if let Some(head) = &head
            && let Some(retry_in) = self.wait_for(head)
        {
            return Ok(Attempt::Taken { retry_in });
        }
        let mine = State { ttl: self.ttl, nonce: unique() };
        match self.set(store, expected, mine).await? {
            Some((head, until)) => {
                Ok(Attempt::Held(Held { token: head, head, nonce: mine.nonce, until }))
            }
            None => Ok(Attempt::Taken { retry_in: self.ttl }),
        }
    }

    /// Holds the lease for its time from now on. `None`: it was lost.
    ///
    /// Renew after a third of the time, so that one that fails can be tried again.
    ///
    /// # Errors
    /// [`ConsensusError`]: not renewed; what is held is held until [`Held::until`].
    ///
    /// # Cancel safety
    /// Dropping the future may leave it renewed; `held` is as good as before.
    pub async fn renew<C: Consensus>(
        &self,
        store: &C,
        held: Held,
    ) -> Result<Option<Held>, ConsensusError> {
        let Some(own) = self.own_head(store, held).await? else { return Ok(None) };
        let mine = State { ttl: self.ttl, nonce: held.nonce };
        let set = self.set(store, Some(own), mine).await?;
        Ok(set.map(|(head, until)| Held { head, until, ..held }))
    }

    /// Gives the lease back, and drops the versions that it took. Harmless when it was lost.
    ///
    /// # Errors
    /// [`ConsensusError`]: it may be held until its time is over.
    ///
    /// # Cancel safety
    /// As for an error.
    pub async fn release<C: Consensus>(&self, store: &C, held: Held) -> Result<(), ConsensusError> {
        let Some(own) = self.own_head(store, held).await? else { return Ok(()) };
        if let Some((free, _)) = self.set(store, Some(own), State::free()).await? {
            // What is left is dropped by the next one who releases it.
            drop(store.truncate(&self.key, free).await);
        }
        Ok(())
    }

    /// The head, if the holder of `held` has made it: a renewal that was cut off included.
    async fn own_head<C: Consensus>(
        &self,
        store: &C,
        held: Held,
    ) -> Result<Option<SeqNo>, ConsensusError> {
        let newest = store.head(&self.key).await?;
        let own = newest.filter(|newest| self.read(newest).nonce == held.nonce);
        Ok(own.map(|own| own.seqno))
    }

    fn read(&self, version: &VersionedData) -> State {
        State::decode(&version.data, self.ttl)
    }

    /// How long somebody else's hold is to be respected; `None` when it is over or there is none.
    fn wait_for(&self, head: &VersionedData) -> Option<Duration> {
        let state = self.read(head);
        if state.ttl.is_zero() {
            return None;
        }
        let now = self.clock.instant();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let since = match *seen {
            Some((seqno, since)) if seqno == head.seqno => since,
            _ => seen.insert((head.seqno, now)).1,
        };
        let ttl = state.ttl.min(Self::TTL_MAX);
        let left = (ttl + ttl / 10).saturating_sub(now.saturating_duration_since(since));
        Some(left).filter(|left| !left.is_zero())
    }

    /// Replaces the head; the new one and until when a hold by it is certain. `None`: somebody else
    /// was faster.
    async fn set<C: Consensus>(
        &self,
        store: &C,
        expected: Option<SeqNo>,
        state: State,
    ) -> Result<Option<(SeqNo, Instant)>, ConsensusError> {
        let asked = self.clock.instant();
        let seqno = SeqNo(expected.map_or(1, |expected| expected.0 + 1));
        let new = VersionedData { seqno, data: state.encode().into() };
        let set = store.compare_and_set(&self.key, expected, new.clone()).await;
        let mine = match set {
            Ok(CaSResult::Committed) => true,
            Ok(CaSResult::ExpectationMismatch { .. }) => false,
            Err(error @ ConsensusError::Indeterminate(_)) => {
                match resolve(store, &self.key, expected, &new).await? {
                    Resolution::Committed => true,
                    Resolution::Lost => false,
                    Resolution::Open | Resolution::Unknown => return Err(error),
                }
            }
            Err(error) => return Err(error),
        };
        Ok(mine.then(|| (seqno, asked + self.ttl / 10 * 9)))
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("ttl", &self.ttl).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use larder_core::{Clock as _, ManualClock, MemoryConsensus};

    use super::*;

    const TTL: Duration = Duration::from_secs(10);

    fn lease(clock: &ManualClock) -> Lease {
        Lease::new("k", TTL).with_clock(clock.shared())
    }

    async fn held(lease: &Lease, store: &MemoryConsensus) -> Option<Held> {
        match lease.acquire(store).await.unwrap() {
            Attempt::Held(held) => Some(held),
            Attempt::Taken { .. } => None,
        }
    }

    #[tokio::test]
    async fn one_holds_it_at_a_time_and_tokens_rise() {
        let (clock, store) = (ManualClock::default(), MemoryConsensus::default());
        let (one, other) = (lease(&clock), lease(&clock));
        let mut last = SeqNo(0);
        for _ in 0..3 {
            for (holder, waiter) in [(&one, &other), (&other, &one)] {
                let mine = held(holder, &store).await.unwrap();
                assert!(mine.token() > last);
                last = mine.token();
                assert_eq!(held(waiter, &store).await, None);
                holder.release(&store, mine).await.unwrap();
            }
        }
        assert_eq!(store.scan("k", SeqNo(0), 9).await.unwrap().len(), 1, "versions that are left");
    }

    #[tokio::test]
    async fn a_holder_that_is_gone_is_taken_over_after_its_time_as_it_was_seen() {
        let (clock, store) = (ManualClock::default(), MemoryConsensus::default());
        let (gone, other) = (lease(&clock), lease(&clock));
        let lost = held(&gone, &store).await.unwrap();
        clock.advance(TTL * 3);
        // How long it has been there before nobody knows: the wall clock of others says nothing.
        assert_eq!(held(&other, &store).await, None);
        clock.step_wall(i64::try_from((TTL * 9).as_nanos()).unwrap());
        clock.advance((TTL + TTL / 10).saturating_sub(Duration::from_nanos(1)));
        assert_eq!(held(&other, &store).await, None);
        clock.advance(Duration::from_nanos(1));
        let mine = held(&other, &store).await.unwrap();
        assert!(mine.token() > lost.token());
        // The one that was only slow learns it, and takes nothing away.
        assert_eq!(gone.renew(&store, lost).await.unwrap(), None);
        gone.release(&store, lost).await.unwrap();
        assert_eq!(held(&gone, &store).await, None);
        assert!(other.renew(&store, mine).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_holder_that_renews_keeps_it_and_stops_before_others_may_begin() {
        let (clock, store) = (ManualClock::default(), MemoryConsensus::default());
        let (holder, other) = (lease(&clock), lease(&clock));
        let mut mine = held(&holder, &store).await.unwrap();
        let token = mine.token();
        for _ in 0..9 {
            assert!(mine.until() < clock.instant() + TTL);
            clock.advance(TTL / 2);
            assert_eq!(held(&other, &store).await, None);
            mine = holder.renew(&store, mine).await.unwrap().unwrap();
        }
        assert_eq!(mine.token(), token, "renewals do not change the token");
    }

    #[tokio::test]
    async fn a_renewal_that_was_cut_off_is_still_ones_own() {
        let (clock, store) = (ManualClock::default(), MemoryConsensus::default());
        let (holder, other) = (lease(&clock), lease(&clock));
        let mine = held(&holder, &store).await.unwrap();
        let _as_if_never_heard_of = holder.renew(&store, mine).await.unwrap();
        holder.release(&store, mine).await.unwrap();
        assert!(held(&other, &store).await.is_some());
    }

    #[tokio::test]
    async fn bytes_of_something_else_are_respected_for_a_time() {
        let (clock, store) = (ManualClock::default(), MemoryConsensus::default());
        let new = VersionedData { seqno: SeqNo(7), data: "not a lease".into() };
        store.compare_and_set("k", None, new).await.unwrap();
        let lease = lease(&clock);
        assert_eq!(held(&lease, &store).await, None);
        clock.advance(TTL * 2);
        assert!(held(&lease, &store).await.is_some());
    }
}
