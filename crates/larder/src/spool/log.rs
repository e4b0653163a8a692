//! The spool over the embedded engine.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use larder_core::{
    Clock, Durability, Effect, EnumerateHandle, ListingSender, Spool, SpoolError, SpoolId,
    SpoolSender, SpoolStats, SystemClock, Timestamp,
};
use larder_log::{
    Annulment, Batch, CompactMode, Log, LogOptions, Outcome, ReadError, Slot, SubmitError, Ticket,
    WriteError,
};

use crate::driver::log as driver;
use crate::registry::OpenError;

mod health;
mod walk;

/// A spool in a folder of this machine: a segmented, checksummed log with group commit.
///
/// # Guarantees
/// | | |
/// |---|---|
/// | durability | `force_sync`: power loss; otherwise process death at once, power loss within the sync interval |
/// | atomicity | `store_many` and `remove_many` apply as a whole |
/// | errors | a store that answered an error is annulled: this process never shows it |
/// | limits | one process at a time; payloads up to 1 GiB by default; the index is in memory |
///
/// A load answers at once, on the calling thread, what lies in the page cache. What has to come from
/// the disk, and payloads above 1 MiB, are read on tokio's blocking threads, at most 64 at a time. A
/// load that is dropped gives its place there back when its read has ended.
///
/// An enumeration reads ahead by what its channel holds, a quarter of that again (128 entries or 1 MiB at
/// most), and a block of 256 KiB. A payload of at most 4 KiB that it sends shares memory with its
/// neighbours: as long as it is kept, up to 16 KiB are. Copy one that is to be kept for long.
#[derive(Clone, Debug)]
pub struct LogSpool {
    log: Log,
    store_deadline: Duration,
    reads: driver::Reads,
}

/// A longer `store_deadline` than this is no different from none, and could not be added to a time.
const STORE_DEADLINE_MAX: Duration = Duration::from_hours(365 * 24);

/// How a [`LogSpool`] behaves.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs, reason = "options are built with `..Default::default()`")]
pub struct LogSpoolOptions {
    /// The engine's own options.
    pub log: LogOptions,
    /// How long a store may wait when the caller gives no sooner deadline. Default: 30 seconds, at
    /// most a year.
    pub store_deadline: Duration,
}

impl Default for LogSpoolOptions {
    fn default() -> Self {
        Self { log: LogOptions::default(), store_deadline: Duration::from_secs(30) }
    }
}

impl LogSpool {
    /// Opens the spool in the folder `path`, creating it if it is missing; blocks while it reads.
    ///
    /// # Errors
    /// [`OpenError`]; nothing was changed.
    pub fn open(path: &Path, options: LogSpoolOptions) -> Result<Self, OpenError> {
        let log = driver::open(path, options.log, &[driver::SPOOL])?;
        Ok(Self::with_log(log, options.store_deadline))
    }

    /// A spool on a log that is open already, on whatever disk.
    ///
    /// A store waits at most `store_deadline` when its caller gives no sooner one.
    pub fn with_log(log: Log, store_deadline: Duration) -> Self {
        let store_deadline = store_deadline.min(STORE_DEADLINE_MAX);
        Self { log, store_deadline, reads: driver::Reads::default() }
    }

