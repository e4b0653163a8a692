//! What a log does when its file system is full.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use larder_log::{
    Batch, CompactMode, DiskIo, Durability, Effect, Error, Log, LogOptions, Next, Outcome, Slot,
    SubmitError, WriteError,
};

use crate::mount::Mount;

const SEGMENT: u64 = 1 << 20;

fn options(preallocate: bool) -> LogOptions {
    LogOptions { segment_bytes: SEGMENT, preallocate, auto_compact: false, ..LogOptions::default() }
}

fn slot(n: u64) -> Slot {
    let mut id = [0; 16];
    id[8..].copy_from_slice(&n.to_be_bytes());
    Slot { namespace: 1, id }
}

fn number(slot: Slot) -> u64 {
    u64::from_be_bytes(*slot.id.last_chunk().unwrap())
}

fn payload(n: u64) -> Vec<u8> {
    n.to_le_bytes().into_iter().cycle().take(16_000).collect()
}

/// What was answered: stored, or not and with which effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Done,
    NoSpace(Effect),
    Refused,
}

fn submit(log: &Log, batch: Batch) -> Answer {
    let ticket = match log.submit(batch, Durability::Power) {
        Ok(ticket) => ticket,
        Err(SubmitError::Unhealthy(_)) => return Answer::Refused,
        Err(error) => panic!("{error}"),
    };
    match ticket.wait(Some(Duration::from_mins(1))) {
        Some(Outcome::Done { .. }) => Answer::Done,
        Some(Outcome::Failed(error)) => match *error {
            WriteError::NoSpace => Answer::NoSpace(error.effect()),
            WriteError::Unhealthy(_) => Answer::Refused,
            _ => panic!("{error}"),
        },
        other => panic!("{other:?}"),
    }
}

fn put(log: &Log, n: u64) -> Answer {
    let mut batch = Batch::new();
    batch.put(slot(n), payload(n).into());
    submit(log, batch)
}

fn delete(log: &Log, n: u64) -> Answer {
    let mut batch = Batch::new();
    batch.delete(slot(n));
    submit(log, batch)
}

/// Every entry that was answered is there, and no other one.
fn holds(log: &Log, entries: &BTreeSet<u64>) {
    assert_eq!(log.damaged(1), vec![]);
    for n in entries {
        assert_eq!(log.get(slot(*n)).unwrap().unwrap(), payload(*n), "{n}");
    }
    assert_eq!(log.snapshot(1).len(), entries.len());
}

/// Stores until there is no room; returns what is there.
fn fill_up(log: &Log) -> BTreeSet<u64> {
    let mut entries = BTreeSet::new();
    let mut failed = 0;
    for n in 0..3000 {
        match put(log, n) {
            Answer::Done => drop(entries.insert(n)),
            Answer::NoSpace(effect) => {
                assert_eq!(effect, Effect::NotApplied);
                assert_eq!(log.get(slot(n)).unwrap(), None);
                failed += 1;
            }
            Answer::Refused => failed += 1,
        }
        if failed > 20 {
            break;
        }
    }
    assert!(failed > 20 && entries.len() > 10, "{failed} failed, {} are there", entries.len());
    entries
}

/// Stores once there is room again, within the time that a gate may take to open.
fn store_again(log: &Log, n: u64) {
    for _ in 0..600 {
        match put(log, n) {
            Answer::Done => return,
            _ => std::thread::park_timeout(Duration::from_millis(50)),
        }
    }
    panic!("there is room, and still: {:?}", log.unhealthy_reason());
}

fn fails_and_passes(mount: &Mount, preallocate: bool) {
    mount.fill(6 << 20);
    let log = Log::open(&mount.folder(), options(preallocate)).unwrap();
    let mut entries = fill_up(&log);
    holds(&log, &entries);
    mount.free();
    // Without a restart.
    store_again(&log, 10_000);
    entries.insert(10_000);
    holds(&log, &entries);
    log.close().unwrap();
    let report = larder_log::verify(&mount.folder()).unwrap();
    assert!(report.is_sound() && report.entries == entries.len() as u64, "{report:?}");
    holds(&Log::open(&mount.folder(), options(preallocate)).unwrap(), &entries);
}

/// `fallocate` is what fails.
pub(crate) fn at_allocation(mount: &Mount) {
    fails_and_passes(mount, true);
}

/// Blocks are found at the write, which may be short before it fails.
pub(crate) fn at_write(mount: &Mount) {
    fails_and_passes(mount, false);
}

pub(crate) fn is_emptied(mount: &Mount) {
    mount.fill(8 << 20);
    let log = Log::open(&mount.folder(), options(true)).unwrap();
    let entries = fill_up(&log);
    empty(mount, &log, entries, &options(true));
}

