//! Where laws are tried: subjects and the places they make.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use larder_core::{BoxError, ManualClock};

use crate::{Contract, Need, Outage};

type Opening<S> = Pin<Box<dyn Future<Output = Result<S, BoxError>> + Send + 'static>>;

type Open<S> = Arc<dyn Fn() -> Opening<S> + Send + Sync>;

type DoHarm = dyn Fn(Harm<'_>) -> Result<(), BoxError> + Send + Sync;

/// What is done to a place while it is closed.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::exhaustive_enums, reason = "a backend has to answer to each")]
pub enum Harm<'a> {
    /// A part of what it holds goes missing as a whole, such as a file, and another part does not. There
    /// are 3 MiB.
    Loss,
    /// A bit of these bytes, which are a payload, is no longer what it was.
    Rot(&'a [u8]),
}

/// A place that a store can be opened at: a folder, a schema, a piece of memory.
///
/// Opening it again after the store was closed finds what was there, if the subject offers
/// [`Need::Reopen`].
#[derive(Clone)]
pub struct Place<S> {
    open: Open<S>,
    open_shut: Option<Open<S>>,
    harm: Option<Arc<DoHarm>>,
    outage: Option<(Outage, S)>,
    clock: Option<ManualClock>,
    payload_max: Option<u64>,
    kept: Vec<Arc<dyn Any + Send + Sync>>,
}

impl<S: Contract> Place<S> {
    /// A place that `open` opens a store at.
    pub fn new<F, E>(open: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<S, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        Self {
            open: boxed(open),
            open_shut: None,
            harm: None,
            outage: None,
            clock: None,
            payload_max: None,
            kept: Vec::new(),
        }
    }

    /// The same place, which `open` opens with its gate closed for a reason that can pass, and does not
    /// pass while it is open in that way; see [`Need::Gate`].
    #[must_use]
    pub fn with_closed_gate<F, E>(mut self, open: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<S, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        self.open_shut = Some(boxed(open));
        self
    }

    /// The same place, which `harm` damages; see [`Need::Damage`].
    #[must_use]
    pub fn with_harm(
        mut self,
        harm: impl Fn(Harm<'_>) -> Result<(), BoxError> + Send + Sync + 'static,
    ) -> Self {
        self.harm = Some(Arc::new(harm));
        self
    }

    /// The same place, a part of which `outage` can come over; `past` is the way of another process to
    /// that part, which has no outage. See [`Need::Outage`].
    #[must_use]
    pub fn with_outage(mut self, outage: Outage, past: S) -> Self {
        self.outage = Some((outage, past));
        self
    }

    /// The same place, with the clock that its stores use; see [`Need::Clock`].
    #[must_use]
    pub fn with_clock(mut self, clock: ManualClock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// The same place, with the largest payload its stores take; see [`Need::PayloadLimit`].
    #[must_use]
    pub fn with_payload_max(mut self, bytes: u64) -> Self {
        self.payload_max = Some(bytes);
        self
    }

    /// The same place, which keeps `guard` alive as long as it is used: a temporary folder, a
    /// server process.
    #[must_use]
    pub fn keeping(mut self, guard: impl Any + Send + Sync) -> Self {
        self.kept.push(Arc::new(guard));
        self
    }

    pub(crate) async fn open(&self) -> Result<S, BoxError> {
        (self.open)().await
    }

    pub(crate) async fn open_shut(&self) -> Result<S, BoxError> {
        match &self.open_shut {
            Some(open) => open().await,
            None => Err("the place offers a gate but cannot be opened with it closed".into()),
        }
    }

    pub(crate) fn harm(&self, harm: Harm<'_>) -> Result<(), BoxError> {
        match &self.harm {
            Some(does) => does(harm),
            None => Err("the place offers damage but cannot be damaged".into()),
        }
    }

    pub(crate) const fn outage(&self) -> Option<&(Outage, S)> {
        self.outage.as_ref()
    }

    pub(crate) const fn clock(&self) -> Option<&ManualClock> {
        self.clock.as_ref()
    }

    pub(crate) const fn payload_max(&self) -> Option<u64> {
        self.payload_max
    }
}

fn boxed<S, F, E>(open: impl Fn() -> F + Send + Sync + 'static) -> Open<S>
where
    F: Future<Output = Result<S, E>> + Send + 'static,
    E: Into<BoxError>,
{
    Arc::new(move || {
        let opening = open();
        Box::pin(async move { opening.await.map_err(Into::into) })
    })
}

impl<S> fmt::Debug for Place<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").field("clock", &self.clock).finish_non_exhaustive()
    }
}

/// What is put on trial: a backend or wrapper, by name, and how to make places for it.
///
/// ```
/// use larder_core::{BoxError, MemorySpool, SharedSpool};
/// use larder_testkit::{Place, Subject};
///
/// let subject = Subject::new("memory", || {
///     Ok(Place::new(async || Ok::<_, BoxError>(SharedSpool::new(MemorySpool::default()))))
/// });
/// assert_eq!(subject.name(), "memory");
/// ```
pub struct Subject<S> {
    name: String,
    offers: Vec<Need>,
    place: MakePlace<S>,
    tight: Option<MakePlace<S>>,
}

type MakePlace<S> = Box<dyn Fn() -> Result<Place<S>, BoxError> + Send + Sync>;

impl<S: Contract> Subject<S> {
    /// A subject that makes an empty place of its own for every law; offers [`Need::Exclusive`].
    pub fn new(
        name: impl Into<String>,
        place: impl Fn() -> Result<Place<S>, BoxError> + Send + Sync + 'static,
    ) -> Self {
        let offers = vec![Need::Exclusive];
        Self { name: name.into(), offers, place: Box::new(place), tight: None }
    }

    /// A subject whose laws share one place, which may hold data of others.
    pub fn shared(name: impl Into<String>, place: Place<S>) -> Self {
        let place = Box::new(move || Ok(place.clone()));
        Self { name: name.into(), offers: Vec::new(), place, tight: None }
    }

    /// The same subject, which also offers `needs`.
    #[must_use]
    pub fn offering(mut self, needs: impl IntoIterator<Item = Need>) -> Self {
        self.offers.extend(needs);
        self
    }

    /// The same subject, which can also make places with small bounds: at most 64 entries for a
    /// spool, at most 1 MiB for anything. Offers [`Need::TightPlace`].
    #[must_use]
    pub fn with_tight_place(
        mut self,
        place: impl Fn() -> Result<Place<S>, BoxError> + Send + Sync + 'static,
    ) -> Self {
        self.tight = Some(Box::new(place));
        self.offering([Need::TightPlace])
    }

    /// What the reports call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The first of `needs` that this subject does not offer.
    pub fn lacks(&self, needs: &[Need]) -> Option<Need> {
        needs.iter().copied().find(|need| !self.offers.contains(need))
    }

    pub(crate) fn place(&self, needs: &[Need]) -> Result<Place<S>, BoxError> {
        match &self.tight {
            Some(tight) if needs.contains(&Need::TightPlace) => tight(),
            _ => (self.place)(),
        }
    }
}

impl<S> fmt::Debug for Subject<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject")
            .field("name", &self.name)
            .field("offers", &self.offers)
            .finish_non_exhaustive()
    }
}
