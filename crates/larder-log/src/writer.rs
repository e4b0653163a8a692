//! The committer: the one place that appends to the log.
//!
//! It takes what has arrived, writes it with one vectored write, syncs once if anybody asked for
//! that, makes it visible, and answers. What arrives meanwhile is the next group: nothing is ever
//! delayed to make groups larger. It is a machine that is stepped from outside, by its thread or by
//! a simulation.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::batch::Durability;
use crate::compact::Tempo;
use crate::error::{is_no_space, is_out_of_resources};
use crate::footer::{FOOTER_BYTES_MAX, HINT_BYTES_MAX, Hints, SEAL_BYTES};
use crate::group::{COMMIT_BYTES, Group, Place, Scratch, abort_bytes};
use crate::io::{write_all, write_and_begin};
use crate::segment::{FRAMES_START, Segment};
use crate::shared::{Item, QueuedBatch, Shared};
use crate::spare::Need;
use crate::ticket::TicketState;
use crate::{CompactMode, CompactReport, Error, WriteError};

mod answer;
mod create;
mod roll;
mod room;
mod seat;

use answer::Written;
pub(crate) use create::{create_segment, discard_segment, write_header};
pub(crate) use seat::Seat;

/// A group is closed at this size, so that its answers do not wait for the rest of the queue.
const GROUP_BYTES_MAX: u64 = 8 << 20;
/// After this much silence the durable mark is written.
const IDLE_BEFORE_MARK: Duration = Duration::from_millis(10);
/// Batches that write nothing are bounded by number.
const GROUP_ITEMS_MAX: usize = 1 << 16;
/// Places of the queue whose memory is kept.
const TAKEN_KEPT: usize = 1 << 12;
/// When to step again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// At once.
    Again,
    /// When something arrives, or after this long.
    Wait(Option<Duration>),
    /// Never: the log is shut down.
    Closed,
}

/// The state of appending. Dropping it fails what still waits.
#[derive(Debug)]
pub struct Committer {
    shared: Arc<Shared>,
    active: Active,
    next_lsn: u64,
    /// The last position that was written.
    written_lsn: u64,
    /// The last position that survived a sync.
    durable_lsn: u64,
    /// The durable position that the log itself says.
    marked_lsn: u64,
    /// The last position that somebody may care for: what a mark has to reach.
    data_lsn: u64,
    dirty_since: Option<Duration>,
    last_write: Duration,
    /// Ranges that were given up and whose cancelling is not written yet.
    aborts: Vec<(u64, u64)>,
    /// The manifest still says that the log was shut down.
    clean: bool,
    /// What was taken off the queue; empty between two rounds.
    taken: VecDeque<Item>,
    scratch: Scratch,
}

/// The segment that is appended to.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) segment: Arc<Segment>,
    pub(crate) offset: u64,
    /// Blocks are reserved up to here; `u64::MAX` where that cannot be done.
    pub(crate) allocated: u64,
    /// The file was written before, as another segment.
    pub(crate) recycled: bool,
    /// What its footer will say.
    pub(crate) hints: Hints,
}

/// Where a committer starts.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) active: Active,
    pub(crate) next_lsn: u64,
    pub(crate) clean: bool,
    /// Ranges that were given up, by the word of the manifest alone.
    pub(crate) aborts: Vec<(u64, u64)>,
}

/// Why a group was not written.
enum Fault {
    NoSpace,
    /// Nothing was written for want of something else that may come back.
    Refused(WriteError),
    /// The log is poisoned.
    Failed(WriteError),
}

impl Committer {
    pub(crate) fn new(shared: Arc<Shared>, start: Start) -> Self {
        let last = start.next_lsn - 1;
        Self {
            shared,
            active: start.active,
            next_lsn: start.next_lsn,
            written_lsn: last,
            durable_lsn: last,
            marked_lsn: last,
            data_lsn: last,
            dirty_since: None,
            last_write: Duration::ZERO,
            aborts: start.aborts,
            clean: start.clean,
            taken: VecDeque::new(),
            scratch: Scratch::default(),
        }
    }

