//! Forgetting the oldest segments: what goes, what stays, and that nothing older comes back, wherever
//! the power fails.

#![expect(clippy::unwrap_used, reason = "this is a test")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use larder_log::sim::{Fault, SimDisk};
use larder_log::{Batch, Committer, Durability, Log, LogOptions, Next, Slot};

const SLOTS: u64 = 24;

fn slot(n: u64) -> Slot {
    let mut id = [0; 16];
    id[8..].copy_from_slice(&n.to_be_bytes());
    Slot { namespace: 7, id }
}

fn payload(n: u64, round: u64) -> Bytes {
    Bytes::from(format!("{n} {round} ").repeat(100))
}

fn open(disk: &SimDisk) -> (Log, Committer) {
    let options = LogOptions {
        segment_bytes: 32 << 10,
        auto_compact: false,
        recycle_bytes: 64 << 10,
        ..LogOptions::default()
    };
    Log::open_stepped(Arc::new(disk.clone()), Path::new("/log"), options).unwrap()
}

fn step(committer: &mut Committer) {
    let mut now = Duration::ZERO;
    while committer.step(now) == Next::Again {
        now += Duration::from_millis(1);
    }
}

fn submit(log: &Log, committer: &mut Committer, batch: Batch) -> bool {
    let Ok(ticket) = log.submit(batch, Durability::Power) else { return false };
    step(committer);
    matches!(ticket.outcome(), Some(larder_log::Outcome::Done { .. }))
}

/// Puts every slot over and over, deletes every third after the third round: what each ends with.
fn fill(log: &Log, committer: &mut Committer) -> BTreeMap<u64, Option<Bytes>> {
    let mut newest = BTreeMap::new();
    for round in 0..12 {
        // Slots come less and less often, so that old segments hold live records.
        for n in (0..SLOTS).filter(|n| n % 4 >= round / 4) {
            let mut batch = Batch::new();
            batch.put(slot(n), payload(n, round));
            assert!(submit(log, committer, batch));
            newest.insert(n, Some(payload(n, round)));
        }
        if round == 3 {
            for n in (0..SLOTS).filter(|n| n % 3 == 0 && n % 4 == 0) {
                let mut batch = Batch::new();
                batch.delete(slot(n));
                assert!(submit(log, committer, batch));
                newest.insert(n, None);
            }
        }
    }
    newest
}

/// Every slot has its newest payload or nothing; how many have one.
fn agrees(log: &Log, newest: &BTreeMap<u64, Option<Bytes>>) -> usize {
    let mut present = 0;
    for (n, promised) in newest {
        if let Some(found) = log.get(slot(*n)).unwrap() {
            assert_eq!(Some(&found), promised.as_ref(), "slot {n} shows an older version");
            present += 1;
        }
    }
    present
}

#[test]
fn the_oldest_go_first_and_everything_else_stays() {
    let disk = SimDisk::new(1);
    let (log, mut committer) = open(&disk);
    let newest = fill(&log, &mut committer);
    let live = newest.values().flatten().count();
    assert_eq!(agrees(&log, &newest), live);
    let segments = log.stats().segments;
    assert!(segments > 4, "{segments} segments");
    let mut left = live;
    for gone in 1..segments {
        let doomed = log.oldest_entries(7);
        let before = log.disk_bytes();
        let forgotten = log.forget_oldest().unwrap();
        assert_eq!((forgotten.segments, forgotten.entries), (1, doomed.len() as u64));
        assert_eq!(log.disk_bytes(), before - forgotten.bytes);
        assert!(doomed.iter().all(|entry| !log.holds(entry) && !log.contains(entry.slot)));
        left -= doomed.len();
        assert_eq!(agrees(&log, &newest), left);
        let stats = log.stats();
        assert_eq!((stats.entries, stats.segments), (left as u64, segments - gone));
    }
    // Only the segment that is written is left, and this log is stepped: nobody can end it.
    assert!(log.forget_oldest().is_err());
    assert_eq!(agrees(&log, &newest), left);
}

