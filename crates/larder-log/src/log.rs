//! The handle that callers hold.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::budget::Budget;
use crate::clock;
use crate::compact::{CompactMode, CompactReport, Forgotten, Tempo};
use crate::damage::DamageList;
use crate::error::again;
use crate::folder;
use crate::health::Health;
use crate::io::{DiskIo, Io};
use crate::pace::Pace;
use crate::recover::{self, Recovery};
use crate::recycle::FreeList;
use crate::scrub::ScrubReport;
use crate::shared::{Bell, Counters, Item, ManifestState, Queue, Shared};
use crate::ticket::Ticket;
use crate::writer::{Committer, Seat};
use crate::{Damage, Error, HealthReport, LogOptions, OpenError, Reason, SubmitError};

mod read;
mod submit;

/// An open log.
///
/// Clones share it. Dropping the last one shuts it down, which waits for the disk; call
/// [`Log::close`] on a thread that may wait, or await [`Log::shutdown`], to choose the moment.
/// Tickets and entries do not keep it open.
///
/// ```
/// # use larder_log::{Batch, Durability, Log, LogOptions, Outcome, Slot};
/// # let dir = tempfile::tempdir()?;
/// let log = Log::open(&dir.path().join("log"), LogOptions::default())?;
/// let slot = Slot { namespace: 1, id: [7; 16] };
/// let mut batch = Batch::new();
/// batch.put(slot, "accepted".into());
/// let ticket = log.submit(batch, Durability::Power)?;
/// assert!(matches!(ticket.wait(None), Some(Outcome::Done { .. })));
/// assert_eq!(log.get(slot)?.as_deref(), Some(&b"accepted"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Log {
    handle: Arc<Handle>,
}

/// Figures of an open log, taken one by one and not at one instant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Entries that are there.
    pub entries: u64,
    /// Bytes of their records on disk.
    pub live_bytes: u64,
    /// Bytes of their payloads.
    pub payload_bytes: u64,
    /// Bytes of all segment files up to their ends; reserved blocks are not counted.
    pub disk_bytes: u64,
    /// Segment files.
    pub segments: u64,
    /// Bytes of files of dead segments that wait to be written again; not among `disk_bytes`.
    pub free_bytes: u64,
    /// Segments that were begun in such a file.
    pub recycled_segments: u64,
    /// Batches that were written or found nothing to write.
    pub batches: u64,
    /// Those of them that waited for a sync.
    pub synced_batches: u64,
    /// Groups written, each with one vectored write.
    pub groups: u64,
    /// Syncs of segment files.
    pub syncs: u64,
    /// Bytes appended by groups, headers included.
    pub appended_bytes: u64,
    /// Bytes of the segments that compaction wrote.
    pub compacted_bytes: u64,
    /// Bytes of sealed segments that were read again to find rot.
    pub scrubbed_bytes: u64,
    /// Times that this was done from the first to the last segment.
    pub scrub_passes: u64,
    /// Bytes on their way to the disk.
    pub in_flight_bytes: u64,
    /// Bytes of torn writes cut at open.
    pub torn_bytes: u64,
    /// Damaged places known, found at open or later.
    pub corrupt: u64,
}

impl Log {
    /// Opens the log in the folder `path`, creating it if the options say so. Blocks while the
    /// segments are read.
    ///
    /// # Errors
    /// See [`OpenError`]; each names the path and what to do. [`OpenError::Locked`] when the log is
    /// open elsewhere: then nothing was changed.
    pub fn open(path: &Path, options: LogOptions) -> Result<Self, OpenError> {
        Self::open_with(Arc::new(DiskIo), path, options)
    }

