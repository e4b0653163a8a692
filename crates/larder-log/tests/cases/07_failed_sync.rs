//! A sync that failed once is never believed again.

use larder_log::sim::{Fault, SimDisk};
use larder_log::{Batch, Durability, Effect, SubmitError};

use crate::sim_log::{failure, is_done, open, put, settle, slot};

#[test]
fn failed_sync_poisons_the_log_and_is_never_tried_again() {
    let disk = SimDisk::new(1);
    let (log, mut committer) = open(&disk);
    let before = put(&log, 1, 100, Durability::Power);
    settle(&mut committer);
    assert!(is_done(&before));
    let failing = put(&log, 2, 100, Durability::Power);
    let also = put(&log, 3, 100, Durability::Process);
    // Reservation is done; the group is one write and one sync.
    disk.plan(disk.steps() + 1, Fault::SyncError { lost: false });
    settle(&mut committer);
    for ticket in [&failing, &also] {
        assert_eq!(failure(ticket).effect(), Effect::Unknown);
    }
    assert!(log.unhealthy_reason().is_some());
    assert!(log.acknowledge().is_err());
    assert_eq!(log.get(slot(1)).unwrap().unwrap(), vec![1; 100]);
    assert_eq!(log.get(slot(2)).unwrap(), None);
    let steps = disk.steps();
    let mut batch = Batch::new();
    batch.delete(slot(1));
    assert!(matches!(log.submit(batch, Durability::Power), Err(SubmitError::Unhealthy(_))));
    let sync = log.sync();
    settle(&mut committer);
    assert_eq!(failure(&sync).effect(), Effect::NotApplied);
    assert_eq!(disk.steps(), steps, "a poisoned log touched the disk");
    drop((committer, log));
    // The process starts again and reads its page cache: what it shows must then be durable.
    let (log, committer) = open(&disk);
    assert!(!log.recovery().clean);
    let seen = log.get(slot(2)).unwrap();
    drop((committer, log));
    let (log, _committer) = open(&disk.crash(7));
    assert_eq!(log.get(slot(2)).unwrap(), seen);
    assert_eq!(log.get(slot(1)).unwrap().unwrap(), vec![1; 100]);
}

/// The disk begins with the first pieces of a long group before the sync: what it says of them there
/// it will not say again.
#[test]
fn an_error_of_pieces_that_the_disk_began_with_is_a_failed_sync() {
    let mut failed = 0;
    for step in 0..20 {
        let disk = SimDisk::new(step);
        let (log, mut committer) = open(&disk);
        let before = put(&log, 1, 100, Durability::Power);
        settle(&mut committer);
        assert!(is_done(&before));
        let split = put(&log, 2, 9_000, Durability::Power);
        disk.plan(disk.steps() + step, Fault::SyncError { lost: true });
        settle(&mut committer);
        if is_done(&split) {
            continue;
        }
        failed += 1;
        assert_eq!(failure(&split).effect(), Effect::Unknown);
        assert!(log.unhealthy_reason().is_some());
        drop((committer, log));
        let (log, committer) = open(&disk);
        let seen = log.get(slot(2)).unwrap();
        drop((committer, log));
        let (log, _committer) = open(&disk.crash(7));
        assert_eq!(log.get(slot(2)).unwrap(), seen, "step {step}");
        assert_eq!(log.get(slot(1)).unwrap().unwrap(), vec![1; 100]);
    }
    // Two beginnings and the sync; the group fits, so no other file is synced.
    assert_eq!(failed, 3);
}
