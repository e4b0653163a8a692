//! The last room on a disk: who gets it, and that deletes always find some.

use larder_log::sim::SimDisk;
use larder_log::{CompactMode, LogOptions, WriteError};

use super::{delete, failure, is_done, open, options, put, settle};

#[test]
fn deletes_find_room_when_the_disk_was_filled_after_a_clean_shut_down() {
    let disk = SimDisk::new(3);
    let options = LogOptions { segment_bytes: 128 << 10, ..options() };
    let (log, mut committer) = open(&disk, options.clone());
    for n in 0..60 {
        put(&log, n, 9000);
        settle(&mut committer);
    }
    drop(log.shutdown());
    settle(&mut committer);
    drop((committer, log));
    // Somebody else takes every block that is left.
    disk.set_capacity(disk.used());
    let (log, mut committer) = open(&disk, options.clone());
    assert!(log.recovery().clean);
    let refused = put(&log, 100, 20_000);
    settle(&mut committer);
    assert!(matches!(*failure(&refused), WriteError::NoSpace));
    for n in 0..50 {
        let mut ticket = delete(&log, n);
        settle(&mut committer);
        if !is_done(&ticket) {
            // What is dead as a whole goes; there may be no room to copy anything.
            let before = log.stats().segments;
            let compacted = committer.compact(CompactMode::Step);
            assert!(log.stats().segments < before, "{n}: {compacted:?}");
            ticket = delete(&log, n);
            settle(&mut committer);
        }
        assert!(is_done(&ticket), "{n}: {:?}", ticket.outcome());
    }
    let accepted = put(&log, 100, 20_000);
    settle(&mut committer);
    assert!(is_done(&accepted), "{:?}", accepted.outcome());
    drop((committer, log));
    let (log, _committer) = open(&disk.crash(1), options);
    assert_eq!((log.recovery().entries, log.damaged(1)), (11, vec![]));
}

#[test]
fn puts_use_the_disk_to_its_last_blocks_and_leave_deletes_theirs() {
    let disk = SimDisk::new(4);
    let large = LogOptions { segment_bytes: 64 << 20, ..options() };
    let (log, mut committer) = open(&disk, large.clone());
    let first = put(&log, 0, 1000);
    settle(&mut committer);
    assert!(is_done(&first));
    // Room for less than one more step of reserved blocks.
    let room = 1 << 20;
    disk.set_capacity(disk.used() + room);
    let mut stored = 0;
    loop {
        let ticket = put(&log, 1, 60_000);
        settle(&mut committer);
        if !is_done(&ticket) {
            assert!(matches!(*failure(&ticket), WriteError::NoSpace));
            break;
        }
        stored += 60_000;
    }
    // All but what is kept for the manifest and for deletes, and less than one more group.
    assert!(stored > (4 << 20) + room - 3 * (256 << 10), "{stored}");
    for _ in 0..1000 {
        let removed = delete(&log, 1);
        settle(&mut committer);
        assert!(is_done(&removed), "{:?}", removed.outcome());
        let small = put(&log, 1, 0);
        settle(&mut committer);
        if !is_done(&small) {
            break;
        }
    }
    let removed = delete(&log, 0);
    settle(&mut committer);
    assert!(is_done(&removed), "{:?}", removed.outcome());
    drop(log.shutdown());
    settle(&mut committer);
    drop((committer, log));
    let (log, _committer) = open(&disk, large);
    assert!(log.recovery().clean);
}