/// Deletes all but five of the entries, with a compaction where there is no room for a delete.
fn empty(mount: &Mount, log: &Log, mut entries: BTreeSet<u64>, options: &LogOptions) {
    let all: Vec<u64> = entries.iter().copied().collect();
    for n in &all[..all.len() - 5] {
        if delete(log, *n) != Answer::Done {
            // What is put by for deletes is used up; what is dead by now makes room for more.
            log.compact(CompactMode::Full).unwrap();
            assert_eq!(delete(log, *n), Answer::Done, "{n}, {} bytes free", mount.room());
        }
        entries.remove(n);
    }
    log.compact(CompactMode::Full).unwrap();
    holds(log, &entries);
    // What is kept to be written again is room for whoever puts.
    let room = mount.room() + log.stats().free_bytes;
    assert!(room > 4 << 20, "{room}");
    store_again(log, 10_000);
    entries.insert(10_000);
    log.close().unwrap();
    holds(&Log::open(&mount.folder(), options.clone()).unwrap(), &entries);
}

/// Not one block is left when it is opened again, and nobody else makes room.
pub(crate) fn emptied_after_a_close(mount: &Mount) {
    mount.fill(8 << 20);
    for preallocate in [true, false] {
        let log = Log::open(&mount.folder(), options(preallocate)).unwrap();
        let mut entries = fill_up(&log);
        entries.extend(log.snapshot(1).iter().map(|entry| number(entry.slot)));
        log.close().unwrap();
        drop(log);
        for _ in 0..3 {
            mount.fill_up();
            let log = Log::open(&mount.folder(), options(preallocate)).unwrap();
            assert!(log.recovery().clean);
            let gone = entries.pop_first().unwrap();
            assert_eq!(delete(&log, gone), Answer::Done);
            log.close().unwrap();
        }
        mount.fill_up();
        let log = Log::open(&mount.folder(), options(preallocate)).unwrap();
        empty(mount, &log, entries, &options(preallocate));
    }
}

/// The same after deaths of the process, of which each leaves a tail behind.
pub(crate) fn emptied_after_a_kill(mount: &Mount) {
    mount.fill(8 << 20);
    for preallocate in [true, false] {
        let open =
            || Log::open_stepped(Arc::new(DiskIo), &mount.folder(), options(preallocate)).unwrap();
        let log = Log::open(&mount.folder(), options(preallocate)).unwrap();
        let mut entries = fill_up(&log);
        entries.extend(log.snapshot(1).iter().map(|entry| number(entry.slot)));
        log.close().unwrap();
        drop(log);
        for _ in 0..5 {
            mount.fill_up();
            let (log, mut committer) = open();
            let gone = entries.pop_first().unwrap();
            let mut batch = Batch::new();
            batch.delete(slot(gone));
            let deleted = log.submit(batch, Durability::Power).unwrap();
            while committer.step(Duration::ZERO) == Next::Again {}
            assert!(matches!(deleted.outcome(), Some(Outcome::Done { .. })), "{deleted:?}");
        }
        mount.fill_up();
        let log = Log::open(&mount.folder(), options(preallocate)).unwrap();
        assert!(!log.recovery().clean);
        empty(mount, &log, entries, &options(preallocate));
    }
}

/// All in one segment, which is being written, on a disk without room for a second one.
pub(crate) fn large_segment(mount: &Mount) {
    mount.fill(10 << 20);
    let options = LogOptions { segment_bytes: 64 << 20, ..options(true) };
    let log = Log::open(&mount.folder(), options.clone()).unwrap();
    let mut entries = fill_up(&log);
    mount.fill_up();
    let all: Vec<u64> = entries.iter().copied().collect();
    let (dead, rest) = all.split_at(all.len() / 2);
    for n in dead {
        assert_eq!(delete(&log, *n), Answer::Done, "{n}");
        entries.remove(n);
    }
    // As much is live as is put by, many times: that is said, and nothing is lost.
    let error = log.compact(CompactMode::Full).unwrap_err();
    assert!(matches!(error, Error::NoRoomToCopy { .. }), "{error}");
    holds(&log, &entries);
    for n in &rest[..rest.len() - 8] {
        assert_eq!(delete(&log, *n), Answer::Done, "{n}");
        entries.remove(n);
    }
    mount.fill_up();
    log.compact(CompactMode::Full).unwrap();
    let room = mount.room() + log.stats().free_bytes;
    assert!(room > 8 << 20, "{room}");
    store_again(&log, 10_000);
    entries.insert(10_000);
    holds(&log, &entries);
    log.close().unwrap();
    holds(&Log::open(&mount.folder(), options).unwrap(), &entries);
}

pub(crate) fn killed(mount: &Mount) {
    mount.fill(6 << 20);
    let entries = {
        let log = Log::open(&mount.folder(), options(true)).unwrap();
        let entries = fill_up(&log);
        log.close().unwrap();
        entries
    };
    // Used, and dropped without a shut-down, as by a kill.
    let (log, mut committer) =
        Log::open_stepped(Arc::new(DiskIo), &mount.folder(), options(true)).unwrap();
    let mut batch = Batch::new();
    batch.delete(slot(0));
    let deleted = log.submit(batch, Durability::Power).unwrap();
    while committer.step(Duration::ZERO) == Next::Again {}
    assert!(matches!(deleted.outcome(), Some(Outcome::Done { .. })), "{:?}", deleted.outcome());
    drop((committer, log));
    let mut entries = entries;
    entries.remove(&0);
    let log = Log::open(&mount.folder(), options(true)).unwrap();
    assert!(!log.recovery().clean);
    holds(&log, &entries);
    mount.free();
    store_again(&log, 10_000);
}
