//! A full disk refuses, can be emptied, and is forgotten as soon as there is room. On a real file
//! system: `tests/mounted`.

use std::path::Path;

use larder_log::sim::SimDisk;
use larder_log::{Committer, CompactMode, Durability, WriteError};

use crate::sim_log::{DIR, delete, failure, is_done, open, put, segment, settle, slot};

#[test]
fn full_disk_refuses_puts_and_takes_deletes_and_recovers_by_itself() {
    let disk = SimDisk::new(2);
    let (log, mut committer) = open(&disk);
    for n in 0..10 {
        put(&log, n, 1000, Durability::Power);
    }
    settle(&mut committer);
    disk.set_full(true);
    let mut refused = 0;
    for n in 10..40 {
        let ticket = put(&log, n, 1000, Durability::Power);
        settle(&mut committer);
        if !is_done(&ticket) {
            assert!(matches!(*failure(&ticket), WriteError::NoSpace));
            assert_eq!(log.get(slot(n)).unwrap(), None);
            refused += 1;
        }
    }
    assert!(refused > 20, "{refused}");
    let deleted = delete(&log, 3);
    let (mixed_put, mixed_delete) = (put(&log, 99, 1000, Durability::Power), delete(&log, 4));
    settle(&mut committer);
    assert!(is_done(&deleted) && is_done(&mixed_delete));
    assert!(matches!(*failure(&mixed_put), WriteError::NoSpace));
    assert_eq!(log.unhealthy_reason(), None);
    disk.set_full(false);
    let again = put(&log, 50, 1000, Durability::Power);
    settle(&mut committer);
    assert!(is_done(&again));
    drop((committer, log));
    let (log, _committer) = open(&disk.crash(1));
    assert_eq!(log.damaged(1), vec![]);
    for n in [3, 4, 39, 99] {
        assert_eq!(log.get(slot(n)).unwrap(), None, "{n}");
    }
    for n in [0, 1, 2, 5, 9, 50] {
        assert_eq!(log.get(slot(n)).unwrap().unwrap(), vec![n; 1000]);
    }
}

#[test]
fn full_disk_is_emptied_by_deleting_and_compacting() {
    let disk = SimDisk::new(21);
    let (log, mut committer) = open(&disk);
    for n in 0..60 {
        put(&log, n, 900, Durability::Power);
        settle(&mut committer);
    }
    disk.set_capacity(disk.used());
    let refused = put(&log, 100, 9000, Durability::Power);
    settle(&mut committer);
    assert!(matches!(*failure(&refused), WriteError::NoSpace));
    for n in 0..50 {
        let mut ticket = delete(&log, n);
        settle(&mut committer);
        if !is_done(&ticket) {
            // What deletes may use is used up; what is dead by now makes room for more.
            let report = committer.compact(CompactMode::Full).unwrap();
            assert!(report.removed_segments > 2, "{report:?}");
            ticket = delete(&log, n);
            settle(&mut committer);
        }
        assert!(is_done(&ticket), "{n}");
    }
    committer.compact(CompactMode::Full).unwrap();
    assert!(log.stats().segments < 4, "{:?}", log.stats());
    let accepted = put(&log, 100, 9000, Durability::Power);
    settle(&mut committer);
    assert!(is_done(&accepted));
    drop((committer, log));
    let (log, _committer) = open(&disk.crash(1));
    assert_eq!(log.recovery().entries, 11);
}

#[test]
fn refused_puts_use_up_neither_segment_ids_nor_room_in_the_manifest() {
    let disk = SimDisk::new(22);
    let (log, mut committer) = open(&disk);
    put(&log, 1, 9000, Durability::Power);
    settle(&mut committer);
    let manifest = Path::new(DIR).join("MANIFEST");
    let before = disk.read(&manifest).unwrap().len();
    let refuse = |committer: &mut Committer| {
        for _ in 0..100 {
            let refused = put(&log, 2, 9000, Durability::Power);
            settle(committer);
            assert!(matches!(*failure(&refused), WriteError::NoSpace));
        }
    };
    // First there is no room for a name, then none for what the file should hold.
    disk.set_full(true);
    refuse(&mut committer);
    disk.set_full(false);
    disk.set_capacity(disk.used());
    refuse(&mut committer);
    disk.set_capacity(u64::MAX);
    let accepted = put(&log, 2, 9000, Durability::Power);
    settle(&mut committer);
    assert!(is_done(&accepted));
    assert!(disk.read(&segment(2)).is_some(), "{:?}", disk.files(Path::new(DIR)));
    assert_eq!(disk.read(&manifest).unwrap().len(), before + 48, "one more segment, no more");
    drop((committer, log));
    let (log, _committer) = open(&disk.crash(1));
    assert_eq!(log.recovery().entries, 2);
}

#[test]
fn a_log_that_was_killed_on_a_full_disk_opens_again() {
    let disk = SimDisk::new(22);
    let (log, mut committer) = open(&disk);
    for n in 0..20 {
        put(&log, n, 900, Durability::Power);
        settle(&mut committer);
    }
    // Killed, not shut down: what was written stays, and somebody else takes the last block. Again and
    // again, and each death leaves a segment behind.
    let mut disk = disk;
    let mut open_log = (log, committer);
    for life in 0..15 {
        let killed = disk.kill(1);
        drop(open_log);
        killed.set_capacity(killed.used());
        let (log, mut committer) = open(&killed);
        for n in life..20 {
            assert_eq!(log.get(slot(n)).unwrap().unwrap().len(), 900, "{n}");
        }
        // Deletes have to find room as well: they are the way out.
        let ticket = delete(&log, life);
        settle(&mut committer);
        assert!(is_done(&ticket), "{life}: {:?}", ticket.outcome());
        disk = killed;
        open_log = (log, committer);
    }
    let (log, mut committer) = open_log;
    committer.compact(CompactMode::Full).unwrap();
    let accepted = put(&log, 100, 900, Durability::Power);
    settle(&mut committer);
    assert!(is_done(&accepted), "{:?}", accepted.outcome());
}