    /// Does what there is to do at the moment `now`, at most one round of groups or one chore.
    pub fn step(&mut self, now: Duration) -> Next {
        let closing = self.take();
        if !self.taken.is_empty() {
            self.commit(now);
            return Next::Again;
        }
        if self.shared.health.is_poisoned() {
            return if closing { self.finish() } else { Next::Wait(None) };
        }
        if !self.aborts.is_empty() {
            let written = self.write_group(Vec::new(), now);
            if written.is_ok() || self.shared.health.is_poisoned() {
                return Next::Again;
            }
            if !closing {
                // The disk is full; there is nothing to answer, so there is time.
                let again = self.shared.options.sync_interval;
                return match self.do_chores(now) {
                    Next::Wait(limit) => Next::Wait(Some(limit.map_or(again, |at| at.min(again)))),
                    next => next,
                };
            }
        }
        if closing {
            return self.finish();
        }
        self.do_chores(now)
    }

    /// Looks at the folder, the file system and the queues, and moves the gate: what a thread of its
    /// own does about once a second for a log that is not stepped.
    pub fn watch(&self, now: Duration) {
        self.shared.look(now);
    }

    /// [`Log::compact`](crate::Log::compact) for a log that is stepped from outside.
    ///
    /// # Errors
    /// As there.
    pub fn compact(&mut self, mode: CompactMode) -> Result<CompactReport, Error> {
        if mode == CompactMode::Full
            && self.refusal().is_none()
            && self.active.offset > FRAMES_START
        {
            match self.roll_to_compact() {
                // On a full disk there is all the more reason to go on.
                Ok(()) | Err(Fault::NoSpace) => {}
                Err(Fault::Refused(error) | Fault::Failed(error)) => {
                    return Err(self.shared.maintenance_error(&error));
                }
            }
        }
        let shared = Arc::clone(&self.shared);
        shared.compact(mode, Tempo::AtOnce, &mut || {
            self.sync().map_err(|e| shared.maintenance_error(&e))
        })
    }

    /// Syncs and marks when their time has come, and says when the next one is due.
    fn do_chores(&mut self, now: Duration) -> Next {
        let mut due: Option<Duration> = None;
        if let Some(since) = self.dirty_since {
            let at = since.saturating_add(self.shared.options.sync_interval);
            if now >= at {
                let _ = self.sync();
                return Next::Again;
            }
            due = Some(at);
        }
        if self.durable_lsn >= self.data_lsn && self.marked_lsn < self.data_lsn {
            let at = self.last_write.saturating_add(IDLE_BEFORE_MARK);
            if now >= at {
                let _ = self.write_mark(now);
                return Next::Again;
            }
            due = Some(due.map_or(at, |due| due.min(at)));
        }
        Next::Wait(due.map(|due| due.saturating_sub(now)))
    }

    /// Takes one group's worth off the queue. Whether the log is closing.
    fn take(&mut self) -> bool {
        let mut queue = self.shared.queue();
        if queue.bytes <= GROUP_BYTES_MAX && queue.items.len() <= GROUP_ITEMS_MAX {
            std::mem::swap(&mut queue.items, &mut self.taken);
            queue.bytes = 0;
            return queue.closing;
        }
        let mut bytes = 0;
        while let Some(item) = queue.items.front() {
            let more = if let Item::Batch(batch) = item { batch.bytes } else { 0 };
            let full = bytes + more > GROUP_BYTES_MAX || self.taken.len() >= GROUP_ITEMS_MAX;
            if full && !self.taken.is_empty() {
                break;
            }
            bytes += more;
            self.taken.extend(queue.items.pop_front());
        }
        queue.bytes -= bytes;
        queue.closing
    }