    /// [`Log::open`] on another disk.
    ///
    /// # Errors
    /// As [`Log::open`].
    pub fn open_with(io: Arc<dyn Io>, path: &Path, options: LogOptions) -> Result<Self, OpenError> {
        let (auto_compact, scrubs) = (options.auto_compact, options.scrub_bytes_per_second > 0);
        let (log, committer) = Self::open_handle(io, path, options, false)?;
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(run)
                .map_err(|error| OpenError::io("start a thread for", path, error))
        };
        let shared = Arc::clone(&log.handle.shared);
        let watching = Arc::clone(&shared);
        // Before the first put: the file system may be short of space already.
        shared.look(clock::now());
        let seat = Arc::new(Seat::new(committer));
        let mut threads = Vec::new();
        let (running, of) = (Arc::clone(&seat), Arc::clone(&shared));
        threads.push(spawn("larder-log", Box::new(move || running.run(&of)))?);
        threads.push(spawn("larder-watch", Box::new(move || watching.run_watch()))?);
        if auto_compact {
            let shared = Arc::clone(&shared);
            threads.push(spawn("larder-compact", Box::new(move || shared.run_compactor()))?);
        }
        if scrubs {
            threads.push(spawn("larder-scrub", Box::new(move || shared.run_scrubber()))?);
        }
        *log.handle.threads.lock().unwrap_or_else(PoisonError::into_inner) = threads;
        // Not before: a log that is given up here must not keep its committer from ending.
        let _ = log.handle.seat.set(seat);
        Ok(log)
    }

    /// [`Log::open_with`] without threads: nothing is written unless the committer is stepped, and
    /// nothing is compacted unless asked for. For simulations; blocking calls that wait for the
    /// committer would wait for ever on the thread that should step it.
    ///
    /// # Errors
    /// As [`Log::open`].
    pub fn open_stepped(
        io: Arc<dyn Io>,
        path: &Path,
        options: LogOptions,
    ) -> Result<(Self, Committer), OpenError> {
        Self::open_handle(io, path, options, true)
    }

    fn open_handle(
        io: Arc<dyn Io>,
        path: &Path,
        options: LogOptions,
        stepped: bool,
    ) -> Result<(Self, Committer), OpenError> {
        let options = options.clamped();
        let begun = clock::now();
        let lock = folder::prepare(&*io, path, &options)?;
        let mut opened = recover::open(&io, path, options.verify_on_open)?;
        opened.recovery.duration = clock::now().saturating_sub(begun);
        let recovery = opened.recovery;
        let health = Health::new(options.min_free_space, options.min_free_inodes);
        if recovery.structural > 0 {
            health.report_structural();
        }
        let live_bytes = opened.segments.values().map(|s| s.live_bytes.load(Ordering::Relaxed));
        let counters =
            Counters { live_bytes: AtomicU64::new(live_bytes.sum()), ..Counters::default() };
        opened.index.for_each(|_, location| {
            counters.payload_bytes.fetch_add(location.len().into(), Ordering::Relaxed);
        });
        counters.corrupt.store(recovery.corrupt, Ordering::Relaxed);
        let free = FreeList::adopt(&*io, path, opened.free, &options);
        let shared = Arc::new(Shared {
            dir: path.to_path_buf(),
            store: opened.manifest.store,
            index: opened.index,
            segments: opened.segments.into(),
            queue: Mutex::new(Queue::default()),
            arrived: std::sync::Condvar::new(),
            budget: Budget::new(options.budget_bytes),
            health,
            free_bytes: free.level(),
            manifest: Mutex::new(ManifestState::new(opened.manifest, free)),
            damage: DamageList::new(opened.damage),
            counters,
            published_lsn: AtomicU64::new(opened.start.next_lsn - 1),
            pending_puts: AtomicU64::new(0),
            pending_bytes: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            lock: Mutex::new(Some(lock)),
            compacting: Mutex::new(()),
            compaction_awaited: AtomicU64::new(0),
            catching_up: AtomicBool::new(false),
            syncs_awaited: AtomicU64::new(0),
            compactor: Bell::default(),
            watch: Bell::default(),
            home: io.identity(path).ok().flatten(),
            compact_pace: Pace::new(options.compact_bytes_per_second),
            scrubber: Bell::default(),
            recovery,
            options,
            io,
            #[cfg(feature = "sim")]
            ack_before_sync: AtomicBool::new(false),
        });
        tracing::debug!(path = %path.display(), recovery = ?shared.recovery, "opened the log");
        let mut committer = Committer::new(Arc::clone(&shared), opened.start);
        if shared.recovery.created || !shared.recovery.clean {
            committer.put_room_by();
        }
        let handle =
            Handle { shared, stepped, threads: Mutex::new(Vec::new()), seat: OnceLock::new() };
        Ok((Self { handle: Arc::new(handle) }, committer))
    }

    /// The settings it was opened with, each brought into its range.
    pub fn options(&self) -> &LogOptions {
        &self.shared().options
    }

    /// What opening found.
    pub fn recovery(&self) -> &Recovery {
        &self.shared().recovery
    }

    /// Whether the log was shut down, or is being shut down.
    pub fn is_closed(&self) -> bool {
        self.shared().is_closed()
    }

    /// Gives the space of dead records back. Blocks; writers and readers go on meanwhile.
    ///
    /// # Errors
    /// [`Error::Structural`] for missing or damaged files, [`Error::Corrupt`] when live entries
    /// could not be copied (they stay where they are; the rest was done), [`Error::NoSpace`],
    /// [`Error::Io`], [`Error::Closed`]. Nothing is lost in any case.
    pub fn compact(&self, mode: CompactMode) -> Result<CompactReport, Error> {
        if self.handle.stepped {
            // Stepped from outside: whoever steps has `Committer::compact`.
            return Err(Error::Closed);
        }
        if mode == CompactMode::Full {
            // So that the dead bytes of the present segment go, too.
            match self.shared().roll_from_outside() {
                // On a full disk there is all the more reason to go on.
                Ok(()) | Err(Error::NoSpace) => {}
                Err(error) => return Err(error),
            }
        }
        let shared = self.shared();
        shared.compact(mode, Tempo::AtOnce, &mut || shared.sync_from_outside())
    }

    /// Forgets the oldest segment with everything in it, live or not, and gives its file back: no copies,
    /// no deletes, one replacement of the manifest. Those that compaction has made overlap with it go,
    /// too. Where there is only the segment that is written, that is ended first and forgotten.
    ///
    /// For what may be lost, such as a cache. It survives power loss when this returns, and what was
    /// replaced or deleted before does not come back by it: everything older is gone as well. With
    /// [`LogOptions::auto_compact`] off, segments are forgotten in the order in which they were written.
    /// Blocks; readers and writers go on meanwhile. Takes the time of a look at every entry of the log.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Unhealthy`] when the log is poisoned, [`Error::NoSpace`],
    /// [`Error::Io`]. Nothing was forgotten then.
    pub fn forget_oldest(&self) -> Result<Forgotten, Error> {
        self.shared().forget_oldest(|| self.roll())
    }

    /// Forgets everything that was put before the call; what is put meanwhile may stay or go.
    ///
    /// As [`Log::forget_oldest`] for all segments; takes two replacements of the manifest.
    ///
    /// # Errors
    /// As there; a part may have been forgotten, the older one.
    pub fn forget_all(&self) -> Result<Forgotten, Error> {
        self.shared().forget_all(|| self.roll())
    }

    fn roll(&self) -> Result<(), Error> {
        // Stepped from outside: nobody would do it while this thread waits.
        if self.handle.stepped { Err(Error::Closed) } else { self.shared().roll_from_outside() }
    }

    /// Reads all sealed segments again, at once, and reports what is damaged as a reader would: see
    /// [`Log::damaged`]. The background does the same slowly. Blocks; repairs nothing, and may be
    /// called at any time.
    ///
    /// # Errors
    /// [`Error::Closed`]. What the system could not read is counted in the report.
    pub fn scrub(&self) -> Result<ScrubReport, Error> {
        self.shared().scrub(None)
    }

    /// Figures, from memory.
    pub fn stats(&self) -> Stats {
        let shared = self.shared();
        let counters = &shared.counters;
        let segments = shared.all_segments();
        Stats {
            free_bytes: shared.free_bytes.load(Ordering::Relaxed),
            recycled_segments: counters.recycled_segments.load(Ordering::Relaxed),
            entries: shared.index.len(),
            live_bytes: counters.live_bytes.load(Ordering::Relaxed),
            payload_bytes: counters.payload_bytes.load(Ordering::Relaxed),
            disk_bytes: segments.iter().map(|segment| segment.end.load(Ordering::Relaxed)).sum(),
            segments: segments.len() as u64,
            batches: counters.batches.load(Ordering::Relaxed),
            synced_batches: counters.synced_batches.load(Ordering::Relaxed),
            groups: counters.groups.load(Ordering::Relaxed),
            syncs: counters.syncs.load(Ordering::Relaxed),
            appended_bytes: counters.appended_bytes.load(Ordering::Relaxed),
            compacted_bytes: counters.compacted_bytes.load(Ordering::Relaxed),
            scrubbed_bytes: counters.scrubbed_bytes.load(Ordering::Relaxed),
            scrub_passes: counters.scrub_passes.load(Ordering::Relaxed),
            in_flight_bytes: shared.budget.in_use(),
            torn_bytes: shared.recovery.torn_bytes,
            corrupt: counters.corrupt.load(Ordering::Relaxed),
        }
    }

    /// Why puts are refused, if they are. One atomic load; the text is safe to show to strangers.
    pub fn unhealthy_reason(&self) -> Option<&'static str> {
        self.shared().health.text()
    }

    /// [`Self::unhealthy_reason`] for programs. One atomic load.
    pub fn gate(&self) -> Option<Reason> {
        self.shared().health.reason()
    }

    /// What the gate says to a batch with puts at this moment, for callers that would have to wait
    /// before they can submit one.
    ///
    /// # Errors
    /// [`SubmitError::Unhealthy`] or, for want of room, [`SubmitError::NoSpace`]; counted as refused.
    pub fn check_gate(&self) -> Result<(), SubmitError> {
        let health = &self.shared().health;
        let Some(reason) = health.reason() else { return Ok(()) };
        health.count_refused();
        Err(if reason.is_about_space() {
            SubmitError::NoSpace(reason.text())
        } else {
            SubmitError::Unhealthy(reason.text())
        })
    }

    /// How the log is: each condition, how long it has lasted, and what was counted.
    pub fn health(&self) -> HealthReport {
        self.shared().health.report()
    }

    /// The operator accepts the structural damage that was reported: lost segments are taken off the
    /// list, strange files are moved to the folder `quarantine`, and puts are taken again. Says what was
    /// accepted.
    ///
    /// # Errors
    /// [`Error::Unhealthy`] when a write or a sync has failed: only opening the log again cures
    /// that. [`Error::Io`] and [`Error::NoSpace`]: nothing was acknowledged.
    pub fn acknowledge(&self) -> Result<Vec<Damage>, Error> {
        self.shared().acknowledge()
    }

    /// Everything submitted before this call is durable when the ticket is done.
    pub fn sync(&self) -> Ticket {
        self.shared().push_control(Item::Sync)
    }

    /// Begins the shut-down: what was submitted is written and answered, later calls fail. Done once
    /// the log is durable, marked as cleanly shut down, and unlocked. May be called repeatedly.
    pub fn shutdown(&self) -> Ticket {
        self.handle.shutdown()
    }

    /// [`Log::shutdown`], and waits for it.
    ///
    /// # Errors
    /// [`Error::Unhealthy`] when a write or a sync has failed, [`Error::NotCancelled`] when a full disk
    /// kept batches that were given up from being cancelled; the log is closed nevertheless.
    pub fn close(&self) -> Result<(), Error> {
        match self.handle.close() {
            Some(crate::Outcome::Failed(error)) => Err(self.shared().maintenance_error(&error)),
            _ => Ok(()),
        }
    }

    /// Makes the committer answer before it syncs: a mistake that crash tests must find.
    #[cfg(feature = "sim")]
    #[doc(hidden)]
    pub fn break_sync_before_ack(&self) {
        self.shared().ack_before_sync.store(true, Ordering::Relaxed);
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }
}

