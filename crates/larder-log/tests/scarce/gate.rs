//! The gate of a log that is stepped: what closes it, what passes meanwhile, what opens it again.

use std::sync::Arc;
use std::time::Duration;

use larder_log::sim::SimDisk;
use larder_log::{
    Batch, Committer, DiskIo, Durability, Error, FreeLimit, HealthState, Log, LogOptions, Next,
    ReadError, Reason, Space, SubmitError, WriteError,
};

use super::disk::Scarce;
use super::{delete, failure, is_done, open, options, put, settle, slot};

const SECOND: Duration = Duration::from_secs(1);

fn refused(log: &Log) -> SubmitError {
    let mut batch = Batch::new();
    batch.put(slot(200), "x".into());
    log.submit(batch, Durability::Power).unwrap_err()
}

/// Everything but puts goes on behind a closed gate.
fn serves_the_rest(log: &Log, committer: &mut Committer, there: u8, gone: u8) {
    assert_eq!(log.get(slot(there)).unwrap().unwrap()[0], there);
    assert!(log.snapshot(1).iter().any(|entry| entry.slot == slot(there)));
    let removed = delete(log, gone);
    settle(committer);
    assert!(is_done(&removed));
    assert_eq!(log.get(slot(gone)).unwrap(), None);
}

fn watch(committer: &Committer, seconds: std::ops::Range<u32>) {
    for second in seconds {
        committer.watch(second * SECOND);
    }
}

#[test]
fn low_space_refuses_puts_alone_and_ends_with_a_margin() {
    let io = Scarce::new(SimDisk::new(1));
    let space = Space { total_bytes: 1000, free_bytes: 100, total_inodes: 50, free_inodes: 9 };
    io.tell(space);
    let min_free_space = FreeLimit::Percent(10);
    let (log, mut committer) = open(&io, LogOptions { min_free_space, ..options() });
    for n in 0..4 {
        put(&log, n, 100);
    }
    settle(&mut committer);
    committer.watch(SECOND);
    assert_eq!(log.gate(), None);
    io.tell(Space { free_bytes: 99, ..space });
    committer.watch(2 * SECOND);
    assert_eq!(log.gate(), None, "the file system is not asked at every look");
    committer.watch(3 * SECOND);
    assert_eq!(log.gate(), Some(Reason::LowSpace));
    assert_eq!(refused(&log), SubmitError::NoSpace("too little space is free"));
    serves_the_rest(&log, &mut committer, 1, 2);
    io.tell(Space { free_bytes: 119, ..space });
    watch(&committer, 5..60);
    assert_eq!(log.gate(), Some(Reason::LowSpace), "not before a fifth more is free");
    io.tell(Space { free_bytes: 120, ..space });
    watch(&committer, 60..68);
    assert_eq!(log.gate(), None);
    let report = log.health();
    assert_eq!((report.closings, report.refused), (1, 1));
    assert_eq!(report.space.unwrap().free_bytes, 120);
    let again = put(&log, 9, 100);
    settle(&mut committer);
    assert!(is_done(&again));
}

#[test]
fn low_inodes_are_told_as_such_and_a_file_system_without_them_is_not_full() {
    let io = Scarce::new(SimDisk::new(2));
    let space = Space { total_bytes: 1000, free_bytes: 1000, ..Space::default() };
    io.tell(space);
    let min_free_inodes = FreeLimit::Amount(10);
    let (log, committer) = open(&io, LogOptions { min_free_inodes, ..options() });
    watch(&committer, 0..5);
    assert_eq!(log.gate(), None);
    io.tell(Space { total_inodes: 100, free_inodes: 9, ..space });
    watch(&committer, 5..8);
    assert_eq!(log.gate(), Some(Reason::LowInodes));
    assert_eq!(refused(&log), SubmitError::NoSpace("too few inodes are free"));
}

