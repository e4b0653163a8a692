//! Making batches visible, and telling those who wait for them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Committer;
use crate::WriteError;
use crate::budget::Permit;
use crate::group::{BatchEffect, Change};
use crate::index::Index;
use crate::shared::QueuedBatch;
use crate::tally::Tally;
use crate::ticket::Waiting;

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
    ///
    /// What a batch leaves behind is freed before anybody is woken: by then its memory belongs to the
    /// processor that runs the caller, and touching it once more would cost more than freeing it.
    pub(super) fn publish(&mut self, batches: Vec<QueuedBatch>, mut written: Written) {
        let Self { shared, active, aborts, written_lsn, .. } = self;
        let limited = shared.is_limited();
        let mut tally = Tally::new(shared, &active.segment);
        let mut changes = written.changes.as_slice();
        let mut effects = written.effects.drain(..);
        let count = batches.len();
        let at_once = (count / ANSWERS).clamp(1, ANSWERED_AT_ONCE_MAX);
        let mut waiting = Vec::with_capacity(at_once);
        let mut batches = batches.into_iter();
        while batches.len() > 0 {
            let mut permits: Option<Permit> = None;
            for (batch, effect) in batches.by_ref().take(at_once).zip(effects.by_ref()) {
                let QueuedBatch { ops: _, bytes, puts, durability: _, answer, permit } = batch;
                let (own, others) = changes.split_at(effect.changes);
                changes = others;
                let ended = answer.end(|| {
                    for change in own {
                        apply(&shared.index, &mut tally, change);
                    }
                    if limited {
                        // Before anybody can know of it, or the next batch might find no room.
                        tally.settle();
                        shared.forget_pending(puts, bytes);
                    }
                    effect.lsns.map_or(*written_lsn, |(_, last)| last)
                });
                if !ended.published {
                    shared.forget_pending(puts, bytes);
                    aborts.extend(effect.lsns);
                }
                waiting.push(ended);
                match &mut permits {
                    Some(permits) => permits.join(permit),
                    None => permits = Some(permit),
                }
            }
            tally.settle();
            drop(permits);
            waiting.drain(..).for_each(Waiting::wake);
        }
        let count = count as u64;
        shared.counters.ended.fetch_add(count, Ordering::Relaxed);
        shared.counters.batches.fetch_add(count, Ordering::Relaxed);
        shared.published_lsn.store(*written_lsn, Ordering::Release);
        drop((tally, effects));
        self.scratch.keep(written.effects, written.changes);
    }

    pub(super) fn fail(&self, batches: &[QueuedBatch], error: WriteError) -> Arc<WriteError> {
        let error = Arc::new(error);
        self.fail_all(batches, &error);
        error
    }

    pub(super) fn fail_all(&self, batches: &[QueuedBatch], error: &Arc<WriteError>) {
        self.forget(batches);
        for batch in batches {
            batch.answer.fail(error);
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