#[test]
fn nothing_older_comes_back_wherever_the_power_fails() {
    let disk = SimDisk::new(2);
    let (log, mut committer) = open(&disk);
    fill(&log, &mut committer);
    let begun = disk.steps();
    for _ in 0..4 {
        log.forget_oldest().unwrap();
    }
    let steps = disk.steps() - begun;
    assert!(steps > 8, "{steps} steps");
    for step in 0..steps {
        for seed in 0..8 {
            let disk = SimDisk::new(2);
            let (log, mut committer) = open(&disk);
            let newest = fill(&log, &mut committer);
            disk.plan(disk.steps() + step, Fault::Crash);
            let mut doomed = log.oldest_entries(7);
            while log.forget_oldest().is_ok() && !disk.is_dead() {
                doomed.extend(log.oldest_entries(7));
            }
            let (log, _committer) = open(&disk.crash(seed));
            assert_eq!(log.recovery().structural, 0, "step {step}, seed {seed}");
            agrees(&log, &newest);
            let spared =
                |n: &u64| newest[n].is_some() && !doomed.iter().any(|e| e.slot == slot(*n));
            let lost = newest.keys().copied().filter(spared).find(|n| !log.contains(slot(*n)));
            assert_eq!(lost, None, "step {step}, seed {seed}");
        }
    }
}

#[test]
fn a_delete_after_a_failed_forgetting_holds() {
    let disk = SimDisk::new(3);
    let (log, mut committer) = open(&disk);
    let mut newest = fill(&log, &mut committer);
    while log.oldest_entries(7).is_empty() {
        log.forget_oldest().unwrap();
    }
    let doomed = log.oldest_entries(7);
    // The manifest cannot be replaced: nothing may be forgotten, or a delete would not be written.
    disk.plan(disk.steps() + 1, Fault::Error);
    log.forget_oldest().unwrap_err();
    assert!(doomed.iter().all(|entry| log.holds(entry)));
    let mut batch = Batch::new();
    for entry in &doomed {
        batch.delete(entry.slot);
        newest.insert(u64::from_be_bytes(entry.slot.id[8..].try_into().unwrap()), None);
    }
    assert!(submit(&log, &mut committer, batch));
    let (log, _committer) = open(&disk.crash(1));
    agrees(&log, &newest);
    assert!(doomed.iter().all(|entry| !log.contains(entry.slot)));
}

#[test]
fn everything_can_be_forgotten_also_what_is_being_written() {
    let disk = SimDisk::new(4);
    let options = LogOptions { segment_bytes: 32 << 10, ..LogOptions::default() };
    let open = |disk: &SimDisk| {
        Log::open_with(Arc::new(disk.clone()), Path::new("/log"), options.clone()).unwrap()
    };
    let log = open(&disk);
    for n in 0..60 {
        let mut batch = Batch::new();
        batch.put(slot(n), payload(n, 0));
        let ticket = log.submit(batch, Durability::Process).unwrap();
        assert!(matches!(ticket.wait(None), Some(larder_log::Outcome::Done { .. })));
    }
    assert_eq!(log.namespaces(), [7]);
    let forgotten = log.forget_all().unwrap();
    assert_eq!((forgotten.entries, log.entry_count()), (60, 0));
    assert!(log.namespaces().is_empty());
    // Once more, with nothing to forget.
    log.forget_all().unwrap();
    let mut batch = Batch::new();
    batch.put(slot(5), payload(5, 1));
    log.submit(batch, Durability::Power).unwrap().wait(None);
    let after = disk.crash(9);
    drop(log);
    let log = open(&after);
    assert_eq!(log.stats().entries, 1);
    assert_eq!(log.get(slot(5)).unwrap(), Some(payload(5, 1)));
}

#[test]
fn a_single_segment_is_ended_and_forgotten() {
    let disk = SimDisk::new(5);
    let io = Arc::new(disk);
    let log = Log::open_with(io, Path::new("/log"), LogOptions::default()).unwrap();
    let mut batch = Batch::new();
    batch.put(slot(1), payload(1, 1));
    log.submit(batch, Durability::Process).unwrap().wait(None);
    assert_eq!(log.forget_oldest().unwrap().entries, 1);
    assert_eq!(log.forget_oldest().unwrap(), larder_log::Forgotten::default());
}
