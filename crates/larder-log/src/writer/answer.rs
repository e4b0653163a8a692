//! Making batches visible, and telling those who wait for them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Committer;
use crate::WriteError;
use crate::group::{BatchEffect, Change};
use crate::index::Index;
use crate::shared::QueuedBatch;
use crate::tally::Tally;

/// At most so many batches become visible before those who wait for them are woken, and the levels of
/// what is live follow. More would save little, and keep the first of a group waiting for the last.
const ANSWERED_AT_ONCE_MAX: usize = 16;
/// At least so many times those of a group are woken.
const ANSWERS: usize = 4;

/// What a group that is in the file comes to.
pub(super) struct Written {
    /// Of each batch.
    pub(super) effects: Vec<BatchEffect>,
    /// Of all batches, one after the other.
    pub(super) changes: Vec<Change>,
}

impl Committer {
    /// Makes the batches visible in the order of their positions, and answers them.
    pub(super) fn publish(&mut self, batches: &[QueuedBatch], written: Written) {
        let Self { shared, active, aborts, written_lsn, .. } = self;
        let limited = shared.is_limited();
        let mut tally = Tally::new(shared, &active.segment);
        let mut changes = written.changes.as_slice();
        let mut effects = written.effects.into_iter();
        let at_once = (batches.len() / ANSWERS).clamp(1, ANSWERED_AT_ONCE_MAX);
        let mut answered = Vec::with_capacity(at_once);
        for some in batches.chunks(at_once) {
            for (batch, effect) in some.iter().zip(&mut effects) {
                let (own, others) = changes.split_at(effect.changes);
                changes = others;
                let waiting = batch.ticket.end(|| {
                    for change in own {
                        apply(&shared.index, &mut tally, change);
                    }
                    if limited {
                        // Before anybody can know of it, or the next batch might find no room.
                        tally.settle();
                        shared.forget_pending(batch.puts, batch.bytes);
                    }
                    effect.lsns.map_or(*written_lsn, |(_, last)| last)
                });
                if !waiting.published {
                    shared.forget_pending(batch.puts, batch.bytes);
                    aborts.extend(effect.lsns);
                }
                answered.push((batch, waiting));
            }
            tally.settle();
            for (batch, waiting) in answered.drain(..) {
                batch.ticket.wake(waiting);
            }
        }
        let count = batches.len() as u64;
        shared.counters.ended.fetch_add(count, Ordering::Relaxed);
        shared.counters.batches.fetch_add(count, Ordering::Relaxed);
        shared.published_lsn.store(*written_lsn, Ordering::Release);
    }

    pub(super) fn fail(&self, batches: &[QueuedBatch], error: WriteError) -> Arc<WriteError> {
        let error = Arc::new(error);
        self.fail_all(batches, &error);
        error
    }

    pub(super) fn fail_all(&self, batches: &[QueuedBatch], error: &Arc<WriteError>) {
        self.forget(batches);
        for batch in batches {
            batch.ticket.fail(error);
        }
    }

    /// Ends the claims of batches that come to nothing.
    pub(super) fn forget(&self, batches: &[QueuedBatch]) {
        self.shared.counters.ended.fetch_add(batches.len() as u64, Ordering::Relaxed);
        for batch in batches {
            self.shared.forget_pending(batch.puts, batch.bytes);
        }
    }
}

/// Changes the index; puts lie in the segment that is written.
fn apply(index: &Index, tally: &mut Tally<'_>, change: &Change) {
    let old = match change {
        Change::Put(slot, location) => {
            tally.add_live(location);
            index.put(*slot, *location)
        }
        Change::Delete(slot) => index.remove(slot),
    };
    if let Some(old) = old {
        tally.add_dead(&old);
    }
}
