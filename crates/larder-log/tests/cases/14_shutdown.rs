//! Everybody is answered at the end, and the mark of a clean end is believed only at its end.

use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use larder_log::sim::SimDisk;
use larder_log::{
    Batch, Committer, Durability, Effect, Log, LogOptions, Next, SubmitError, Ticket, WriteError,
};

use crate::sim_log::{DIR, delete, failure, is_done, open, options, put, settle, slot};

#[test]
fn shut_down_answers_everything_that_was_submitted() {
    let disk = SimDisk::new(5);
    let (log, mut committer) = open(&disk);
    let tickets: Vec<Ticket> = (0..50).map(|n| put(&log, n, 300, Durability::Power)).collect();
    let first = log.shutdown();
    let second = log.shutdown();
    let mut batch = Batch::new();
    batch.delete(slot(1));
    assert_eq!(log.submit(batch, Durability::Power).unwrap_err(), SubmitError::Closed);
    settle(&mut committer);
    assert!(tickets.iter().all(is_done) && is_done(&first) && is_done(&second));
    assert!(is_done(&log.shutdown()));
    drop((committer, log));
    let (log, _committer) = open(&disk.crash(3));
    assert!(log.recovery().clean);
    assert_eq!(log.recovery().entries, 50);
}

#[test]
fn committer_that_ends_early_leaves_nobody_waiting() {
    let disk = SimDisk::new(6);
    let (log, committer) = open(&disk);
    let ticket = put(&log, 1, 10, Durability::Power);
    let (sync, shutdown) = (log.sync(), log.shutdown());
    drop(committer);
    for ticket in [&ticket, &sync, &shutdown] {
        assert_eq!(failure(ticket).effect(), Effect::NotApplied);
    }
    assert!(is_done(&log.shutdown()));
}

#[test]
fn mark_of_a_clean_end_next_to_later_writes_is_not_believed() {
    let manifest = Path::new(DIR).join("MANIFEST");
    for seed in 0..20 {
        let disk = SimDisk::new(seed);
        let (log, mut committer) = open(&disk);
        put(&log, 1, 300, Durability::Power);
        drop(log.shutdown());
        settle(&mut committer);
        drop((committer, log));
        let clean = disk.read(&manifest).unwrap();
        let (log, mut committer) = open(&disk);
        assert!(log.recovery().clean);
        put(&log, 2, 300, Durability::Power);
        settle(&mut committer);
        drop((committer, log));
        // The old manifest comes back, as from a copy that somebody kept.
        let disk = disk.kill(seed);
        disk.tamper(&manifest, |bytes| *bytes = clean);
        let (log, _committer) = open(&disk);
        assert!(!log.recovery().clean, "{seed}");
        for n in 1..3 {
            assert_eq!(log.get(slot(n)).unwrap().unwrap(), vec![n; 300], "{seed}");
        }
    }
}

#[test]
fn power_that_fails_right_after_a_clean_end_changes_nothing() {
    for seed in 0..50 {
        let disk = SimDisk::new(seed);
        let (log, mut committer) = open(&disk);
        for n in 0..40 {
            put(&log, n, 900, Durability::Process);
        }
        let done = log.shutdown();
        settle(&mut committer);
        assert!(is_done(&done));
        drop((committer, log));
        let (log, _committer) = open(&disk.crash(seed));
        assert!(log.recovery().clean, "{seed}");
        assert_eq!((log.recovery().entries, log.damaged(1)), (40, vec![]), "{seed}");
    }
}

/// Gives a batch up when it is woken; by then the disk is full.
struct GiveUp {
    ticket: Ticket,
    fill: Box<dyn Fn() + Send + Sync>,
}

impl Wake for GiveUp {
    fn wake(self: Arc<Self>) {
        (self.fill)();
        self.ticket.annul();
    }
}

fn open_as(disk: &SimDisk, preallocate: bool) -> (Log, Committer) {
    let options = LogOptions { preallocate, ..options() };
    Log::open_stepped(Arc::new(disk.clone()), Path::new(DIR), options).unwrap()
}