    /// [`Spool::store`] for a thread that may block. While nobody else writes, this thread writes and
    /// waits for the disk itself, which spares a small durable store a third of its time; while others
    /// do, it joins their group as an asynchronous caller would.
    ///
    /// The deadline limits every wait but that of this thread for the disk, which nothing can end: a
    /// store that the disk takes too long for is answered late, and with what became of it.
    ///
    /// Do not call it on a worker of an asynchronous runtime: other tasks of that worker would wait.
    ///
    /// # Errors
    /// As [`Spool::store`].
    ///
    /// ```
    /// # use larder::spool::{LogSpool, LogSpoolOptions};
    /// # use larder::SpoolId;
    /// # let dir = tempfile::tempdir()?;
    /// let spool = LogSpool::open(&dir.path().join("spool"), LogSpoolOptions::default())?;
    /// spool.store_blocking(SpoolId::from_bytes([1; 16]), "accepted".into(), true, None)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn store_blocking(
        &self,
        id: SpoolId,
        data: Bytes,
        force_sync: bool,
        deadline: Option<Instant>,
    ) -> Result<(), SpoolError> {
        let limit = self.limit(deadline)?;
        let batch = self.puts([(id, data)])?;
        let left = || limit.at.saturating_duration_since(SystemClock.instant());
        let submitted = self.log.submit_blocking(batch, durability(force_sync), Some(left()));
        let ticket = match submitted {
            // The wait for room is the only thing that ends like this here.
            Err(SubmitError::Full) => return Err(limit.passed(Effect::NotApplied)),
            submitted => submitted.map_err(|error| self.refused(error))?,
        };
        ticket.wait(Some(left())).map_or_else(|| give_up(&ticket, limit), acknowledged)
    }

    /// Hands `batch` to the engine before `limit` and waits for its acknowledgement until then.
    async fn write(
        &self,
        batch: Batch,
        durability: larder_log::Durability,
        limit: Limit,
    ) -> Result<(), SpoolError> {
        let admission = self.log.admission(batch.bytes());
        let permit = match tokio::time::timeout_at(limit.at.into(), admission).await {
            Ok(permit) => permit.map_err(|error| self.refused(error))?,
            Err(_) => return Err(limit.passed(Effect::NotApplied)),
        };
        let submitted = self.log.submit_admitted(batch, durability, permit);
        let mut ticket = submitted.map_err(|error| self.refused(error))?;
        let outcome = tokio::time::timeout_at(limit.at.into(), &mut ticket).await;
        match outcome {
            Ok(outcome) => acknowledged(outcome),
            Err(_) => give_up(&ticket, limit),
        }
    }

    async fn put(
        &self,
        entries: impl IntoIterator<Item = (SpoolId, Bytes)>,
        force_sync: bool,
        deadline: Option<Instant>,
    ) -> Result<(), SpoolError> {
        let limit = self.limit(deadline)?;
        let batch = self.puts(entries)?;
        if batch.is_empty() {
            return Ok(());
        }
        self.write(batch, durability(force_sync), limit).await
    }

    /// A batch that puts `entries`, unless the gate is closed or one is too large.
    fn puts(
        &self,
        entries: impl IntoIterator<Item = (SpoolId, Bytes)>,
    ) -> Result<Batch, SpoolError> {
        self.log.check_gate().map_err(|error| self.refused(error))?;
        let mut batch = Batch::new();
        for (id, data) in entries {
            let (bytes, bytes_max) = (size(&data), self.log.options().max_payload_bytes);
            if bytes > bytes_max {
                return Err(SpoolError::TooLarge { bytes, bytes_max });
            }
            batch.put(slot(id), data);
        }
        Ok(batch)
    }

    async fn delete(&self, ids: &[SpoolId], durable: bool) -> Result<(), SpoolError> {
        let mut batch = Batch::new();
        for id in ids {
            batch.delete(slot(*id));
        }
        if batch.is_empty() {
            return Ok(());
        }
        let limit = self.limit(None)?;
        self.write(batch, durability(durable), limit).await
    }

    /// What a refusal at the door means: nothing was written, in every case.
    fn refused(&self, error: SubmitError) -> SpoolError {
        match error {
            SubmitError::Closed => shut_down(),
            SubmitError::Unhealthy(reason) => SpoolError::Unhealthy { reason },
            SubmitError::NoSpace(_) => {
                let what = health::no_room(&self.log).into();
                SpoolError::NoSpace { what, effect: Effect::NotApplied }
            }
            SubmitError::TooManyEntries { limit } => {
                SpoolError::Full { limit: format!("max_entries={limit}") }
            }
            SubmitError::TooManyBytes { limit } => {
                SpoolError::Full { limit: format!("max_bytes={limit}") }
            }
            other => driver::harmless("write", other).into(),
        }
    }

    fn limit(&self, caller: Option<Instant>) -> Result<Limit, SpoolError> {
        let now = SystemClock.instant();
        if caller.is_some_and(|deadline| deadline <= now) {
            return Err(SpoolError::CallerDeadlineExceeded { effect: Effect::NotApplied });
        }
        let own = now + self.store_deadline;
        Ok(match caller {
            Some(deadline) if deadline < own => Limit { at: deadline, own: None },
            _ => Limit { at: own, own: Some(self.store_deadline) },
        })
    }

    /// Runs maintenance that blocks on a thread that may.
    async fn blocking<T: Send + 'static>(
        &self,
        operation: &'static str,
        run: impl FnOnce(Log) -> Result<T, larder_log::Error> + Send + 'static,
    ) -> Result<T, SpoolError> {
        let log = self.log.clone();
        match tokio::task::spawn_blocking(move || run(log)).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(larder_log::Error::Closed)) => Err(shut_down()),
            Ok(Err(larder_log::Error::Unhealthy(reason))) => Err(SpoolError::Unhealthy { reason }),
            Ok(Err(larder_log::Error::NoSpace)) => Err(no_space(Effect::NotApplied)),
            Ok(Err(error @ larder_log::Error::NoRoomToCopy { .. })) => {
                let what = error.to_string().into();
                Err(SpoolError::NoSpace { what, effect: Effect::NotApplied })
            }
            Ok(Err(error @ larder_log::Error::NotCancelled { .. })) => {
                Err(driver::unsure(operation, error).into())
            }
            Ok(Err(error)) => Err(driver::harmless(operation, error).into()),
            Err(panicked) => Err(driver::harmless(operation, panicked).into()),
        }
    }
}

