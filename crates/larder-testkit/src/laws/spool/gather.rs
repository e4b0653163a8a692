//! What the laws of the spool have in common: loading with an expectation, and whole enumerations.

use std::collections::BTreeMap;

use bytes::Bytes;
use larder_core::channel::{DEFAULT_CAPACITY, Receiver, channel};
use larder_core::{
    Effect, EnumerateHandle, EnumerateSummary, Failure, Listing, Retry, SharedSpool, Spool,
    SpoolEntry, SpoolError, SpoolId, Timestamp,
};

use crate::{Verdict, Violation, ensure, ensure_eq, same_bytes};

/// `id` has to load as `promised`.
pub(super) async fn loads(
    spool: &SharedSpool,
    id: SpoolId,
    promised: &[u8],
    when: &str,
) -> Verdict {
    match spool.load(id).await {
        Ok(seen) => same_bytes(&format!("the payload of {id} {when}"), &seen, promised),
        Err(error) => Err(Violation::new(format!(
            "{id} {when} has to load {} bytes, but: {error}",
            promised.len()
        ))),
    }
}

/// `id` has to be missing, by the typed error.
pub(super) async fn is_missing(spool: &SharedSpool, id: SpoolId, when: &str) -> Verdict {
    match spool.load(id).await {
        Ok(seen) => Err(Violation::new(format!(
            "{id} {when} has to be missing, but {} bytes were loaded",
            seen.len()
        ))),
        Err(SpoolError::NotFound { id: named }) => {
            ensure_eq!(named, id, "the error of a missing entry names the id that was asked for");
            Ok(())
        }
        Err(error) => Err(Violation::new(format!(
            "{id} {when} has to be answered with NotFound, but: {error:?}"
        ))),
    }
}

/// An error that says that nothing happened and whether repeating helps.
pub(super) fn answers(error: &SpoolError, effect: Effect, retry: Retry) -> Verdict {
    ensure_eq!(error.effect(), effect, "the effect of {error:?}");
    ensure_eq!(error.retry(), retry, "whether repeating helps after {error:?}");
    Ok(())
}

/// Everything that one enumeration sent.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// Each payload that came under an id.
    pub(super) items: BTreeMap<SpoolId, Vec<Bytes>>,
    /// How many entries came in all.
    pub(super) count: u64,
    /// The sum of their sizes.
    pub(super) bytes: u64,
}

impl Gathered {
    pub(super) fn add(&mut self, entry: SpoolEntry) -> Verdict {
        match entry {
            SpoolEntry::Item { id, data } => {
                self.count += 1;
                self.bytes += size(&data);
                self.items.entry(id).or_default().push(data);
                Ok(())
            }
            // Damage of others in a shared place is their matter.
            SpoolEntry::Corrupt { id: None, .. } => Ok(()),
            SpoolEntry::Corrupt { id: Some(id), error } => {
                ensure!(false, "an intact spool has no damaged entry, but {id}: {error}");
                Ok(())
            }
        }
    }

    /// `id` came exactly once, as `promised`.
    pub(super) fn once(&self, id: SpoolId, promised: &[u8]) -> Verdict {
        let times = self.times(id);
        ensure!(times == 1, "{id} is live throughout and has to come exactly once: came {times}");
        same_bytes(&format!("the enumerated payload of {id}"), &self.items[&id][0], promised)
    }

    pub(super) fn times(&self, id: SpoolId) -> usize {
        self.items.get(&id).map_or(0, Vec::len)
    }
}

/// Drains a whole enumeration and its handle, which has to say that it was complete.
pub(super) async fn drain(
    mut receiver: Receiver<SpoolEntry>,
    handle: EnumerateHandle,
) -> Result<(Gathered, EnumerateSummary), Violation> {
    let mut gathered = Gathered::default();
    while let Some(entry) = receiver.recv().await {
        gathered.add(entry)?;
    }
    match handle.await {
        Ok(summary) => Ok((gathered, summary)),
        Err(aborted) => Err(Violation::new(format!(
            "an enumeration that was read to its end has to be complete, but: {aborted} \
             (cause: {:?})",
            aborted.cause
        ))),
    }
}

/// Enumerates everything.
pub(super) async fn gather(
    spool: &SharedSpool,
    start_time: Timestamp,
) -> Result<Gathered, Violation> {
    let (sender, receiver) = channel(DEFAULT_CAPACITY);
    let handle = spool.enumerate(sender, start_time)?;
    Ok(drain(receiver, handle).await?.0)
}

/// Lists everything: each size that came under an id.
pub(super) async fn list(
    spool: &SharedSpool,
    start_time: Timestamp,
) -> Result<(BTreeMap<SpoolId, Vec<u64>>, EnumerateSummary), Violation> {
    let (sender, mut receiver) = channel(DEFAULT_CAPACITY);
    let handle = spool.list(sender, start_time)?;
    let mut items = BTreeMap::<SpoolId, Vec<u64>>::new();
    while let Some(entry) = receiver.recv().await {
        if let Listing::Item { id, size } = entry {
            items.entry(id).or_default().push(size);
        }
    }
    Ok((items, handle.await?))
}

pub(super) fn size(data: &[u8]) -> u64 {
    u64::try_from(data.len()).unwrap_or(u64::MAX)
}
