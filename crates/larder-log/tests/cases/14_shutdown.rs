//! Everybody is answered at the end, and the mark of a clean end is believed only at its end.

use std::path::Path;

use larder_log::sim::SimDisk;
use larder_log::{Batch, Durability, Effect, SubmitError, Ticket};

use crate::sim_log::{DIR, failure, is_done, open, put, settle, slot};

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