/// Of 60 entries so many are deleted on a full disk. Then the delete of 1 (and, where nothing is
/// reserved, the put of 2) is given up while it is being written, and the log is shut down. `None`
/// when there was no room for that either.
fn give_up_and_close(
    disk: &SimDisk,
    preallocate: bool,
    gone: u8,
    fill: impl Fn() + Send + Sync + 'static,
) -> Option<Ticket> {
    let (log, mut committer) = open_as(disk, preallocate);
    for n in 0..60 {
        put(&log, n, 100, Durability::Power);
        settle(&mut committer);
    }
    if preallocate {
        fill();
    }
    for n in 60 - gone..60 {
        delete(&log, n);
        settle(&mut committer);
    }
    let mut first = pin!(delete(&log, 0));
    let mut batch = Batch::new();
    batch.delete(slot(1));
    if !preallocate {
        batch.put(slot(2), vec![99; 100].into());
    }
    let ticket = log.submit(batch, Durability::Power).unwrap();
    let waker = Waker::from(Arc::new(GiveUp { ticket, fill: Box::new(fill) }));
    assert!(first.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    let end = log.shutdown();
    settle(&mut committer);
    for n in 1..3 {
        assert!(log.contains(slot(n)), "it was given up: {n}");
    }
    is_done(&first).then_some(end)
}

#[test]
fn what_was_given_up_on_a_full_disk_is_still_given_up_after_the_end() {
    // Further and further into the room that deletes have, and where nothing is reserved at all.
    let mut refused = 0;
    for (gone, preallocate) in (0..50).map(|gone| (gone, true)).chain([(0, false)]) {
        let disk = SimDisk::new(7);
        let full = disk.clone();
        let end = give_up_and_close(&disk, preallocate, gone, move || {
            if preallocate {
                // No more than the manifest needs: otherwise deletes would get a part of it.
                full.tamper(&Path::new(DIR).join("SPARE"), |bytes| bytes.truncate(64 << 10));
            }
            full.set_capacity(full.used());
        });
        let Some(end) = end else {
            refused += 1;
            continue;
        };
        assert!(is_done(&end), "{:?}", end.outcome());
        // Closed and opened again and again, killed meanwhile, compacted once there is room.
        let mut disk = disk;
        for life in 0..6 {
            disk = if life % 2 == 0 { disk.crash(life) } else { disk.kill(life) };
            let entries = larder_log::verify_with(&disk, Path::new(DIR)).unwrap().entries;
            if life > 1 {
                disk.set_capacity(u64::MAX);
            }
            let (log, mut committer) = open_as(&disk, preallocate);
            assert_eq!(log.get(slot(0)).unwrap(), None);
            for n in 1..3 {
                assert_eq!(log.get(slot(n)).unwrap(), Some(vec![n; 100].into()), "{gone} {life}");
            }
            assert_eq!(log.stats().entries, entries);
            if life > 0 {
                disk.set_capacity(u64::MAX);
                put(&log, 60, 9000, Durability::Power);
                settle(&mut committer);
            }
            if life > 3 {
                committer.compact(larder_log::CompactMode::Full).unwrap();
            }
        }
    }
    assert!((1..25).contains(&refused), "the room that deletes have has to be used up: {refused}");
}

#[test]
fn shut_down_says_so_when_nothing_can_note_what_was_given_up() {
    let disk = SimDisk::new(8);
    let full = disk.clone();
    let end = give_up_and_close(&disk, false, 0, move || full.set_full(true));
    let error = failure(&end.unwrap());
    assert!(matches!(*error, WriteError::NotCancelled { batches: 1, .. }), "{error}");
    assert_eq!(error.effect(), Effect::Unknown);
    // The log is closed all the same.
    disk.set_full(false);
    let (log, _committer) = open(&disk);
    assert_eq!(log.get(slot(0)).unwrap(), None);
    assert_eq!(log.get(slot(3)).unwrap(), Some(vec![3; 100].into()));
}

#[test]
fn what_cannot_be_cancelled_on_a_full_disk_keeps_nothing_from_being_synced() {
    let disk = SimDisk::new(9);
    let (log, mut committer) = open_as(&disk, false);
    let mut first = pin!(put(&log, 1, 100, Durability::Process));
    let ticket = put(&log, 2, 100, Durability::Process);
    let full = disk.clone();
    let waker =
        Waker::from(Arc::new(GiveUp { ticket, fill: Box::new(move || full.set_full(true)) }));
    assert!(first.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    assert_eq!(committer.step(Duration::ZERO), Next::Again);
    assert!(is_done(&first));
    let interval = log.options().sync_interval;
    assert!(matches!(committer.step(Duration::ZERO), Next::Wait(Some(wait)) if wait <= interval));
    committer.step(interval);
    let (log, _committer) = {
        drop((committer, log));
        open_as(&disk.crash(1), false)
    };
    assert_eq!(log.get(slot(1)).unwrap(), Some(vec![1; 100].into()));
}