    /// Writes what was taken, in as many groups as segments and control items make it.
    fn commit(&mut self, now: Duration) {
        let mut items = std::mem::take(&mut self.taken);
        let mut group: Vec<QueuedBatch> = Vec::with_capacity(items.len());
        let mut ops = 0;
        let mut syncs: Vec<Arc<TicketState>> = Vec::new();
        let mut bytes = 0;
        for item in items.drain(..) {
            match item {
                Item::Batch(batch) => {
                    if !batch.answer.begin() {
                        self.forget(std::slice::from_ref(&batch));
                        continue;
                    }
                    if !group.is_empty() && !self.fits(bytes + batch.bytes, ops + batch.ops.len()) {
                        let _ = self.write_group(std::mem::take(&mut group), now);
                        (bytes, ops) = (0, 0);
                    }
                    bytes += batch.bytes;
                    ops += batch.ops.len();
                    group.push(batch);
                }
                Item::Sync(ticket) => {
                    if ticket.begin() {
                        syncs.push(ticket);
                    }
                }
                Item::Roll(ticket) => {
                    let _ = self.write_group(std::mem::take(&mut group), now);
                    (bytes, ops) = (0, 0);
                    if ticket.begin() {
                        self.answer_roll(&ticket);
                    }
                }
            }
        }
        items.shrink_to(TAKEN_KEPT);
        self.taken = items;
        let _ = self.write_group(group, now);
        self.answer_syncs(&syncs, now);
    }

    fn answer_syncs(&mut self, syncs: &[Arc<TicketState>], now: Duration) {
        if syncs.is_empty() {
            return;
        }
        // What was given up before this sync must be gone after it.
        let flushed =
            if self.aborts.is_empty() { Ok(()) } else { self.write_group(Vec::new(), now) };
        match flushed.and_then(|()| self.sync()) {
            Ok(()) => {
                for ticket in syncs {
                    ticket.finish(|| self.durable_lsn);
                }
            }
            Err(error) => {
                for ticket in syncs {
                    ticket.fail(&error);
                }
            }
        }
    }

    fn answer_roll(&mut self, ticket: &Arc<TicketState>) {
        let rolled = match self.refusal() {
            Some(error) => Err(Arc::new(error)),
            None if self.active.offset == FRAMES_START => Ok(()),
            None => self.roll_to_compact().map_err(|fault| Arc::new(fault.into_error())),
        };
        match rolled {
            Ok(()) => {
                ticket.finish(|| self.durable_lsn);
            }
            Err(error) => ticket.fail(&error),
        }
    }

    /// Writes one group, answers its batches.
    fn write_group(
        &mut self,
        batches: Vec<QueuedBatch>,
        now: Duration,
    ) -> Result<(), Arc<WriteError>> {
        if batches.is_empty() && self.aborts.is_empty() {
            return Ok(());
        }
        if let Some(error) = self.refusal() {
            return Err(self.fail(&batches, error));
        }
        let durable = batches.iter().any(|batch| batch.durability == Durability::Power);
        // What cancels or deletes is the way out of a full disk.
        let frees = batches.iter().all(|batch| batch.puts == 0);
        let need = if frees { Need::Deletes } else { Need::Puts };
        let mut appended = self.append(&batches, durable, now);
        while matches!(appended, Err(Fault::NoSpace)) && self.shared.make_room(need) {
            appended = self.append(&batches, durable, now);
        }
        let written = match appended {
            Ok(written) => written,
            Err(fault @ (Fault::NoSpace | Fault::Refused(_))) => {
                let (puts, deletes): (Vec<_>, Vec<_>) =
                    batches.into_iter().partition(|batch| batch.puts > 0);
                let retry = !puts.is_empty() && !deletes.is_empty();
                if !puts.is_empty()
                    && matches!(fault, Fault::NoSpace)
                    && self.shared.health.found_no_space()
                {
                    self.shared.compactor.ring();
                }
                let error = self.fail(&puts, fault.into_error());
                if retry {
                    return self.write_group(deletes, now);
                }
                self.fail_all(&deletes, &error);
                return Err(error);
            }
            Err(Fault::Failed(error)) => return Err(self.fail(&batches, error)),
        };
        if durable && !cfg_ack_before_sync(&self.shared) {
            if let Err(error) = self.flush() {
                return Err(self.fail(&batches, error));
            }
            let count = batches.len() as u64;
            self.shared.counters.synced_batches.fetch_add(count, Ordering::Relaxed);
        }
        self.publish(batches, written);
        Ok(())
    }

