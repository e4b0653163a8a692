//! Loads that are under way: one of a key at a time.
//!
//! A *flight* is one load. It stands in the table under its key for as long as others may join it;
//! whatever is put or removed takes it out first, and from then on it lands nowhere. Only one that
//! is being written to the tiers by then cannot be called back: it stays in the table as such until
//! it has landed, and changes and later flights of the key wait for that.
//!
//! A look-up of a tier takes time, and what it found may be replaced before a flight begins on the
//! strength of it. So the table has an epoch for each stripe of keys, which every change and every
//! end of a flight moves: who leads a flight learns whether what was found still counts. A stranger
//! in the same stripe costs a second look, never a wrong value.

use std::collections::HashMap;
use std::hash::BuildHasher as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use larder_core::{Key, KeyRef, Version};
use rapidhash::fast::RandomState;
use tokio::sync::watch;

use super::LoadError;

const STRIPES: usize = 64;

/// The loads of one cache that are under way.
pub(in crate::cache) struct Flights<T> {
    stripes: Box<[Mutex<Stripe<T>>]>,
    hasher: RandomState,
}

struct Stripe<T> {
    epoch: u64,
    slots: HashMap<Key, Slot<T>, RandomState>,
}

/// The flights of one key.
struct Slot<T> {
    /// The one that can be joined.
    open: Option<Arc<Flight<T>>>,
    /// Those that were superseded while they were landing.
    landing: Vec<Arc<Flight<T>>>,
}

/// The epoch of a key before it was looked up.
#[derive(Clone, Copy, Debug)]
pub(in crate::cache) struct Token(u64);

/// What there is before a look-up.
pub(in crate::cache) enum Look<T> {
    /// A load of the key.
    Join(Arc<Flight<T>>),
    /// None; look it up, and come back with this.
    Token(Token),
}

/// What there is after a look-up that calls for a load.
pub(in crate::cache) enum Elected<T> {
    /// Somebody else's load.
    Join(Arc<Flight<T>>),
    /// The caller's. With `recheck` what was found may be out of date.
    Lead { flight: Arc<Flight<T>>, recheck: bool },
}

impl<T: Clone> Flights<T> {
    pub(in crate::cache) fn new() -> Self {
        let hasher = RandomState::default();
        let stripe = || Stripe { epoch: 0, slots: HashMap::with_hasher(hasher) };
        Self { stripes: (0..STRIPES).map(|_| Mutex::new(stripe())).collect(), hasher }
    }

    /// The load of `key` that is under way, if there is one.
    pub(in crate::cache) fn look(&self, key: KeyRef<'_>) -> Look<T> {
        let stripe = self.stripe(key);
        match stripe.open(key) {
            Some(flight) => Look::Join(Arc::clone(flight)),
            None => Look::Token(Token(stripe.epoch)),
        }
    }

    /// Begins a load of `key`, unless one is under way. `fallback` is the value to serve meanwhile,
    /// as found since `token` was given; `version` is that of what will be loaded.
    pub(in crate::cache) fn elect(
        &self,
        key: KeyRef<'_>,
        token: Token,
        mut fallback: Option<T>,
        version: impl FnOnce() -> Version,
    ) -> Elected<T> {
        let mut stripe = self.stripe(key);
        if let Some(flight) = stripe.open(key) {
            return Elected::Join(Arc::clone(flight));
        }
        let recheck = stripe.epoch != token.0;
        // What is not taken is dropped with the arguments, after the lock is free.
        let fallback = if recheck { None } else { fallback.take() };
        let progress = Progress { fallback, ..Progress::default() };
        let flight = Arc::new(Flight {
            key: key.to_key(),
            version: version(),
            progress: watch::Sender::new(progress),
        });
        let empty = Slot { open: None, landing: Vec::new() };
        stripe.slots.entry(flight.key.clone()).or_insert(empty).open = Some(Arc::clone(&flight));
        Elected::Lead { flight, recheck }
    }

    /// Begins a change of `key`: a load that is under way lands nowhere, and nobody joins it any
    /// more. The same when the change ends, for loads that began meanwhile.
    pub(in crate::cache) fn change<'a>(&'a self, key: KeyRef<'a>) -> ChangeGuard<'a, T> {
        ChangeGuard { landing: self.supersede(key), flights: self, key }
    }

    /// As the beginning of a change of every key.
    pub(in crate::cache) async fn void_all(&self) {
        wait_for(self.supersede_all()).await;
    }

    /// Lets nobody join any flight. Returns those that can no more be kept from landing.
    pub(in crate::cache) fn supersede_all(&self) -> Vec<Arc<Flight<T>>> {
        let mut landing = Vec::new();
        for stripe in &self.stripes {
            let mut stripe = lock(stripe);
            stripe.epoch += 1;
            stripe.slots.retain(|_, slot| {
                slot.void();
                landing.extend(slot.landing.iter().cloned());
                !slot.is_empty()
            });
        }
        landing
    }

    /// Waits for flights of `key` that were superseded while they were landing.
    pub(in crate::cache) async fn landed(&self, key: KeyRef<'_>) {
        let landing = {
            let stripe = self.stripe(key);
            let slot = stripe.slots.get(key.as_str());
            slot.map_or_else(Vec::new, |slot| slot.landing.clone())
        };
        wait_for(landing).await;
    }

