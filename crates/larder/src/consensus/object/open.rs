//! Whether a bucket can hold a consensus store: what is there already, and whether the store does what it has to.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use larder_core::clock::random_u64;
use larder_core::{Clock as _, Retry, SystemClock};

use super::record::FORMAT;
use super::rewrite::Pause;
use crate::driver::object::{Endpoint, Store, Tag, Trouble};
use crate::registry::OpenError;

/// How long opening may take.
const OPEN_MAX: Duration = Duration::from_secs(20);
/// How often it is tried.
const TRIES: usize = 3;
/// An object that says what the others are.
const MARK: &str = "larder";
/// What it says, up to a number and the end of the line.
const MARKED: &str = "larder consensus ";
/// So many try to win the same race.
const RACERS: usize = 4;
/// A mark, and a probe, are short.
const SHORT: u64 = 4 << 10;

/// The way to a store.
pub(super) async fn store(endpoint: Endpoint, limit: Duration) -> Result<Store, OpenError> {
    let place = endpoint.to_string();
    // It reads files.
    let made = tokio::task::spawn_blocking(move || Store::new(endpoint, limit)).await;
    let ended = |_| Err(Trouble::Odd { what: "the runtime ended" });
    made.unwrap_or_else(ended).map_err(|trouble| unavailable(place, trouble))
}

/// Looks at the mark, tries the store and leaves a mark.
pub(super) async fn check(store: &Store) -> Result<(), OpenError> {
    let until = SystemClock.instant() + OPEN_MAX;
    let mut pause = Pause::new();
    let mut tries = 0;
    loop {
        tries += 1;
        match try_once(store, until).await {
            Ok(()) => return Ok(()),
            Err(Refused::Open(error)) => return Err(error),
            Err(Refused::Trouble(trouble)) => {
                let passes = trouble.retry() == Retry::Later && tries < TRIES;
                if !passes || !pause.take(until).await {
                    return Err(unavailable(store.place(), trouble));
                }
            }
        }
    }
}

/// Why a store was not opened.
enum Refused {
    Open(OpenError),
    Trouble(Trouble),
}

impl From<Trouble> for Refused {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

fn unavailable(place: String, trouble: Trouble) -> OpenError {
    OpenError::Unavailable { place, source: trouble.in_read("open") }
}

async fn try_once(store: &Store, until: Instant) -> Result<(), Refused> {
    let mark = store.get(MARK, SHORT, until).await?;
    if let Some(mark) = &mark {
        read_mark(store, &mark.bytes)?;
    }
    let probe = format!("probes/{:016x}", random_u64());
    let probed = Probe { store, name: &probe, until }.run().await;
    // It may stay where nothing may be deleted.
    let deleted = store.delete(&probe, until).await;
    probed?;
    if let Err(trouble) = deleted {
        tracing::debug!(target: "larder::s3", "{probe} stays in {}: {trouble}", store.place());
    }
    if mark.is_some() {
        return Ok(());
    }
    let text = format!("{MARKED}{FORMAT}\n");
    match store.put(MARK, text.into(), None, until).await {
        Ok(_) => Ok(()),
        Err(trouble) if trouble.is_lost_race() => {
            // Somebody else was faster; what counts is what is there.
            let mark = store.get(MARK, SHORT, until).await?.ok_or(trouble)?;
            read_mark(store, &mark.bytes)
        }
        Err(trouble) => Err(trouble.into()),
    }
}

fn read_mark(store: &Store, bytes: &Bytes) -> Result<(), Refused> {
    let text = std::str::from_utf8(bytes).ok();
    let number = text.and_then(|text| text.strip_prefix(MARKED)?.strip_suffix('\n'));
    let place = store.place();
    Err(Refused::Open(match number.map(str::parse::<u32>) {
        Some(Ok(number)) if number == u32::from(FORMAT) => return Ok(()),
        Some(Ok(number)) => OpenError::Newer {
            place,
            what: format!("its objects have format {number}, and this release has {FORMAT}"),
        },
        _ => {
            OpenError::OtherContract { place, holds: "something else, as its object `larder` says" }
        }
    }))
}

/// An object of one's own to try a store with.
struct Probe<'a> {
    store: &'a Store,
    name: &'a str,
    until: Instant,
}

impl Probe<'_> {
    async fn run(&self) -> Result<(), Trouble> {
        self.is_refused(
            &self.put(b"0", Some(&Tag::of_nothing())).await,
            "an ETag where nothing is",
        )?;
        let first = self.put(b"1", None).await?;
        self.is_refused(&self.put(b"2", None).await, "If-None-Match: *")?;
        let second = self.put(b"3", Some(&first)).await?;
        self.is_refused(&self.put(b"4", Some(&first)).await, "If-Match with an old ETag")?;
        let found = self.store.get(self.name, SHORT, self.until).await?;
        let is_right = found.is_some_and(|found| found.bytes == "3" && found.tag == second);
        if first == second || !is_right {
            return Err(self.unfit("a GET does not show what was PUT before, with its ETag"));
        }
        let racing = (0..RACERS).map(async |racer| {
            let bytes = format!("racer {racer}").into();
            self.store.put(self.name, bytes, Some(&second), self.until).await
        });
        let racing: Vec<_> = racing.collect();
        let raced = join_all(racing).await;
        if raced.iter().filter(|won| won.is_ok()).count() > 1 {
            return Err(self.unfit("two PUTs that name the same ETag are both carried out"));
        }
        Ok(())
    }

    async fn put(&self, bytes: &'static [u8], tag: Option<&Tag>) -> Result<Tag, Trouble> {
        self.store.put(self.name, Bytes::from_static(bytes), tag, self.until).await
    }

    /// That a PUT was refused for its condition, and for nothing else.
    fn is_refused(
        &self,
        put: &Result<Tag, Trouble>,
        condition: &'static str,
    ) -> Result<(), Trouble> {
        match put {
            Ok(_) => Err(self.unfit(&format!("it carries out a PUT in spite of {condition}"))),
            Err(trouble) if trouble.is_lost_race() => Ok(()),
            Err(trouble) => Err(trouble.clone()),
        }
    }

    fn unfit(&self, what: &str) -> Trouble {
        let what = format!("conditional PUTs do not do what they have to: {what}");
        Trouble::Unfit { place: self.store.place(), what: what.into() }
    }
}