    /// Puts the group into the file. On `NoSpace` and `Refused` nothing of it remains.
    fn append(
        &mut self,
        batches: &[QueuedBatch],
        durable: bool,
        now: Duration,
    ) -> Result<Written, Fault> {
        let bytes = batches.iter().map(|batch| batch.bytes).sum::<u64>();
        let ops = batches.iter().map(|batch| batch.ops.len()).sum();
        let only_deletes = batches.iter().all(|batch| batch.puts == 0);
        if !self.fits(bytes, ops) && self.active.offset > FRAMES_START {
            match self.roll(self.delete_reserve()) {
                // A full disk has no room for a new segment, but this one may have some for deletes.
                Err(Fault::NoSpace | Fault::Refused(_)) if only_deletes => {}
                rolled => rolled?,
            }
        }
        let mut group = self.group();
        if !self.aborts.is_empty() {
            group.push_abort(&self.aborts);
        }
        group.push_batches(batches, &self.shared.index);
        if group.is_empty() {
            return Ok(self.written(group));
        }
        group.commit(self.durable_lsn);
        self.announce_use()?;
        self.reserve(group.next_place().offset, only_deletes)?;
        self.write_at_end(&group.parts(), durable)?;
        if !std::mem::take(&mut self.aborts).is_empty() {
            self.active.segment.holds_aborts.store(true, Ordering::Relaxed);
        }
        for (oldest, lsn, frame_len) in std::mem::take(&mut group.tombstones) {
            self.active.segment.cover_tombstone(oldest, lsn, frame_len);
        }
        if group.put_bytes > 0 {
            self.shared.health.found_space();
        }
        self.active.segment.put_bytes.fetch_add(group.put_bytes, Ordering::Relaxed);
        self.active.hints.join(&group.hints);
        self.advance(group.next_place(), now);
        self.data_lsn = self.written_lsn;
        self.shared.counters.groups.fetch_add(1, Ordering::Relaxed);
        Ok(self.written(group))
    }

    /// A group for the end of the segment.
    fn group<'a>(&mut self) -> Group<'a> {
        let scratch = std::mem::take(&mut self.scratch);
        Group::new(self.place(), self.active.hints.fork(), scratch)
    }

    /// What is to do for a group that is in the file.
    fn written(&mut self, mut group: Group<'_>) -> Written {
        let effects = std::mem::take(&mut group.effects);
        let changes = std::mem::take(&mut group.changes);
        self.scratch = group.into_scratch();
        Written { effects, changes }
    }

    /// Writes an empty group that says what is durable, and syncs it: a mark that the power takes
    /// along would leave rot in the last group looking like a torn write.
    fn write_mark(&mut self, now: Duration) -> Result<(), Fault> {
        let mut group = self.group();
        group.commit(self.durable_lsn);
        // It may go a little beyond the end of a full segment: better than not knowing.
        let durable = self.durable_lsn;
        match self.write_at_end(&group.parts(), true) {
            Err(Fault::NoSpace) => self.marked_lsn = durable,
            written => {
                written?;
                self.active.hints.join(&group.hints);
                self.advance(group.next_place(), now);
                self.marked_lsn = durable;
                self.flush().map_err(Fault::Failed)?;
            }
        }
        Ok(())
    }

    /// Writes at the end of the segment without moving the end; `synced`: a sync comes next.
    fn write_at_end(&mut self, parts: &[&[u8]], synced: bool) -> Result<(), Fault> {
        let (file, offset) = (&self.active.segment.file, self.active.offset);
        let write = if synced { write_and_begin } else { write_all };
        match write(&**file, parts, offset) {
            Ok(()) => Ok(()),
            Err(error) if is_no_space(&error) => match file.truncate(offset) {
                Ok(()) => {
                    self.active.allocated = self.active.allocated.min(offset);
                    Err(Fault::NoSpace)
                }
                // Pieces of the group may stay behind: what follows them cannot be trusted.
                Err(error) => Err(self.poison("cut", error)),
            },
            Err(error) => Err(self.poison("write", error)),
        }
    }

