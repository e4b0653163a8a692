//! Giving up what is oldest, but for what was read lately.

use std::sync::Arc;
use std::time::Duration;

use larder_core::Age;
use larder_log::{Batch, Durability, Entry, Error, Ticket};

use super::record;
use super::store::Store;
use super::title::Title;
use crate::driver::log as driver;

/// Of a segment that is given up, at most this part is written again: so the disk is written at most twice what it is given.
const SPARED_PART: u64 = 2;
/// After a failure the disk is left alone for so long.
const PAUSE: Duration = Duration::from_millis(500);

impl Store {
    /// Keeps the cache within its bounds until it is stopped. Blocks; has a thread of its own.
    pub(super) fn run_evictor(self: &Arc<Self>) {
        while let Some(asked) = self.room.wait() {
            let mut more = asked;
            while more || self.room.is_short(&self.log) {
                more = false;
                if let Err(error) = self.evict() {
                    if !matches!(error, Error::Closed) {
                        tracing::warn!(%error, "a cache on disk cannot evict");
                    }
                    if !self.room.pause(PAUSE) {
                        return;
                    }
                    break;
                }
                self.room.tell();
            }
            self.room.tell();
        }
    }

    /// Gives up the oldest segment. What was read since it was written gets a second chance, and so does
    /// the little that is left where most is gone: it is written again, as the newest.
    fn evict(&self) -> Result<(), Error> {
        let doomed = self.log.oldest_entries(driver::CACHE);
        let left: u64 = doomed.iter().map(bytes).sum();
        let spared_max = self.room.bounds.segment_bytes() / SPARED_PART;
        let (mut spared, mut tickets) = (0, Vec::new());
        for entry in &doomed {
            let read = self.marks.take(entry.slot);
            if (read || left <= spared_max)
                && spared + bytes(entry) <= spared_max
                && let Some(ticket) = self.spare(entry)
            {
                spared += bytes(entry);
                tickets.push(ticket);
            }
        }
        // Or a reader might miss what is on its way.
        for ticket in tickets {
            ticket.wait(None);
        }
        let gone = self.log.forget_oldest()?;
        self.counts.evictions.increment(gone.entries);
        self.keep_title();
        Ok(())
    }

    /// Forgets everything that was there when it was called.
    pub(super) fn clear(&self) -> Result<(), Error> {
        let cleared = self.log.forget_all();
        self.keep_title();
        self.room.tell();
        cleared.map(drop)
    }

    /// Without its title the next open would take nothing over.
    fn keep_title(&self) {
        if Title::is_missing(&self.log)
            && let Err(error) = self.title.write(&self.log)
        {
            tracing::warn!(%error, "a cache on disk cannot write its title");
        }
    }

    /// Writes an entry again, if nobody has changed it and it is alive.
    fn spare(&self, entry: &Entry) -> Option<Ticket> {
        let mut turn = self.turns.take_blocking(entry.slot);
        if !self.log.holds(entry) {
            return None;
        }
        let bytes = self.log.get(entry.slot).ok()??;
        if record::decode(&bytes)?.value.age(&*self.clock) == Age::Expired {
            return None;
        }
        let mut batch = Batch::new();
        batch.put(entry.slot, bytes);
        let ticket = self.log.submit(batch, Durability::Process).ok()?;
        turn.begin(ticket.clone());
        Some(ticket)
    }
}

fn bytes(entry: &Entry) -> u64 {
    Batch::put_bytes(usize::try_from(entry.len).unwrap_or(usize::MAX))
}