#[test]
fn a_disk_that_stays_full_closes_the_gate_and_one_with_room_opens_it() {
    let disk = SimDisk::new(3);
    let (log, mut committer) = open(&disk, options());
    for n in 0..4 {
        put(&log, n, 1000);
    }
    settle(&mut committer);
    disk.set_full(true);
    for second in 0..15 {
        let ticket = put(&log, 50, 20_000);
        settle(&mut committer);
        assert!(matches!(*failure(&ticket), WriteError::NoSpace));
        committer.watch(second * SECOND);
        assert_eq!(log.gate(), None, "{second}");
    }
    committer.watch(15 * SECOND);
    assert_eq!(log.gate(), Some(Reason::NoSpace));
    assert!(matches!(refused(&log), SubmitError::NoSpace(_)));
    serves_the_rest(&log, &mut committer, 1, 2);
    disk.set_full(false);
    watch(&committer, 16..40);
    assert_eq!((log.gate(), log.health().state), (None, HealthState::Degraded));
    let again = put(&log, 50, 20_000);
    settle(&mut committer);
    assert!(is_done(&again));
    watch(&committer, 40..60);
    assert_eq!(log.health().state, HealthState::Healthy);
}

#[test]
fn records_that_cannot_be_read_in_several_places_close_the_gate_and_one_does_not() {
    let disk = SimDisk::new(4);
    let (log, mut committer) = open(&disk, options());
    for n in 0..8 {
        put(&log, n, 100);
    }
    settle(&mut committer);
    disk.fail_reads(20);
    for _ in 0..20 {
        assert!(matches!(log.get(slot(1)), Err(ReadError::Io { .. })));
    }
    watch(&committer, 0..100);
    assert_eq!((log.gate(), log.health().read_errors), (None, 20));
    disk.fail_reads(3);
    for n in 2..5 {
        assert!(matches!(log.get(slot(n)), Err(ReadError::Io { .. })));
    }
    committer.watch(100 * SECOND);
    assert_eq!(log.gate(), Some(Reason::ReadErrors));
    serves_the_rest(&log, &mut committer, 3, 4);
    watch(&committer, 101..160);
    assert_eq!(log.gate(), Some(Reason::ReadErrors));
    watch(&committer, 160..166);
    assert_eq!(log.gate(), None);
    assert_eq!(log.damaged(1), vec![], "an error of the system is no damage");
}

/// An enumeration ends at the first record that it cannot read; where several end in different places
/// the device is at fault.
#[test]
fn enumerations_that_cannot_read_in_several_places_close_the_gate() {
    let disk = SimDisk::new(4);
    let (log, mut committer) = open(&disk, options());
    for n in 0..6 {
        // Each is a read of its own.
        put(&log, n, 600_000);
        settle(&mut committer);
    }
    let fail_after = |reads| {
        disk.fail_reads_after(reads, 4);
        let error = log.sweep(1, |_| true).find_map(Result::err);
        disk.fail_reads(0);
        assert!(matches!(error, Some(ReadError::Io { .. })), "{error:?}");
    };
    fail_after(0);
    fail_after(0);
    committer.watch(SECOND);
    assert_eq!((log.gate(), log.health().read_errors), (None, 2));
    fail_after(2);
    fail_after(4);
    committer.watch(2 * SECOND);
    assert_eq!((log.gate(), log.health().read_errors), (Some(Reason::ReadErrors), 4));
    assert_eq!(log.sweep(1, |_| true).flatten().count(), 6);
    assert_eq!(log.damaged(1), vec![], "an error of the system is no damage");
}

#[test]
fn a_lasting_backlog_sheds_and_one_slow_put_does_not() {
    let disk = SimDisk::new(5);
    let (log, mut committer) = open(&disk, options());
    // The committer stands still, as with a disk that answers nothing.
    let slow = put(&log, 1, 100);
    watch(&committer, 0..100);
    assert_eq!(log.health().state, HealthState::Healthy);
    let second = put(&log, 2, 100);
    watch(&committer, 100..106);
    assert_eq!(log.health().state, HealthState::Degraded);
    watch(&committer, 106..120);
    assert_eq!(log.gate(), None);
    committer.watch(120 * SECOND);
    assert_eq!(log.gate(), Some(Reason::Backlog));
    assert!(matches!(refused(&log), SubmitError::Unhealthy("writes wait too long")));
    // Giving up does not make the disk any faster.
    slow.annul();
    committer.watch(121 * SECOND);
    assert_eq!(log.gate(), Some(Reason::Backlog));
    settle(&mut committer);
    assert!(is_done(&second));
    watch(&committer, 122..128);
    assert_eq!(log.gate(), None);
    watch(&committer, 128..160);
    assert_eq!(log.health().state, HealthState::Healthy);
}