    fn advance(&mut self, place: Place, now: Duration) {
        let appended = place.offset - self.active.offset;
        self.shared.counters.appended_bytes.fetch_add(appended, Ordering::Relaxed);
        self.active.segment.cover(self.next_lsn);
        self.active.segment.cover(place.lsn - 1);
        self.active.segment.end.store(place.offset, Ordering::Release);
        self.active.offset = place.offset;
        self.next_lsn = place.lsn;
        self.written_lsn = place.lsn - 1;
        self.dirty_since = self.dirty_since.or(Some(now));
        self.last_write = now;
    }

    /// Makes everything written so far survive power loss.
    fn sync(&mut self) -> Result<(), Arc<WriteError>> {
        if let Some(error) = self.refusal() {
            return Err(Arc::new(error));
        }
        self.flush().map_err(Arc::new)
    }

    /// [`Self::sync`] without a look at the health: what was written must not pass for refused.
    fn flush(&mut self) -> Result<(), WriteError> {
        if self.dirty_since.is_none() {
            return Ok(());
        }
        if let Err(error) = self.active.segment.file.sync() {
            // Never a second try: the system may have dropped the pages and call them clean.
            return Err(self.poison("sync", error).into_error());
        }
        self.dirty_since = None;
        self.durable_lsn = self.written_lsn;
        self.shared.counters.syncs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Whether a group with these bytes and operations can go into the present segment.
    fn fits(&self, bytes: u64, ops: usize) -> bool {
        let footer = self.active.hints.footer_len() + ops as u64 * HINT_BYTES_MAX;
        let tail = COMMIT_BYTES + footer + SEAL_BYTES + abort_bytes(self.aborts.len());
        footer <= FOOTER_BYTES_MAX
            && self.active.offset + bytes + tail <= self.shared.options.segment_bytes
    }

    fn place(&self) -> Place {
        Place {
            segment: self.active.segment.id,
            seed: self.active.segment.seed,
            offset: self.active.offset,
            lsn: self.next_lsn,
        }
    }

    fn refusal(&self) -> Option<WriteError> {
        let poisoned = self.shared.health.is_poisoned();
        poisoned.then(|| WriteError::Unhealthy(self.shared.health.text().unwrap_or_default()))
    }

    fn poison(&self, action: &'static str, source: io::Error) -> Fault {
        let segment = u64::from(self.active.segment.id);
        self.shared.health.poison();
        tracing::error!(segment, error = %source, "cannot {action} segment: no more writes");
        Fault::Failed(WriteError::Io { action, segment, source })
    }

    /// What a failed step means that leaves everything written so far as it was.
    fn refused_or(&self, action: &'static str, source: io::Error) -> Fault {
        if is_no_space(&source) {
            Fault::NoSpace
        } else if is_out_of_resources(&source) {
            let segment = u64::from(self.active.segment.id);
            Fault::Refused(WriteError::OutOfResources { action, segment, source })
        } else {
            self.poison(action, source)
        }
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        // Only reached with anything left when the thread dies or a simulation ends early.
        self.shared.closed.store(true, Ordering::Release);
        let mut queue = self.shared.queue();
        queue.gone = true;
        queue.closing = true;
        let items = std::mem::take(&mut queue.items);
        let shutdown = queue.shutdown.take();
        drop(queue);
        let error = Arc::new(WriteError::Closed);
        for item in items {
            match item {
                Item::Batch(batch) => batch.answer.fail(&error),
                Item::Sync(ticket) | Item::Roll(ticket) => ticket.fail(&error),
            }
        }
        self.shared.budget.close();
        self.shared.compactor.stop();
        self.shared.watch.stop();
        self.shared.scrubber.stop();
        self.shared.release_lock();
        if let Some((_, ticket)) = shutdown {
            ticket.fail(&error);
        }
    }
}

impl Fault {
    fn into_error(self) -> WriteError {
        match self {
            Self::NoSpace => WriteError::NoSpace,
            Self::Refused(error) | Self::Failed(error) => error,
        }
    }
}

/// A committer that answers before it syncs: the crash tests must catch it.
fn cfg_ack_before_sync(shared: &Shared) -> bool {
    #[cfg(feature = "sim")]
    return shared.ack_before_sync.load(Ordering::Relaxed);
    #[cfg(not(feature = "sim"))]
    {
        let _ = shared;
        false
    }
}
