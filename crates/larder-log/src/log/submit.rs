//! Handing batches to the committer.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::budget::{Admission, Permit};
use crate::shared::{Item, QueuedBatch, Shared};
use crate::ticket::Ticket;
use crate::{Batch, Durability, Log, SubmitError, clock, park};

/// The most that one batch may hold: offsets in a segment stay below what the index can say.
const BATCH_BYTES_MAX: u64 = 8 << 30;

impl Log {
    /// Hands a batch to the committer. Does not block and does no I/O.
    ///
    /// # Errors
    /// [`SubmitError::Full`] when the byte budget is used up, else as [`Log::submit_admitted`].
    /// Nothing was written in any case.
    pub fn submit(&self, batch: Batch, durability: Durability) -> Result<Ticket, SubmitError> {
        self.check(&batch)?;
        let permit = self.shared().budget.try_take(batch.bytes()).ok_or(SubmitError::Full)?;
        self.enqueue(batch, durability, permit, true)
    }

    /// Waits until the byte budget has room for `bytes` (see [`Batch::bytes`]). First come, first
    /// served; dropping it gives the place to the next one.
    pub fn admission(&self, bytes: u64) -> Admission<'_> {
        self.shared().budget.admission(bytes)
    }

    /// [`Log::submit`] with bytes that were admitted before. A permit that is too small counts as
    /// none.
    ///
    /// # Errors
    /// [`SubmitError::Unhealthy`] or, for want of room, [`SubmitError::NoSpace`] when the gate is
    /// closed (deletes pass unless only opening again helps), [`SubmitError::TooLarge`], [`SubmitError::TooManyEntries`] and
    /// [`SubmitError::TooManyBytes`] for the limits, [`SubmitError::Closed`] after the shut-down.
    pub fn submit_admitted(
        &self,
        batch: Batch,
        durability: Durability,
        permit: Permit,
    ) -> Result<Ticket, SubmitError> {
        if !permit.covers(&self.shared().budget, batch.bytes()) {
            drop(permit);
            return self.submit(batch, durability);
        }
        self.check(&batch)?;
        self.enqueue(batch, durability, permit, true)
    }

    /// [`Log::submit`] for a thread that waits for the answer: while nobody else writes, it does so
    /// itself, and the ticket has its answer at once. That spares two switches of threads, about a
    /// third of what a small durable store takes. While others write, the batch is queued as usual.
    ///
    /// Blocks: for room in the byte budget at most for `limit`; for the disk, which nothing can end;
    /// and for compaction that is behind, a second at most. Never call it from a waker or on a worker
    /// of an asynchronous runtime.
    ///
    /// # Errors
    /// As [`Log::submit`]; [`SubmitError::Full`] when `limit` has passed.
    ///
    /// ```
    /// # use larder_log::{Batch, Durability, Log, LogOptions, Outcome, Slot};
    /// # let dir = tempfile::tempdir()?;
    /// # let log = Log::open(&dir.path().join("log"), LogOptions::default())?;
    /// let mut batch = Batch::new();
    /// batch.put(Slot { namespace: 1, id: [7; 16] }, "accepted".into());
    /// let ticket = log.submit_blocking(batch, Durability::Power, None)?;
    /// assert!(matches!(ticket.wait(None), Some(Outcome::Done { .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn submit_blocking(
        &self,
        batch: Batch,
        durability: Durability,
        limit: Option<Duration>,
    ) -> Result<Ticket, SubmitError> {
        self.check(&batch)?;
        let until = limit.map(|limit| clock::now().saturating_add(limit));
        let admission = self.admission(batch.bytes());
        let permit = park::wait_until(admission, until).ok_or(SubmitError::Full)??;
        // It may have waited for long.
        self.check(&batch)?;
        let taken = self.handle.seat.get().and_then(|seat| seat.take());
        let ticket = self.enqueue(batch, durability, permit, taken.is_none())?;
        if let Some(taken) = taken {
            taken.commit(self.shared(), &ticket);
        }
        Ok(ticket)
    }

    /// What can be refused at once.
    fn check(&self, batch: &Batch) -> Result<(), SubmitError> {
        let shared = self.shared();
        let limit = shared.options.max_payload_bytes;
        if batch.payload_max() > limit {
            return Err(SubmitError::TooLarge { limit });
        }
        if batch.bytes() > BATCH_BYTES_MAX {
            return Err(SubmitError::TooLarge { limit: BATCH_BYTES_MAX });
        }
        if batch.puts() > 0 || shared.health.is_poisoned() {
            self.check_gate()?;
        }
        Ok(())
    }

    /// Queues a batch; with `wake` the committer's thread is woken for it.
    fn enqueue(
        &self,
        batch: Batch,
        durability: Durability,
        permit: Permit,
        wake: bool,
    ) -> Result<Ticket, SubmitError> {
        let shared = self.shared();
        shared.claim(&batch)?;
        let (ticket, state) = Ticket::new();
        let (bytes, puts) = (batch.bytes(), batch.puts());
        let queued =
            QueuedBatch { ops: batch.ops, bytes, puts, durability, answer: state.into(), permit };
        if !shared.push(Item::Batch(queued), wake) {
            shared.forget_pending(puts, bytes);
            return Err(SubmitError::Closed);
        }
        Ok(ticket)
    }
}

impl Shared {
    /// Counts the batch as being on its way, unless that would pass a limit.
    ///
    /// A put of a new slot counts, a replacement does not; what is on its way is counted as new.
    /// The claim comes before the look at what is there, and what is published leaves the claims
    /// only after it is there: so callers that come at once may be refused together at the last
    /// place, but never pass the limit together.
    fn claim(&self, batch: &Batch) -> Result<(), SubmitError> {
        if !self.is_limited() {
            return Ok(());
        }
        let (puts, bytes) = (batch.puts(), batch.bytes());
        let puts_before = self.pending_puts.fetch_add(puts, Ordering::SeqCst);
        let bytes_before = self.pending_bytes.fetch_add(bytes, Ordering::SeqCst);
        let within = self.check_limits(batch, puts_before, bytes_before);
        if within.is_err() {
            self.forget_pending(puts, bytes);
        }
        within
    }

    fn check_limits(&self, batch: &Batch, puts: u64, bytes: u64) -> Result<(), SubmitError> {
        if batch.puts() == 0 {
            return Ok(());
        }
        if let Some(limit) = self.options.max_entries {
            let fresh =
                batch.ops.iter().filter(|op| op.is_put() && !self.index.contains(&op.slot()));
            let more = fresh.count() as u64;
            if more > 0 && self.index.len() + puts + more > limit {
                return Err(SubmitError::TooManyEntries { limit });
            }
        }
        if let Some(limit) = self.options.max_bytes {
            let held = self.counters.live_bytes.load(Ordering::SeqCst) + bytes;
            if held + batch.bytes() > limit {
                return Err(SubmitError::TooManyBytes { limit });
            }
        }
        Ok(())
    }

    /// Whether what is on its way counts against a limit.
    pub(crate) fn is_limited(&self) -> bool {
        self.options.max_entries.is_some() || self.options.max_bytes.is_some()
    }

    /// Ends the claim of a batch: it is published, or will never be.
    pub(crate) fn forget_pending(&self, puts: u64, bytes: u64) {
        if !self.is_limited() {
            return;
        }
        self.pending_puts.fetch_sub(puts, Ordering::SeqCst);
        self.pending_bytes.fetch_sub(bytes, Ordering::SeqCst);
    }
}