#[test]
fn who_waits_for_the_byte_budget_waits_as_well() {
    let disk = SimDisk::new(6);
    let small = LogOptions { budget_bytes: 4096, ..options() };
    let (log, mut committer) = open(&disk, small);
    let holder = log
        .submit(
            {
                let mut batch = Batch::new();
                batch.put(slot(1), vec![1; 8000].into());
                batch
            },
            Durability::Power,
        )
        .unwrap();
    let mut waits: Vec<_> = (0..2).map(|_| Box::pin(log.admission(100))).collect();
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    for wait in &mut waits {
        assert!(wait.as_mut().poll(&mut context).is_pending());
    }
    watch(&committer, 0..30);
    assert_eq!(log.gate(), Some(Reason::Backlog));
    drop(waits);
    settle(&mut committer);
    assert!(is_done(&holder));
    watch(&committer, 30..36);
    assert_eq!(log.gate(), None);
}

/// Opens a log on the real disk, does something to its files, and looks.
fn displaced(act: impl FnOnce(&std::path::Path)) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let (log, mut committer) =
        Log::open_stepped(Arc::new(DiskIo), &path, LogOptions::default()).unwrap();
    put(&log, 1, 100);
    settle(&mut committer);
    committer.watch(SECOND);
    assert_eq!(log.gate(), None);
    act(&path);
    committer.watch(2 * SECOND);
    assert_eq!(log.gate(), Some(Reason::FolderGone));
    assert!(matches!(refused(&log), SubmitError::Unhealthy(_)));
    let mut batch = Batch::new();
    batch.delete(slot(1));
    assert!(
        matches!(log.submit(batch, Durability::Power), Err(SubmitError::Unhealthy(_))),
        "a delete would be written to a file that is gone"
    );
    assert_eq!(log.get(slot(1)).unwrap().unwrap(), vec![1; 100]);
    assert!(matches!(log.acknowledge(), Err(Error::Unhealthy(_))));
    watch(&committer, 3..600);
    assert_eq!(log.gate(), Some(Reason::FolderGone), "only opening again helps");
    let end = log.shutdown();
    while committer.step(SECOND) != Next::Closed {}
    assert!(!is_done(&end), "it cannot have been closed cleanly");
    drop((committer, log));
    let log = Log::open(&path, LogOptions::default()).unwrap();
    assert_ne!(log.gate(), Some(Reason::FolderGone));
}

#[test]
fn a_folder_that_was_removed_closes_the_gate() {
    displaced(|path| std::fs::remove_dir_all(path).unwrap());
}

#[test]
fn a_folder_that_was_replaced_closes_the_gate() {
    displaced(|path| {
        std::fs::rename(path, path.with_extension("old")).unwrap();
        std::fs::create_dir(path).unwrap();
    });
}

#[test]
fn a_segment_in_use_that_was_removed_or_replaced_closes_the_gate() {
    let file = "seg-0000000000000001.log";
    displaced(|path| std::fs::remove_file(path.join(file)).unwrap());
    displaced(|path| {
        std::fs::copy(path.join(file), path.join("copy")).unwrap();
        std::fs::rename(path.join("copy"), path.join(file)).unwrap();
    });
}

#[test]
fn the_thread_of_a_log_notices_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(&dir.path().join("log"), LogOptions::default()).unwrap();
    std::fs::remove_dir_all(dir.path().join("log")).unwrap();
    let noticed = (0..6000).any(|_| {
        std::thread::park_timeout(Duration::from_millis(10));
        log.gate() == Some(Reason::FolderGone)
    });
    assert!(noticed);
    assert!(log.close().is_err());
}