/// What the clones of a log share. Its end is the end of the log.
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    /// Somebody else steps the committer: waiting for it here would be for ever.
    stepped: bool,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// None while somebody else steps the committer.
    seat: OnceLock<Arc<Seat>>,
}

impl Handle {
    fn shutdown(&self) -> Ticket {
        let mut queue = self.shared.queue();
        if let Some((ticket, _)) = &queue.shutdown {
            return ticket.clone();
        }
        let (ticket, state) = Ticket::new();
        if queue.gone {
            drop(queue);
            state.begin();
            state.finish(|| self.shared.published_lsn.load(Ordering::Acquire));
            return ticket;
        }
        queue.closing = true;
        queue.wake();
        queue.shutdown = Some((ticket.clone(), state));
        drop(queue);
        self.shared.arrived.notify_one();
        ticket
    }

    fn close(&self) -> Option<crate::Outcome> {
        let ticket = self.shutdown();
        // A waker may drop the last handle on one of the log's own threads: waiting there would be
        // for ever, because it is this thread that has to end the log.
        if self.stepped || self.is_own_thread() {
            return ticket.wait(Some(Duration::ZERO));
        }
        let outcome = ticket.wait(None);
        for thread in std::mem::take(&mut *self.lock_threads()) {
            let _ = thread.join();
        }
        outcome
    }

    fn is_own_thread(&self) -> bool {
        if self.seat.get().is_some_and(|seat| seat.is_mine()) {
            return true;
        }
        let current = std::thread::current().id();
        self.lock_threads().iter().any(|thread| thread.thread().id() == current)
    }

    fn lock_threads(&self) -> std::sync::MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    pub(crate) fn maintenance_error(&self, error: &crate::WriteError) -> Error {
        match error {
            crate::WriteError::NoSpace => Error::NoSpace,
            crate::WriteError::Closed => Error::Closed,
            crate::WriteError::Unhealthy(reason) => Error::Unhealthy(reason),
            crate::WriteError::OutOfResources { action, source, .. } => {
                Error::Io { action, path: self.dir.clone(), source: again(source) }
            }
            crate::WriteError::NotCancelled { batches, source } => {
                Error::NotCancelled { batches: *batches, source: again(source) }
            }
            crate::WriteError::Interrupted | crate::WriteError::Io { .. } => {
                Error::Unhealthy(self.health.text().unwrap_or("a write failed"))
            }
        }
    }
}
