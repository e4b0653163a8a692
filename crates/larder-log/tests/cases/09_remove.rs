//! What was removed stays removed, whichever file dies first.

use larder_log::sim::SimDisk;
use larder_log::{CompactMode, Durability};

use crate::sim_log::{delete, disk_copy, is_done, open, put, settle, slot};

#[test]
fn deleting_what_is_not_there_writes_nothing() {
    let disk = SimDisk::new(16);
    let (log, mut committer) = open(&disk);
    let steps = disk.steps();
    let ticket = delete(&log, 1);
    settle(&mut committer);
    assert!(is_done(&ticket));
    assert_eq!(disk.steps(), steps);
    // But a put that is still queued is deleted.
    put(&log, 1, 10, Durability::Power);
    let ticket = delete(&log, 1);
    settle(&mut committer);
    assert!(is_done(&ticket));
    assert_eq!(log.get(slot(1)).unwrap(), None);
}

#[test]
fn deleted_entry_stays_deleted_whichever_segment_dies_first() {
    let disk = SimDisk::new(12);
    let (log, mut committer) = open(&disk);
    // Two versions and a delete, each in a segment of its own, with live neighbours.
    for round in 0..3 {
        if round < 2 {
            put(&log, 1, 500 + round, Durability::Power);
        } else {
            delete(&log, 1);
        }
        put(&log, 100 + u8::try_from(round).unwrap(), 9000, Durability::Power);
        put(&log, 110 + u8::try_from(round).unwrap(), 9000, Durability::Power);
        settle(&mut committer);
    }
    for n in [101, 111, 102, 112, 100, 110] {
        delete(&log, n);
        settle(&mut committer);
        committer.compact(CompactMode::Step).unwrap();
        committer.compact(CompactMode::Step).unwrap();
        for seed in 0..4 {
            // A copy of the disk at this moment, read by another process.
            let (again, mut other) = open(&disk_copy(&disk, seed));
            assert_eq!(again.get(slot(1)).unwrap(), None, "after {n}");
            other.compact(CompactMode::Full).unwrap();
            assert_eq!(again.get(slot(1)).unwrap(), None, "after {n}");
        }
    }
}

#[test]
fn full_compaction_leaves_no_dead_bytes_and_no_needless_deletes() {
    let disk = SimDisk::new(13);
    let (log, mut committer) = open(&disk);
    for n in 0..100 {
        put(&log, n, 900, Durability::Process);
        settle(&mut committer);
    }
    // One survivor from the very beginning must not keep the deletes of the others alive.
    for n in 1..100 {
        delete(&log, n);
        settle(&mut committer);
    }
    committer.compact(CompactMode::Full).unwrap();
    committer.compact(CompactMode::Full).unwrap();
    let stats = log.stats();
    assert!(stats.segments <= 3 && stats.disk_bytes < 3 * 4096 + 2500, "{stats:?}");
    assert_eq!(log.get(slot(0)).unwrap().unwrap(), vec![0; 900]);
    drop((committer, log));
    let (log, _committer) = open(&disk.crash(5));
    assert_eq!(log.recovery().entries, 1);
}
