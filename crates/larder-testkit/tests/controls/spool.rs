use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use larder_core::channel::channel;
use larder_core::{
    BoxError, Durability, Effect, EnumerateHandle, ListingSender, ManualClock, MemorySpool,
    SharedSpool, Spool, SpoolEntry, SpoolError, SpoolId, SpoolSender, SpoolStats, Timestamp,
};
use larder_testkit::{Need, Place, Subject};

use crate::{broken, is_caught_by};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Defect {
    None,
    DropsAStore,
    LosesTheTail,
    IgnoresDeadlines,
    TakesEmptyForMissing,
    FailsToRemoveTwice,
    EnumeratesTwice,
    CallsAnAbortComplete,
    IsNeverHealthy,
    BringsBackWhatWasRemoved,
    ListsNothing,
    AcceptsStoresAfterShutdown,
    OpensTwice,
}

/// A place in memory that can be closed and opened again, with one defect.
#[derive(Clone, Debug)]
struct Defective {
    inner: MemorySpool,
    defect: Defect,
    closed: Arc<AtomicBool>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    stores: AtomicU64,
    open: AtomicBool,
    unsynced: Mutex<Vec<SpoolId>>,
    removed: Mutex<HashMap<SpoolId, Bytes>>,
}

fn subject(defect: Defect) -> Subject<SharedSpool> {
    Subject::new(format!("{defect:?}"), move || {
        let clock = ManualClock::default();
        let inner = MemorySpool::new(clock.shared(), MemorySpool::BYTES_MAX, 1 << 20);
        let shared = Arc::new(Shared::default());
        let open = move || {
            let (inner, shared) = (inner.clone(), Arc::clone(&shared));
            async move {
                if shared.open.swap(true, Ordering::SeqCst) && defect != Defect::OpensTwice {
                    return Err(BoxError::from("the place is open"));
                }
                if defect == Defect::LosesTheTail {
                    let lost = shared.unsynced.lock().unwrap().pop();
                    inner.remove_many(lost.into_iter().collect(), false).await?;
                }
                let closed = Arc::default();
                Ok(SharedSpool::new(Defective { inner, defect, closed, shared }))
            }
        };
        Ok(Place::new(open).with_clock(clock))
    })
    .offering([Need::Clock, Need::SecondOpen])
}

impl Defective {
    fn alive(&self) -> Result<(), SpoolError> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(SpoolError::ShuttingDown { effect: Effect::NotApplied });
        }
        Ok(())
    }
}

impl Spool for Defective {
    async fn load(&self, id: SpoolId) -> Result<Bytes, SpoolError> {
        self.alive()?;
        let data = self.inner.load(id).await?;
        if data.is_empty() && self.defect == Defect::TakesEmptyForMissing {
            return Err(SpoolError::NotFound { id });
        }
        Ok(data)
    }

    async fn load_many(&self, ids: &[SpoolId]) -> Vec<Result<Bytes, SpoolError>> {
        let mut answers = Vec::new();
        for id in ids {
            answers.push(self.load(*id).await);
        }
        answers
    }

    async fn store(
        &self,
        id: SpoolId,
        data: Bytes,
        force_sync: bool,
        deadline: Option<Instant>,
    ) -> Result<(), SpoolError> {
        self.store_many(vec![(id, data)], force_sync, deadline).await
    }

    async fn store_many(
        &self,
        entries: Vec<(SpoolId, Bytes)>,
        force_sync: bool,
        deadline: Option<Instant>,
    ) -> Result<(), SpoolError> {
        if self.defect != Defect::AcceptsStoresAfterShutdown {
            self.alive()?;
        }
        let number = self.shared.stores.fetch_add(1, Ordering::SeqCst);
        if self.defect == Defect::DropsAStore && number % 16 == 15 {
            return Ok(());
        }
        if !force_sync {
            let ids = entries.iter().map(|(id, _)| *id);
            self.shared.unsynced.lock().unwrap().extend(ids);
        }
        let deadline = deadline.filter(|_| self.defect != Defect::IgnoresDeadlines);
        self.inner.store_many(entries, force_sync, deadline).await
    }

    async fn remove(&self, id: SpoolId) -> Result<(), SpoolError> {
        self.remove_many(vec![id], false).await
    }

    async fn remove_durable(&self, id: SpoolId) -> Result<(), SpoolError> {
        self.remove_many(vec![id], true).await
    }

    async fn remove_many(&self, ids: Vec<SpoolId>, durable: bool) -> Result<(), SpoolError> {
        self.alive()?;
        for id in &ids {
            match self.inner.load(*id).await {
                Ok(data) => {
                    self.shared.removed.lock().unwrap().insert(*id, data);
                }
                Err(error) if self.defect == Defect::FailsToRemoveTwice => return Err(error),
                Err(_) => {}
            }
        }
        self.inner.remove_many(ids, durable).await
    }