impl Spool for LogSpool {
    async fn load(&self, id: SpoolId) -> Result<Bytes, SpoolError> {
        loaded(id, self.reads.get(&self.log, slot(id)).await)
    }

    async fn load_many(&self, ids: &[SpoolId]) -> Vec<Result<Bytes, SpoolError>> {
        let slots: Vec<Slot> = ids.iter().map(|id| slot(*id)).collect();
        let reads = self.reads.get_many(&self.log, &slots).await;
        ids.iter().zip(reads).map(|(id, read)| loaded(*id, read)).collect()
    }

    async fn store(
        &self,
        id: SpoolId,
        data: Bytes,
        force_sync: bool,
        deadline: Option<Instant>,
    ) -> Result<(), SpoolError> {
        self.put([(id, data)], force_sync, deadline).await
    }

    async fn store_many(
        &self,
        entries: Vec<(SpoolId, Bytes)>,
        force_sync: bool,
        deadline: Option<Instant>,
    ) -> Result<(), SpoolError> {
        self.put(entries, force_sync, deadline).await
    }

    async fn remove(&self, id: SpoolId) -> Result<(), SpoolError> {
        self.delete(&[id], false).await
    }

    async fn remove_durable(&self, id: SpoolId) -> Result<(), SpoolError> {
        self.delete(&[id], true).await
    }

    async fn remove_many(&self, ids: Vec<SpoolId>, durable: bool) -> Result<(), SpoolError> {
        self.delete(&ids, durable).await
    }

    fn enumerate(
        &self,
        sender: SpoolSender,
        start_time: Timestamp,
    ) -> Result<EnumerateHandle, SpoolError> {
        walk::entries(&self.log, sender, start_time)
    }

    fn list(
        &self,
        sender: ListingSender,
        start_time: Timestamp,
    ) -> Result<EnumerateHandle, SpoolError> {
        walk::sizes(&self.log, sender, start_time)
    }

    async fn cleanup(&self) -> Result<(), SpoolError> {
        self.blocking("cleanup", |log| log.compact(CompactMode::Due).map(drop)).await
    }

    async fn shutdown(&self) -> Result<(), SpoolError> {
        self.blocking("shutdown", |log| log.close()).await
    }

    async fn advise_low_memory(&self) -> Result<isize, SpoolError> {
        let saved = self.blocking("advise_low_memory", |log| Ok(log.advise_low_memory())).await?;
        Ok(isize::try_from(saved).unwrap_or(isize::MAX))
    }

    async fn compact(&self) -> Result<(), SpoolError> {
        self.blocking("compact", |log| log.compact(CompactMode::Full).map(drop)).await
    }