    /// Takes `flight` out of the table, so that nobody joins it any more.
    pub(in crate::cache) fn detach(&self, flight: &Arc<Flight<T>>) {
        let mut stripe = self.stripe(flight.key.as_ref());
        stripe.epoch += 1;
        let Some(slot) = stripe.slots.get_mut(flight.key.as_str()) else { return };
        if slot.open.as_ref().is_some_and(|open| Arc::ptr_eq(open, flight)) {
            slot.void();
        }
        stripe.tidy(flight.key.as_ref());
    }

    /// Ends `flight`: it leaves the table, then everybody is told. Whether it was cut off, having
    /// come to nothing.
    pub(in crate::cache) fn end(&self, flight: &Arc<Flight<T>>) -> bool {
        {
            let mut stripe = self.stripe(flight.key.as_ref());
            stripe.epoch += 1;
            if let Some(slot) = stripe.slots.get_mut(flight.key.as_str()) {
                slot.open.take_if(|open| Arc::ptr_eq(open, flight));
                slot.landing.retain(|landing| !Arc::ptr_eq(landing, flight));
            }
            stripe.tidy(flight.key.as_ref());
        }
        flight.end()
    }

    /// Lets nobody join the flight of `key`. Returns those that can no more be kept from landing.
    pub(in crate::cache) fn supersede(&self, key: KeyRef<'_>) -> Vec<Arc<Flight<T>>> {
        let mut stripe = self.stripe(key);
        stripe.epoch += 1;
        let Some(slot) = stripe.slots.get_mut(key.as_str()) else { return Vec::new() };
        slot.void();
        let landing = slot.landing.clone();
        stripe.tidy(key);
        landing
    }

    fn stripe(&self, key: KeyRef<'_>) -> MutexGuard<'_, Stripe<T>> {
        let hash = self.hasher.hash_one(key.as_str());
        let at = usize::try_from(hash % STRIPES as u64).unwrap_or(0);
        lock(&self.stripes[at])
    }

    /// How many keys take memory.
    #[cfg(test)]
    pub(in crate::cache) fn len(&self) -> usize {
        self.stripes.iter().map(|stripe| lock(stripe).slots.len()).sum()
    }
}

impl<T: Clone> Stripe<T> {
    fn open(&self, key: KeyRef<'_>) -> Option<&Arc<Flight<T>>> {
        self.slots.get(key.as_str())?.open.as_ref()
    }

    /// Forgets a key without flights.
    fn tidy(&mut self, key: KeyRef<'_>) {
        if self.slots.get(key.as_str()).is_some_and(Slot::is_empty) {
            self.slots.remove(key.as_str());
        }
    }
}

impl<T: Clone> Slot<T> {
    /// Lets nobody join. What is landing stays until it has ended. Its task holds the flight, so
    /// nothing of a user's is dropped here, under the lock.
    fn void(&mut self) {
        if let Some(flight) = self.open.take()
            && flight.supersede()
        {
            self.landing.push(flight);
        }
    }

    const fn is_empty(&self) -> bool {
        self.open.is_none() && self.landing.is_empty()
    }
}

async fn wait_for<T: Clone>(flights: impl IntoIterator<Item = Arc<Flight<T>>>) {
    for flight in flights {
        flight.ended().await;
    }
}

fn lock<T>(stripe: &Mutex<Stripe<T>>) -> MutexGuard<'_, Stripe<T>> {
    // Nothing under the lock can panic half-way, so a poisoned state is a sound one.
    stripe.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A put or remove that is under way.
pub(in crate::cache) struct ChangeGuard<'a, T: Clone> {
    flights: &'a Flights<T>,
    key: KeyRef<'a>,
    landing: Vec<Arc<Flight<T>>>,
}

impl<T: Clone> ChangeGuard<'_, T> {
    /// Waits for loads that were on their way into the tiers when the change began.
    pub(in crate::cache) async fn settled(&mut self) {
        wait_for(std::mem::take(&mut self.landing)).await;
    }
}

impl<T: Clone> Drop for ChangeGuard<'_, T> {
    fn drop(&mut self) {
        drop(self.flights.supersede(self.key));
    }
}

/// One load.
pub(in crate::cache) struct Flight<T> {
    key: Key,
    version: Version,
    progress: watch::Sender<Progress<T>>,
}

struct Progress<T> {
    /// What can be served meanwhile.
    fallback: Option<T>,
    outcome: Option<Result<T, LoadError>>,
    /// Something newer was put or removed.
    superseded: bool,
    /// It is being written to the tiers.
    landing: bool,
    ended: bool,
}

impl<T> Default for Progress<T> {
    fn default() -> Self {
        Self { fallback: None, outcome: None, superseded: false, landing: false, ended: false }
    }
}