    fn enumerate(
        &self,
        sender: SpoolSender,
        start_time: Timestamp,
    ) -> Result<EnumerateHandle, SpoolError> {
        self.alive()?;
        if !matches!(self.defect, Defect::EnumeratesTwice | Defect::CallsAnAbortComplete) {
            return self.inner.enumerate(sender, start_time);
        }
        let (inner_sender, mut receiver) = channel(1);
        let inner = self.inner.enumerate(inner_sender, start_time)?;
        drop(inner);
        let (handle, mut report) = EnumerateHandle::pair();
        let twice = self.defect == Defect::EnumeratesTwice;
        std::thread::spawn(move || {
            while let Some(SpoolEntry::Item { id, data }) = receiver.recv_blocking() {
                for _ in 0..=usize::from(twice && id.as_bytes()[15].is_multiple_of(2)) {
                    report.item(u64::try_from(data.len()).unwrap_or(0));
                    let _ = sender.send_blocking(SpoolEntry::Item { id, data: data.clone() });
                }
            }
            report.complete();
        });
        Ok(handle)
    }

    fn list(
        &self,
        sender: ListingSender,
        start_time: Timestamp,
    ) -> Result<EnumerateHandle, SpoolError> {
        self.alive()?;
        let nothing = self.defect == Defect::ListsNothing;
        self.inner.list(sender, if nothing { Timestamp::EPOCH } else { start_time })
    }

    async fn cleanup(&self) -> Result<(), SpoolError> {
        self.alive()
    }

    async fn shutdown(&self) -> Result<(), SpoolError> {
        if !self.closed.swap(true, Ordering::SeqCst) {
            self.shared.open.store(false, Ordering::SeqCst);
        }
        Ok(())
    }

    async fn advise_low_memory(&self) -> Result<isize, SpoolError> {
        self.alive().map(|()| 0)
    }

    async fn compact(&self) -> Result<(), SpoolError> {
        if self.defect == Defect::BringsBackWhatWasRemoved {
            let removed: Vec<_> = self.shared.removed.lock().unwrap().drain().collect();
            self.inner.store_many(removed, false, None).await?;
        }
        Ok(())
    }

    fn unhealthy_reason(&self) -> Option<&'static str> {
        (self.defect == Defect::IsNeverHealthy).then_some("out of sorts")
    }

    async fn acknowledge(&self) -> Result<Vec<String>, SpoolError> {
        self.alive().map(|()| Vec::new())
    }

    async fn stats(&self) -> Result<SpoolStats, SpoolError> {
        self.alive()?;
        self.inner.stats().await
    }

    fn durability(&self) -> Durability {
        self.inner.durability()
    }
}

/// The subject with what a reopening needs; the reference itself sends nothing "there at open".
fn reopenable(defect: Defect) -> Subject<SharedSpool> {
    subject(defect).offering([Need::Reopen])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_defect_every_law_is_kept() {
    assert_eq!(broken(&subject(Defect::None)).await, Vec::<&str>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_store_is_caught() {
    let laws = [
        "a_stored_payload_is_loaded_byte_for_byte",
        "callers_with_ids_of_their_own_do_not_disturb_one_another",
        "any_sequence_of_calls_agrees_with_the_reference",
    ];
    is_caught_by(subject(Defect::DropsAStore), &laws).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_tail_is_caught() {
    let laws = [
        "a_clean_shutdown_loses_nothing",
        "the_statistics_survive_a_reopening",
        "any_sequence_with_reopenings_agrees_with_the_reference",
    ];
    is_caught_by(reopenable(Defect::LosesTheTail), &laws).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ignored_deadline_is_caught() {
    let laws = ["a_past_deadline_writes_nothing", "a_past_deadline_keeps_the_old_payload"];
    is_caught_by(subject(Defect::IgnoresDeadlines), &laws).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_payload_taken_for_missing_is_caught() {
    let laws = ["an_empty_payload_is_not_a_missing_one"];
    is_caught_by(subject(Defect::TakesEmptyForMissing), &laws).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_remove_that_fails_the_second_time_is_caught() {
    is_caught_by(subject(Defect::FailsToRemoveTwice), &["removing_a_missing_id_is_ok"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_comes_twice_is_caught() {
    let laws = ["every_live_entry_comes_exactly_once"];
    is_caught_by(subject(Defect::EnumeratesTwice), &laws).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abort_that_is_called_complete_is_caught() {
    let laws = ["a_dropped_receiver_aborts_the_enumeration"];
    is_caught_by(subject(Defect::CallsAnAbortComplete), &laws).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_that_never_opens_is_caught() {
    is_caught_by(subject(Defect::IsNeverHealthy), &["a_working_spool_is_healthy"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compaction_that_brings_entries_back_is_caught() {
    let laws = ["maintenance_loses_nothing_and_brings_nothing_back"];
    is_caught_by(subject(Defect::BringsBackWhatWasRemoved), &laws).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listing_without_entries_is_caught() {
    let laws = ["a_listing_gives_the_size_of_every_payload"];
    is_caught_by(subject(Defect::ListsNothing), &laws).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_after_the_shutdown_is_caught() {
    let laws = ["calls_after_a_shutdown_are_refused"];
    is_caught_by(subject(Defect::AcceptsStoresAfterShutdown), &laws).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_opening_that_succeeds_is_caught() {
    let laws = ["a_second_opening_fails_and_changes_nothing"];
    is_caught_by(subject(Defect::OpensTwice), &laws).await;
}