    fn unhealthy_reason(&self) -> Option<&'static str> {
        self.log.unhealthy_reason()
    }

    async fn acknowledge(&self) -> Result<Vec<String>, SpoolError> {
        let accepted = self.blocking("acknowledge", |log| log.acknowledge()).await?;
        Ok(accepted.iter().map(ToString::to_string).collect())
    }

    async fn stats(&self) -> Result<SpoolStats, SpoolError> {
        let stats = self.log.stats();
        let mut spool = SpoolStats::default();
        spool.entries = stats.entries;
        spool.bytes = stats.payload_bytes;
        spool.corrupt = stats.corrupt;
        spool.disk_bytes = stats.disk_bytes;
        spool.details = vec![
            ("segments", stats.segments),
            ("syncs", stats.syncs),
            ("synced_batches", stats.synced_batches),
            ("appended_bytes", stats.appended_bytes),
            ("compacted_bytes", stats.compacted_bytes),
            ("scrubbed_bytes", stats.scrubbed_bytes),
            ("scrub_passes", stats.scrub_passes),
            ("torn_bytes", stats.torn_bytes),
        ];
        health::tell(&self.log.health(), self.log.options(), &mut spool);
        Ok(spool)
    }

    fn durability(&self) -> Durability {
        Durability::Power
    }
}

/// What a load, an enumeration and a listing say of a damaged payload.
const DAMAGED: &str = "its bytes fail their checksum";

/// Until when a write may take, and whose limit that is (`own`: the spool's).
#[derive(Clone, Copy)]
struct Limit {
    at: Instant,
    own: Option<Duration>,
}

impl Limit {
    fn passed(self, effect: Effect) -> SpoolError {
        match self.own {
            Some(deadline) => SpoolError::BackpressureTimeout { deadline, effect },
            None => SpoolError::CallerDeadlineExceeded { effect },
        }
    }
}

fn slot(id: SpoolId) -> Slot {
    Slot { namespace: driver::SPOOL, id: *id.as_bytes() }
}

fn durability(force_sync: bool) -> larder_log::Durability {
    if force_sync { larder_log::Durability::Power } else { larder_log::Durability::Process }
}

/// Takes back a write whose deadline passed: nobody will see it in this process.
fn give_up(ticket: &Ticket, limit: Limit) -> Result<(), SpoolError> {
    match ticket.annul() {
        Annulment::NotWritten => Err(limit.passed(Effect::NotApplied)),
        Annulment::Pending => Err(limit.passed(Effect::Unknown)),
        // It was answered in the very moment in which the deadline passed.
        Annulment::AlreadyDone => {
            let outcome = ticket.outcome();
            outcome.map_or_else(|| Err(limit.passed(Effect::Unknown)), acknowledged)
        }
    }
}

fn acknowledged(outcome: Outcome) -> Result<(), SpoolError> {
    match outcome {
        Outcome::Done { .. } => Ok(()),
        Outcome::Failed(error) => Err(match *error {
            WriteError::NoSpace => no_space(driver::effect(&error)),
            WriteError::Closed => SpoolError::ShuttingDown { effect: driver::effect(&error) },
            WriteError::Unhealthy(reason) => SpoolError::Unhealthy { reason },
            _ => driver::write_error("write", &error).into(),
        }),
        // Only the owner of the ticket annuls, and it does not wait for it afterwards.
        Outcome::Annulled => Err(driver::annulled("write").into()),
    }
}

/// The system said that the device is full.
fn no_space(effect: Effect) -> SpoolError {
    SpoolError::NoSpace { what: health::FULL.into(), effect }
}

fn loaded(id: SpoolId, read: driver::Read) -> Result<Bytes, SpoolError> {
    match read {
        Ok(Some(payload)) => Ok(payload),
        Ok(None) => Err(SpoolError::NotFound { id }),
        Err(error) => Err(unreadable("load", Some(id), error)),
    }
}

fn unreadable(operation: &'static str, id: Option<SpoolId>, error: ReadError) -> SpoolError {
    match error {
        ReadError::Corrupt { .. } => SpoolError::Corrupt { id, what: DAMAGED.into() },
        ReadError::Closed => shut_down(),
        other => driver::harmless(operation, other).into(),
    }
}

fn shut_down() -> SpoolError {
    SpoolError::ShuttingDown { effect: Effect::NotApplied }
}

fn size(data: &Bytes) -> u64 {
    u64::try_from(data.len()).unwrap_or(u64::MAX)
}
