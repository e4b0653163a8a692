//! Walking over all entries on a thread of its own, in the order of the disk.

use std::collections::HashMap;

use larder_core::channel::Sender;
use larder_core::{
    EnumerateHandle, EnumerateReport, Listing, ListingSender, SpoolEntry, SpoolError, SpoolId,
    SpoolSender, Timestamp,
};
use larder_log::{Damage, Entry, Log, Slot};

use super::{shut_down, size, unreadable};
use crate::driver::log as driver;

/// Sends every entry with its payload.
pub(super) fn entries(
    log: &Log,
    sender: SpoolSender,
    start_time: Timestamp,
) -> Result<EnumerateHandle, SpoolError> {
    let reader = log.clone();
    let step = move |walk: &mut Walk<SpoolEntry>, id: SpoolId, entry: &Entry| match reader
        .read_entry(entry)
    {
        Ok(Some(data)) => walk.item(size(&data), SpoolEntry::Item { id, data }),
        Ok(None) => Ok(()),
        Err(error) => walk.unreadable(id, unreadable("enumerate", id, error)),
    };
    start(log, sender, start_time, |id, error| SpoolEntry::Corrupt { id, error }, step)
}

/// Sends every entry with its size, without reading payloads.
pub(super) fn sizes(
    log: &Log,
    sender: ListingSender,
    start_time: Timestamp,
) -> Result<EnumerateHandle, SpoolError> {
    let reader = log.clone();
    let step = move |walk: &mut Walk<Listing>, id: SpoolId, entry: &Entry| match reader
        .payload_len(entry.slot)
    {
        Some(_) if walk.is_known_damage(id, entry) => walk.damage(Some(id), super::DAMAGED.into()),
        Some(len) => walk.item(len.into(), Listing::Item { id, size: len.into() }),
        None => Ok(()),
    };
    start(log, sender, start_time, |id, error| Listing::Corrupt { id, error }, step)
}

type Corrupt<T> = fn(Option<SpoolId>, SpoolError) -> T;

/// Walks in a thread, so that neither a large index nor a slow receiver blocks the caller.
fn start<T: Send + 'static>(
    log: &Log,
    sender: Sender<T>,
    start_time: Timestamp,
    corrupt: Corrupt<T>,
    step: impl Fn(&mut Walk<T>, SpoolId, &Entry) -> Result<(), End> + Send + 'static,
) -> Result<EnumerateHandle, SpoolError> {
    if log.is_closed() {
        return Err(shut_down());
    }
    let (handle, report) = EnumerateHandle::pair();
    let log = log.clone();
    let walk = move || {
        let mut snapshot = log.snapshot(driver::SPOOL);
        snapshot.retain(|entry| entry.pre_open || created_before(entry.slot, start_time));
        let damaged = log.damaged(driver::SPOOL);
        let (known, strange): (Vec<_>, Vec<_>) =
            damaged.into_iter().partition(|damage| damage.slot.is_some());
        let known = known.into_iter().filter_map(|damage| Some((id_of(damage.slot?), damage)));
        let mut walk = Walk { sender, report, corrupt, known: HashMap::new() };
        for (id, damage) in known {
            walk.known.entry(id).or_default().push(damage);
        }
        let end = strange
            .into_iter()
            .try_for_each(|damage| walk.damage(None, damage.to_string()))
            .and_then(|()| {
                snapshot.iter().try_for_each(|entry| {
                    if log.is_closed() {
                        return Err(End::Cause(shut_down()));
                    }
                    step(&mut walk, id_of(entry.slot), entry)
                })
            });
        match end {
            Ok(()) => walk.report.complete(),
            Err(End::ReceiverGone) => walk.report.abort(None),
            Err(End::Cause(error)) => walk.report.abort(Some(error)),
        }
    };
    let thread = std::thread::Builder::new().name("spool-walk".into());
    thread.spawn(walk).map_err(|error| driver::harmless("enumerate", error))?;
    Ok(handle)
}

/// A walk that is under way.
struct Walk<T> {
    sender: Sender<T>,
    report: EnumerateReport,
    corrupt: Corrupt<T>,
    /// Damaged records that were known at the start; an id may hold a sound one by now.
    known: HashMap<SpoolId, Vec<Damage>>,
}

/// Why a walk stops early.
enum End {
    ReceiverGone,
    Cause(SpoolError),
}

impl<T> Walk<T> {
    fn item(&mut self, bytes: u64, entry: T) -> Result<(), End> {
        self.send(entry)?;
        self.report.item(bytes);
        Ok(())
    }

    fn damage(&mut self, id: Option<SpoolId>, what: String) -> Result<(), End> {
        self.send((self.corrupt)(id, SpoolError::Corrupt { id, what }))?;
        self.report.corrupt();
        Ok(())
    }

    fn is_known_damage(&self, id: SpoolId, entry: &Entry) -> bool {
        self.known.get(&id).is_some_and(|known| known.iter().any(|damage| entry.is_at(damage)))
    }

    /// Damage is an entry; a disk that cannot be read ends the walk.
    fn unreadable(&mut self, id: SpoolId, error: SpoolError) -> Result<(), End> {
        match error {
            SpoolError::Corrupt { what, .. } => self.damage(Some(id), what),
            error => Err(End::Cause(error)),
        }
    }

    fn send(&self, entry: T) -> Result<(), End> {
        self.sender.send_blocking(entry).map_err(|_| End::ReceiverGone)
    }
}

/// Whether the id says that it is older than `start_time`; one that tells no time is old.
fn created_before(slot: Slot, start_time: Timestamp) -> bool {
    id_of(slot).created().map_or(true, |created| created < start_time)
}

fn id_of(slot: Slot) -> SpoolId {
    SpoolId::from_bytes(slot.id)
}
