//! What the handles, the committer and the compactor of one open log share.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use crate::batch::{Durability, Ops};
use crate::budget::{Budget, Permit};
use crate::clock;
use crate::damage::DamageList;
use crate::error::is_no_space;
use crate::health::Health;
use crate::index::Index;
use crate::io::{FileIdentity, Io, Lock};
use crate::manifest::{Manifest, StoreFault};
use crate::pace::Pace;
use crate::recover::Recovery;
use crate::recycle::FreeList;
use crate::segment::{SEGMENT_ID_MAX, Segment};
use crate::spare::{Need, Spare};
use crate::ticket::{Answer, Ticket, TicketState};
use crate::{LogOptions, WriteError};

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) io: Arc<dyn Io>,
    pub(crate) dir: PathBuf,
    pub(crate) options: LogOptions,
    pub(crate) store: [u8; 16],
    pub(crate) index: Index,
    pub(crate) segments: RwLock<HashMap<u32, Arc<Segment>>>,
    pub(crate) queue: Mutex<Queue>,
    pub(crate) arrived: Condvar,
    pub(crate) budget: Arc<Budget>,
    pub(crate) health: Health,
    /// Which folder `dir` was when the log was opened.
    pub(crate) home: Option<FileIdentity>,
    pub(crate) manifest: Mutex<ManifestState>,
    pub(crate) free_bytes: Arc<AtomicU64>,
    pub(crate) damage: DamageList,
    pub(crate) recovery: Recovery,
    pub(crate) counters: Counters,
    /// Nothing at or below this will still become visible.
    pub(crate) published_lsn: AtomicU64,
    /// Puts that were accepted and are not published yet: they count against the limits.
    pub(crate) pending_puts: AtomicU64,
    pub(crate) pending_bytes: AtomicU64,
    pub(crate) closed: AtomicBool,
    pub(crate) lock: Mutex<Option<Box<dyn Lock>>>,
    /// Held while space is being reclaimed.
    pub(crate) compacting: Mutex<()>,
    /// How many wait for that.
    pub(crate) compaction_awaited: AtomicU64,
    /// The background is reclaiming.
    pub(crate) catching_up: AtomicBool,
    /// How many wait for the committer to sync so that they can reclaim.
    pub(crate) syncs_awaited: AtomicU64,
    pub(crate) compactor: Bell,
    pub(crate) watch: Bell,
    pub(crate) compact_pace: Pace,
    pub(crate) scrubber: Bell,
    /// For the negative control of the crash tests: answer before the sync.
    #[cfg(feature = "sim")]
    pub(crate) ack_before_sync: AtomicBool,
}

/// Counters that only grow, except where their names say otherwise.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) syncs: AtomicU64,
    pub(crate) groups: AtomicU64,
    pub(crate) batches: AtomicU64,
    /// Queued batches that have ended.
    pub(crate) ended: AtomicU64,
    pub(crate) synced_batches: AtomicU64,
    pub(crate) appended_bytes: AtomicU64,
    pub(crate) compacted_bytes: AtomicU64,
    pub(crate) recycled_segments: AtomicU64,
    pub(crate) scrubbed_bytes: AtomicU64,
    pub(crate) scrub_passes: AtomicU64,
    pub(crate) corrupt: AtomicU64,
    /// A level, not a count: the bytes of live frames.
    pub(crate) live_bytes: AtomicU64,
    pub(crate) payload_bytes: AtomicU64,
}

/// What waits for the committer.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    pub(crate) items: VecDeque<Item>,
    /// Of the batches among them.
    pub(crate) bytes: u64,
    /// Batches that were queued since the log was opened.
    pub(crate) accepted: u64,
    pub(crate) thread: ThreadState,
    pub(crate) closing: bool,
    /// The committer has ended: nobody takes items any more.
    pub(crate) gone: bool,
    /// Answered once the log is shut down.
    pub(crate) shutdown: Option<(Ticket, Arc<TicketState>)>,
}

impl Queue {
    /// Whether the committer's thread has to be woken; from now on it counts as awake.
    pub(crate) fn wake(&mut self) -> bool {
        let asleep = matches!(self.thread, ThreadState::Asleep { .. });
        if asleep {
            self.thread = ThreadState::Awake;
        }
        asleep
    }
}

/// What the committer's thread does.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum ThreadState {
    #[default]
    Awake,
    /// Awake, and to look once more before it sleeps: chores may have come up.
    Nudged,
    /// It wants to be woken, and wakes by itself at `until`, if ever.
    Asleep { until: Option<Duration> },
}

