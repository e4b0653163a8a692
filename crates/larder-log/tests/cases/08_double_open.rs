//! One process at a time; who loses changes nothing, and a dead owner is in nobody's way.
//!
//! A second open in the same process is tried in `tests/disk.rs` and, at every step, in `tests/crash`.

use std::collections::BTreeMap;
use std::path::Path;

use larder_log::{Log, OpenError, verify};
use rustix::process::Signal;

use crate::child::{Process, options};

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    let file = |entry: std::fs::DirEntry| {
        let name = entry.file_name().into_string().unwrap();
        (name, std::fs::read(entry.path()).unwrap())
    };
    entries.map(file).collect()
}

/// The open fails, names the owner, and leaves every byte as it was.
fn is_locked(folder: &Path, owner: u32) {
    let before = files(folder);
    match Log::open(folder, options()) {
        Err(OpenError::Locked { pid, .. }) => assert_eq!(pid, Some(owner)),
        other => panic!("{other:?}"),
    }
    assert!(matches!(verify(folder), Err(OpenError::Locked { .. })));
    assert_eq!(files(folder), before);
}

#[test]
fn log_of_another_process_is_locked_until_that_ends_or_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    for killed in [true, false] {
        let mut owner = Process::start("hold", folder.path());
        assert_eq!(owner.line(), "open 0");
        is_locked(folder.path(), owner.id());
        if killed {
            owner.kill();
        } else {
            let (well, told) = owner.end();
            assert!(well, "{told}");
        }
        let log = Log::open(folder.path(), options()).unwrap();
        assert_eq!(log.recovery().clean, !killed);
        log.close().unwrap();
    }
}

#[test]
fn stopped_owner_keeps_its_lock_and_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let mut owner = Process::start("write", folder.path());
    assert!(owner.line().starts_with("put "));
    owner.signal(Signal::STOP);
    for _ in 0..3 {
        match Log::open(folder.path(), options()) {
            Err(OpenError::Locked { pid, .. }) => assert_eq!(pid, Some(owner.id())),
            other => panic!("{other:?}"),
        }
    }
    owner.signal(Signal::CONT);
    // More than was under way when it was stopped.
    for _ in 0..500 {
        assert!(!owner.line().is_empty(), "it has died");
    }
    owner.kill();
    let log = Log::open(folder.path(), options()).unwrap();
    assert_eq!(log.damaged(1), vec![]);
}
