//! No file descriptors left: a clear error, nothing harmed, and well again by itself.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use larder_log::sim::SimDisk;
use larder_log::{
    Batch, CompactMode, Durability, Effect, Error, Log, LogOptions, OpenError, Outcome, WriteError,
};

use super::disk::Scarce;
use super::{DIR, delete, failure, is_done, open, options, put, settle, slot};

#[test]
fn a_roll_without_descriptors_fails_its_puts_and_nothing_else() {
    let io = Scarce::new(SimDisk::new(1));
    let (log, mut committer) = open(&io, options());
    for n in 0..10 {
        put(&log, n, 1000);
    }
    settle(&mut committer);
    io.exhaust(true);
    let (refused, removed) = (put(&log, 20, 9000), delete(&log, 3));
    settle(&mut committer);
    let error = failure(&refused);
    assert!(matches!(*error, WriteError::OutOfResources { .. }), "{error}");
    assert_eq!(error.effect(), Effect::NotApplied);
    assert!(is_done(&removed));
    let small = put(&log, 21, 100);
    settle(&mut committer);
    assert!(is_done(&small), "the present segment has room");
    assert_eq!(log.unhealthy_reason(), None);
    let compacted = committer.compact(CompactMode::Full);
    assert!(matches!(compacted, Err(Error::Io { .. })), "{compacted:?}");
    assert_eq!(log.get(slot(1)).unwrap().unwrap(), vec![1; 1000]);

    io.exhaust(false);
    let again = put(&log, 20, 9000);
    settle(&mut committer);
    assert!(is_done(&again));
    committer.compact(CompactMode::Full).unwrap();
    assert_eq!(log.unhealthy_reason(), None);
    drop((committer, log));
    let (log, _committer) = open(&io.disk.crash(1), options());
    assert_eq!(log.damaged(1), vec![]);
    assert_eq!(log.recovery().entries, 11);
}

#[test]
fn descriptors_may_run_out_at_the_first_use_after_a_clean_shut_down() {
    let io = Scarce::new(SimDisk::new(2));
    let (log, mut committer) = open(&io, options());
    put(&log, 1, 100);
    drop(log.shutdown());
    settle(&mut committer);
    drop((committer, log));
    io.exhaust(true);
    let opened = Log::open_stepped(Arc::new(io.clone()), Path::new(DIR), options());
    assert!(matches!(opened, Err(OpenError::OutOfResources { .. })), "{opened:?}");
    io.exhaust(false);
    let (log, mut committer) = open(&io, options());
    assert!(log.recovery().clean);
    io.exhaust(true);
    let refused = put(&log, 2, 100);
    settle(&mut committer);
    assert_eq!(failure(&refused).effect(), Effect::NotApplied);
    io.exhaust(false);
    let again = put(&log, 2, 100);
    settle(&mut committer);
    assert!(is_done(&again));
}

const CHILD: &str = "LARDER_TEST_DESCRIPTORS";
const DONE: &str = "done";

/// Runs the test below in a process of its own with few descriptors.
#[test]
fn a_process_at_its_descriptor_limit_goes_on_once_it_has_some() {
    let dir = tempfile::tempdir().unwrap();
    let child = Command::new("sh")
        .args(["-c", "ulimit -n 48 && exec \"$0\" --exact descriptors::child"])
        .arg(std::env::current_exe().unwrap())
        .env(CHILD, dir.path())
        .output()
        .unwrap();
    assert!(child.status.success() && dir.path().join(DONE).exists(), "{child:?}");
}

#[test]
fn child() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let dir = Path::new(&dir);
    let options = LogOptions { segment_bytes: 16 << 10, ..LogOptions::default() };
    let log = Log::open(&dir.join("log"), options.clone()).unwrap();
    let store = |n: u8| {
        let mut batch = Batch::new();
        batch.put(slot(n), vec![n; 3000].into());
        log.submit(batch, Durability::Power).unwrap().wait(Some(Duration::from_mins(1))).unwrap()
    };
    assert!(matches!(store(0), Outcome::Done { .. }));
    let mut hogs = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        hogs.push(file);
    }
    let mut refused = 0;
    for n in 1..20 {
        match store(n) {
            Outcome::Done { .. } => {}
            Outcome::Failed(error) => {
                assert_eq!(error.effect(), Effect::NotApplied, "{error:?}");
                assert!(matches!(*error, WriteError::OutOfResources { .. }), "{error:?}");
                refused += 1;
            }
            Outcome::Annulled => panic!("nobody gave it up"),
        }
    }
    assert!(refused > 10, "{refused}");
    assert_eq!(log.unhealthy_reason(), None);
    assert_eq!(log.get(slot(0)).unwrap().unwrap(), vec![0; 3000]);
    let second = Log::open(&dir.join("second"), options.clone());
    assert!(matches!(second, Err(OpenError::OutOfResources { .. })), "{second:?}");
    drop(hogs);
    for n in 1..20 {
        assert!(matches!(store(n), Outcome::Done { .. }));
    }
    log.compact(CompactMode::Full).unwrap();
    log.close().unwrap();
    let log = Log::open(&dir.join("log"), options).unwrap();
    assert_eq!((log.recovery().clean, log.recovery().entries), (true, 20));
    std::fs::write(dir.join(DONE), "").unwrap();
}
