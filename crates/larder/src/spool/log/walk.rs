//! Walking over all entries on a thread of its own, in the order of the disk.

use std::collections::{HashMap, VecDeque};

use larder_core::channel::Sender;
use larder_core::{
    EnumerateHandle, EnumerateReport, Listing, ListingSender, SpoolEntry, SpoolError, SpoolId,
    SpoolSender, Timestamp,
};
use larder_log::{Damage, Entry, Log, Slot};

use super::{shut_down, size, unreadable};
use crate::driver::log as driver;

/// Each batch may wake the receiver, which costs as much as reading dozens of entries. A quarter of
/// the channel is the limit where that is less.
const BATCH_MAX: usize = 128;
/// So many bytes do not wait for more.
const BATCH_BYTES_MAX: u64 = 1 << 20;

/// Sends every entry with its payload, in the order of the disk.
pub(super) fn entries(
    log: &Log,
    sender: SpoolSender,
    start_time: Timestamp,
) -> Result<EnumerateHandle, SpoolError> {
    let corrupt = |id, error| SpoolEntry::Corrupt { id, error };
    start(log, sender, corrupt, move |log, walk| {
        let mut sweep = log.sweep(driver::SPOOL, |entry| is_wanted(entry, start_time));
        while let Some(swept) = sweep.next() {
            let swept = swept.map_err(|error| End::Cause(unreadable("enumerate", None, error)))?;
            let id = id_of(swept.slot);
            match swept.payload {
                Some(data) => walk.item(size(&data), SpoolEntry::Item { id, data })?,
                None => walk.damage(Some(id), super::DAMAGED.into())?,
            }
            if !sweep.is_at_hand() {
                // The next one may take its time.
                walk.flush()?;
            }
        }
        Ok(())
    })
}

/// Sends every entry with its size, without reading payloads.
pub(super) fn sizes(
    log: &Log,
    sender: ListingSender,
    start_time: Timestamp,
) -> Result<EnumerateHandle, SpoolError> {
    let corrupt = |id, error| Listing::Corrupt { id, error };
    start(log, sender, corrupt, move |log, walk| {
        for entry in log.entries(driver::SPOOL).filter(|entry| is_wanted(entry, start_time)) {
            let id = id_of(entry.slot);
            match log.payload_len(entry.slot) {
                _ if log.is_closed() => return Err(End::Cause(shut_down())),
                Some(_) if walk.is_known_damage(id, &entry) => {
                    walk.damage(Some(id), super::DAMAGED.into())?;
                }
                Some(len) => walk.item(len.into(), Listing::Item { id, size: len.into() })?,
                None => {}
            }
        }
        Ok(())
    })
}

type Corrupt<T> = fn(Option<SpoolId>, SpoolError) -> T;

/// Walks in a thread, so that neither a large index nor a slow receiver blocks the caller.
fn start<T: Send + 'static>(
    log: &Log,
    sender: Sender<T>,
    corrupt: Corrupt<T>,
    run: impl FnOnce(&Log, &mut Walk<T>) -> Result<(), End> + Send + 'static,
) -> Result<EnumerateHandle, SpoolError> {
    if log.is_closed() {
        return Err(shut_down());
    }
    let (handle, report) = EnumerateHandle::pair();
    let log = log.clone();
    let walk = move || {
        let mut walk = Walk::new(sender, report, corrupt);
        let end = walk
            .damages(log.damaged(driver::SPOOL))
            .and_then(|()| run(&log, &mut walk))
            .and_then(|()| walk.flush());
        match end {
            Ok(()) => walk.report.complete(),
            Err(End::ReceiverGone) => walk.report.abort(None),
            Err(End::Cause(error)) => {
                // What was read before it is as good as ever.
                let _ = walk.flush();
                walk.report.abort(Some(error));
            }
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
    /// Sent together, so that the two sides do not take turns at every entry.
    batch: VecDeque<T>,
    /// The size of each of the batch, `None` for a damaged one.
    sizes: VecDeque<Option<u64>>,
    batch_bytes: u64,
    batch_max: usize,
}

/// Why a walk stops early.
enum End {
    ReceiverGone,
    Cause(SpoolError),
}

impl<T> Walk<T> {
    fn new(sender: Sender<T>, report: EnumerateReport, corrupt: Corrupt<T>) -> Self {
        // A small channel is one whose owner wants little read ahead.
        let batch_max = (sender.capacity() / 4).clamp(1, BATCH_MAX);
        Self {
            sender,
            report,
            corrupt,
            known: HashMap::new(),
            batch: VecDeque::new(),
            sizes: VecDeque::new(),
            batch_bytes: 0,
            batch_max,
        }
    }

    /// Notes the damage that has an owner, and sends the rest.
    fn damages(&mut self, damages: Vec<Damage>) -> Result<(), End> {
        for damage in damages {
            match damage.slot {
                Some(slot) => self.known.entry(id_of(slot)).or_default().push(damage),
                None => self.damage(None, damage.to_string())?,
            }
        }
        Ok(())
    }

    fn item(&mut self, bytes: u64, entry: T) -> Result<(), End> {
        self.batch_bytes += bytes;
        self.push(Some(bytes), entry)
    }

    fn damage(&mut self, id: Option<SpoolId>, what: String) -> Result<(), End> {
        self.push(None, (self.corrupt)(id, SpoolError::Corrupt { id, what }))
    }

    fn is_known_damage(&self, id: SpoolId, entry: &Entry) -> bool {
        self.known.get(&id).is_some_and(|known| known.iter().any(|damage| entry.is_at(damage)))
    }

    fn push(&mut self, size: Option<u64>, entry: T) -> Result<(), End> {
        self.sizes.push_back(size);
        self.batch.push_back(entry);
        if self.batch.len() >= self.batch_max || self.batch_bytes >= BATCH_BYTES_MAX {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), End> {
        let sent = self.sender.send_many_blocking(&mut self.batch);
        for size in self.sizes.drain(..self.sizes.len() - self.batch.len()) {
            match size {
                Some(bytes) => self.report.item(bytes),
                None => self.report.corrupt(),
            }
        }
        self.batch_bytes = 0;
        sent.map_err(|_| End::ReceiverGone)
    }
}

fn is_wanted(entry: &Entry, start_time: Timestamp) -> bool {
    entry.pre_open || created_before(entry.slot, start_time)
}

/// Whether the id says that it is older than `start_time`; one that tells no time is old.
fn created_before(slot: Slot, start_time: Timestamp) -> bool {
    id_of(slot).created().map_or(true, |created| created < start_time)
}

fn id_of(slot: Slot) -> SpoolId {
    SpoolId::from_bytes(slot.id)
}
