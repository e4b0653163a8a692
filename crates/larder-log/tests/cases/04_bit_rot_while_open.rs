//! Rot under a running log is never served, and never copied as if it were sound.

use std::path::Path;

use larder_log::sim::SimDisk;
use larder_log::{CompactMode, Durability, ReadError};

use crate::sim_log::{DIR, delete, open, put, segment, settle, slot};

#[test]
fn read_error_is_not_corruption() {
    let disk = SimDisk::new(3);
    let (log, mut committer) = open(&disk);
    put(&log, 1, 100, Durability::Power);
    settle(&mut committer);
    disk.fail_reads(1);
    assert!(matches!(log.get(slot(1)), Err(ReadError::Io { .. })));
    assert_eq!(log.damaged(1), vec![]);
    assert!(log.get(slot(1)).unwrap().is_some());
}

#[test]
fn rot_under_a_running_log_is_never_served_and_never_copied_as_sound() {
    let disk = SimDisk::new(4);
    let (log, mut committer) = open(&disk);
    for n in 0..12 {
        put(&log, n, 1000, Durability::Power);
    }
    delete(&log, 0);
    settle(&mut committer);
    let file = Path::new(DIR).join("seg-0000000000000001.log");
    disk.tamper(&file, |bytes| {
        let at = bytes.windows(1000).position(|window| window == [5; 1000]).unwrap();
        bytes[at + 500] ^= 0x40;
    });
    let error = committer.compact(CompactMode::Full).unwrap_err();
    assert!(matches!(error, larder_log::Error::Corrupt { entries: 1, segment: 1 }), "{error}");
    assert!(matches!(log.get(slot(5)), Err(ReadError::Corrupt { .. })));
    assert_eq!(log.get(slot(6)).unwrap().unwrap(), vec![6; 1000]);
    assert_eq!(log.damaged(1).len(), 1);
    assert_eq!(log.unhealthy_reason(), None);
    // Once it is removed the segment can go, but its bytes are kept aside.
    delete(&log, 5);
    settle(&mut committer);
    committer.compact(CompactMode::Full).unwrap();
    assert!(disk.read(&Path::new(DIR).join("quarantine/seg-0000000000000001.log")).is_some());
    assert!(disk.read(&file).is_none());
    assert_eq!(log.get(slot(6)).unwrap().unwrap(), vec![6; 1000]);
}

#[test]
fn rotten_delete_does_not_hold_up_the_reclaiming_of_other_segments() {
    let disk = SimDisk::new(23);
    let (log, mut committer) = open(&disk);
    // The first segment holds what the delete in the second one is about.
    for n in 0..11 {
        put(&log, n, 1000, Durability::Power);
    }
    settle(&mut committer);
    put(&log, 20, 5000, Durability::Power);
    delete(&log, 0);
    settle(&mut committer);
    for _ in 0..6 {
        put(&log, 20, 3000, Durability::Power);
        settle(&mut committer);
    }
    disk.tamper(&segment(2), |bytes| {
        let is_delete = |at: &usize| bytes[at + 4] == 2 && bytes[at + 24..at + 40] == [0; 16];
        let at = (4096..bytes.len() - 48).step_by(8).find(is_delete).unwrap();
        bytes[at + 40] ^= 1;
    });
    for _ in 0..4 {
        committer.compact(CompactMode::Step).unwrap();
    }
    assert!(disk.read(&segment(3)).is_none(), "the others are reclaimed");
    assert_eq!(log.unhealthy_reason(), None);
    drop((committer, log));
    let (log, _committer) = open(&disk.crash(1));
    assert_eq!(log.get(slot(0)).unwrap(), None);
    assert_eq!(log.recovery().entries, 11);
}