#[derive(Debug)]
pub(crate) enum Item {
    Batch(QueuedBatch),
    /// Answered once everything before it is durable.
    Sync(Arc<TicketState>),
    /// Asks for a new segment, so that the present one can be compacted.
    Roll(Arc<TicketState>),
}

#[derive(Debug)]
pub(crate) struct QueuedBatch {
    pub(crate) ops: Ops,
    pub(crate) bytes: u64,
    pub(crate) puts: u64,
    pub(crate) durability: Durability,
    pub(crate) answer: Answer,
    /// Given back when the batch has ended.
    pub(crate) permit: Permit,
}

/// The manifest in force, and the ids that are in use but not in it.
#[derive(Debug)]
pub(crate) struct ManifestState {
    pub(crate) current: Manifest,
    next_segment: u64,
    pending: BTreeSet<u64>,
    /// Removed, but the folder was not synced since: power loss may bring them back.
    discarded: BTreeSet<u64>,
    spare: Spare,
    pub(crate) free: FreeList,
}

impl ManifestState {
    pub(crate) fn new(current: Manifest, free: FreeList) -> Self {
        let next_segment = current.next_segment;
        Self {
            current,
            next_segment,
            pending: BTreeSet::new(),
            discarded: BTreeSet::new(),
            spare: Spare::default(),
            free,
        }
    }

    /// An id that no file has. Its file means nothing until the manifest lists it.
    pub(crate) fn allocate(&mut self) -> Option<u32> {
        let id = u32::try_from(self.next_segment.min(SEGMENT_ID_MAX)).ok()?;
        if u64::from(id) == SEGMENT_ID_MAX {
            return None;
        }
        self.next_segment += 1;
        self.pending.insert(u64::from(id));
        Some(id)
    }

    /// The id turned out to be taken by a strange file.
    pub(crate) fn forget(&mut self, id: u32) {
        self.pending.remove(&u64::from(id));
    }

    /// The file of an allocated id was removed again, or never made.
    ///
    /// The newest id is used again: every refused put on a full disk would otherwise take one, and
    /// eight bytes of every manifest from then on. An old file that power loss brings back is no
    /// danger, since the folder is synced before the next file of that name is listed.
    pub(crate) fn discard(&mut self, id: u32) {
        let id = u64::from(id);
        if !self.pending.remove(&id) {
            return;
        }
        if id + 1 == self.next_segment {
            self.next_segment = id;
        } else {
            self.discarded.insert(id);
        }
    }

    /// Gives up a part of what is put by; whether there was anything for this need.
    pub(crate) fn lend_spare(&mut self, io: &dyn Io, dir: &std::path::Path, need: Need) -> bool {
        self.spare.lend(io, dir, need)
    }

    /// Puts room by for a full disk; whether there is enough for the manifest.
    pub(crate) fn hold_spare(&mut self, io: &dyn Io, dir: &std::path::Path) -> bool {
        self.spare.hold(io, dir)
    }

    /// The file of a retired id is gone for good.
    pub(crate) fn forget_void(&mut self, id: u32) {
        self.current.void.retain(|void| *void != u64::from(id));
    }

    /// Replaces the manifest by what `change` makes of it.
    pub(crate) fn replace(
        &mut self,
        io: &dyn Io,
        dir: &std::path::Path,
        change: impl FnOnce(&mut Manifest),
    ) -> Result<(), StoreFault> {
        let mut next = self.current.clone();
        change(&mut next);
        next.next_segment = self.next_segment;
        next.segments.sort_by_key(|listed| listed.id);
        let listed = |id: &u64| next.segments.iter().any(|segment| segment.id == *id);
        let pending: Vec<u64> = self.pending.iter().copied().filter(|id| !listed(id)).collect();
        next.void.extend(&pending);
        next.void.extend(&self.discarded);
        next.void.sort_unstable();
        next.void.dedup();
        let is_full = |stored: &Result<(), StoreFault>| matches!(stored, Err(StoreFault::Unchanged(error)) if is_no_space(error));
        let mut stored = next.store(io, dir);
        if is_full(&stored) && self.free.release(io, dir) {
            stored = next.store(io, dir);
        }
        if is_full(&stored) && self.spare.release(io, dir) {
            stored = next.store(io, dir);
        }
        stored?;
        // Also after it was spent: the old manifest has given up as much as the new one takes, and
        // nobody else should get the rest.
        self.spare.hold(io, dir);
        // Storing has synced the folder, too.
        let discarded = std::mem::take(&mut self.discarded);
        next.void.retain(|id| !pending.contains(id) && !discarded.contains(id));
        self.pending = pending.into_iter().collect();
        self.current = next;
        Ok(())
    }
}