impl<T: Clone> Flight<T> {
    pub(in crate::cache) fn key(&self) -> KeyRef<'_> {
        self.key.as_ref()
    }

    /// The version of what is loaded, taken before the loader was asked.
    pub(in crate::cache) const fn version(&self) -> Version {
        self.version
    }

    /// What can be served as long as there is no outcome.
    pub(in crate::cache) fn fallback(&self) -> Option<T> {
        self.progress.borrow().fallback.clone()
    }

    pub(in crate::cache) fn fall_back_on(&self, value: T) {
        self.alter(|progress| progress.fallback = Some(value));
    }

    /// What the load came to, as soon as that is known.
    pub(in crate::cache) fn outcome(&self) -> Option<Result<T, LoadError>> {
        self.progress.borrow().outcome.clone()
    }

    pub(in crate::cache) fn tell(&self, outcome: Result<T, LoadError>) {
        self.alter(|progress| progress.outcome = Some(outcome));
    }

    /// Whether what was loaded may be written to the tiers. From then on changes wait for its end.
    pub(in crate::cache) fn lands(&self) -> bool {
        self.alter(|progress| {
            progress.landing = !progress.superseded;
            progress.landing
        })
    }

    /// Keeps it from landing; whether it is too late for that.
    fn supersede(&self) -> bool {
        self.alter(|progress| {
            progress.superseded = true;
            progress.landing && !progress.ended
        })
    }

    /// Ends it: wakes everybody. Without an outcome it was cut off.
    fn end(&self) -> bool {
        let mut cut_off = false;
        self.progress.send_modify(|progress| {
            cut_off = progress.outcome.is_none();
            if cut_off {
                progress.outcome = Some(Err(LoadError::CutOff));
            }
            progress.ended = true;
        });
        cut_off
    }

    pub(in crate::cache) fn has_ended(&self) -> bool {
        self.progress.borrow().ended
    }

    /// Waits until it has ended.
    pub(in crate::cache) async fn ended(&self) {
        // The sender lives in `self`, so the wait cannot fail.
        let _ = self.progress.subscribe().wait_for(|progress| progress.ended).await;
    }

    /// Changes what only its own task and changes of the key look at: wakes nobody.
    fn alter<R>(&self, change: impl FnOnce(&mut Progress<T>) -> R) -> R {
        let (mut change, mut result) = (Some(change), None);
        self.progress.send_if_modified(|progress| {
            result = change.take().map(|change| change(progress));
            false
        });
        match result {
            Some(result) => result,
            None => unreachable!("the closure was called"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> KeyRef<'static> {
        KeyRef::new("k").unwrap()
    }

    fn version() -> Version {
        Version::from_parts(1, 1)
    }

    fn lead(flights: &Flights<u8>) -> Arc<Flight<u8>> {
        let Look::Token(token) = flights.look(key()) else { panic!("there is a flight") };
        match flights.elect(key(), token, Some(7), version) {
            Elected::Lead { flight, recheck: false } => flight,
            _ => panic!("it was not elected"),
        }
    }

    #[test]
    fn a_flight_can_be_joined_until_it_ends_and_leaves_nothing() {
        let flights = Flights::new();
        let flight = lead(&flights);
        assert!(matches!(flights.look(key()), Look::Join(_)));
        flight.tell(Ok(8));
        assert!(!flights.end(&flight), "it has come to something");
        assert!(matches!(flights.look(key()), Look::Token(_)));
        assert_eq!((flights.len(), flight.fallback()), (0, Some(7)));
    }

    #[test]
    fn what_was_found_before_a_change_or_an_end_does_not_count() {
        let flights = Flights::new();
        let changed: [fn(&Flights<u8>); 2] = [
            |flights| drop(flights.change(key())),
            |flights| {
                let flight = lead(flights);
                assert!(flights.end(&flight), "it was cut off");
            },
        ];
        for change in changed {
            let Look::Token(token) = flights.look(key()) else { panic!("there is a flight") };
            change(&flights);
            let Elected::Lead { flight, recheck: true } =
                flights.elect(key(), token, Some(7), version)
            else {
                panic!("the token was taken")
            };
            assert_eq!(flight.fallback(), None);
            flights.end(&flight);
        }
    }

    #[tokio::test]
    async fn changes_and_later_flights_wait_for_every_flight_that_is_landing() {
        let flights = Flights::new();
        let first = lead(&flights);
        assert!(first.lands());
        let mut changes = [flights.change(key()), flights.change(key())];
        let second = lead(&flights);
        let limit = std::time::Duration::from_millis(5);
        for change in &mut changes {
            assert!(tokio::time::timeout(limit, change.settled()).await.is_err());
        }
        assert!(tokio::time::timeout(limit, flights.landed(key())).await.is_err());
        flights.end(&first);
        let [one, two] = &mut changes;
        tokio::join!(one.settled(), two.settled(), flights.landed(key()));
        drop(changes);
        assert!(!second.lands(), "a change that ended after it began has called it back");
        flights.end(&second);
        assert_eq!(flights.len(), 0);
    }

    #[tokio::test]
    async fn voiding_everything_leaves_only_what_is_landing() {
        let flights = Flights::new();
        let flight = lead(&flights);
        flights.void_all().await;
        assert_eq!(flights.len(), 0);
        assert!(!flight.lands());
        flights.end(&flight);
    }
}