/// Wakes a background thread, or ends it.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    state: Mutex<(bool, bool)>,
    changed: Condvar,
}

impl Bell {
    pub(crate) fn ring(&self) {
        self.lock().0 = true;
        self.changed.notify_all();
    }

    pub(crate) fn stop(&self) {
        self.lock().1 = true;
        self.changed.notify_all();
    }

    /// Waits for a ring, at most for `limit`; false once it was stopped.
    pub(crate) fn wait(&self, limit: Duration) -> bool {
        let mut state = self.lock();
        if !state.0 && !state.1 {
            let waited = self.changed.wait_timeout(state, limit);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.0 = false;
        !state.1
    }

    /// Waits for `limit`, whoever rings; false once it was stopped.
    pub(crate) fn pause(&self, limit: Duration) -> bool {
        let state = self.lock();
        let waited = self.changed.wait_timeout_while(state, limit, |(_, stopped)| !*stopped);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !state.1
    }

    fn lock(&self) -> MutexGuard<'_, (bool, bool)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    pub(crate) fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn manifest(&self) -> MutexGuard<'_, ManifestState> {
        self.manifest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the next open in.
    pub(crate) fn release_lock(&self) {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Queues an item, or drops it when nobody would take it; says which. Without `wake` the caller
    /// steps the committer itself.
    pub(crate) fn push(&self, item: Item, wake: bool) -> bool {
        let mut queue = self.queue();
        if queue.closing || queue.gone {
            return false;
        }
        if let Item::Batch(batch) = &item {
            queue.bytes += batch.bytes;
            queue.accepted += 1;
        }
        queue.items.push_back(item);
        // A wake-up is a system call; it is spared while the committer is busy anyway.
        let wake = wake && queue.wake();
        drop(queue);
        if wake {
            self.arrived.notify_one();
        }
        true
    }

    /// What the committer's thread does while there is nothing to do.
    pub(crate) fn wait_for_items(&self, limit: Option<Duration>) {
        let mut queue = self.queue();
        let nudged = matches!(queue.thread, ThreadState::Nudged);
        queue.thread = ThreadState::Awake;
        if nudged || !queue.items.is_empty() || queue.closing {
            return;
        }
        let until = limit.map(|limit| clock::now().saturating_add(limit));
        queue.thread = ThreadState::Asleep { until };
        let mut queue = match limit {
            None => self.arrived.wait(queue).unwrap_or_else(PoisonError::into_inner),
            Some(limit) => {
                let waited = self.arrived.wait_timeout(queue, limit);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        queue.wake();
    }

    /// Has the committer's thread look at its chores by the moment `at`.
    pub(crate) fn wake_committer_by(&self, at: Duration) {
        let mut queue = self.queue();
        let wake = match queue.thread {
            ThreadState::Asleep { until } if until.is_some_and(|until| until <= at) => false,
            ThreadState::Asleep { .. } => queue.wake(),
            _ => {
                queue.thread = ThreadState::Nudged;
                false
            }
        };
        drop(queue);
        if wake {
            self.arrived.notify_one();
        }
    }

    /// Has everything synced that is visible by now, before what is queued is written.
    pub(crate) fn push_sync_first(&self) -> Ticket {
        let (ticket, state) = Ticket::new();
        let mut queue = self.queue();
        if queue.closing || queue.gone {
            drop(queue);
            state.fail(&Arc::new(WriteError::Closed));
            return ticket;
        }
        queue.items.push_front(Item::Sync(state));
        let wake = queue.wake();
        drop(queue);
        if wake {
            self.arrived.notify_one();
        }
        ticket
    }

    /// Queues an item that is answered by a ticket alone.
    pub(crate) fn push_control(&self, item: fn(Arc<TicketState>) -> Item) -> Ticket {
        let (ticket, state) = Ticket::new();
        if !self.push(item(Arc::clone(&state)), true) {
            state.fail(&Arc::new(WriteError::Closed));
        }
        ticket
    }

    pub(crate) fn segment(&self, id: u32) -> Option<Arc<Segment>> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    pub(crate) fn add_segment(&self, segment: Arc<Segment>) {
        let mut segments = self.segments.write().unwrap_or_else(PoisonError::into_inner);
        segments.insert(segment.id, segment);
    }

    pub(crate) fn remove_segment(&self, id: u32) {
        self.segments.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// All segments, oldest id first.
    pub(crate) fn all_segments(&self) -> Vec<Arc<Segment>> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = segments.values().cloned().collect();
        all.sort_by_key(|segment| segment.id);
        all
    }
}
