//! The manifest is lost right after a crash was recovered from: what was acknowledged stays, what was
//! cut stays away, whatever has become of the files in between.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use larder_log::sim::{Fault, SimDisk};
use larder_log::{Committer, CompactMode, DamageKind, Durability, Log};

use crate::sim_log::{DIR, delete, is_done, open, options, put, segment, settle, slot};

const KEPT: std::ops::Range<u8> = 1..9;

/// Groups that were all acknowledged, none of which knows that the last one is durable; then a
/// delete of each of their entries that never reached the disk as a whole.
fn crashed() -> SimDisk {
    let disk = SimDisk::new(5);
    let (log, mut committer) = open(&disk);
    for n in KEPT {
        let ticket = put(&log, n, 300, Durability::Power);
        committer.step(Duration::ZERO);
        assert!(is_done(&ticket), "{n}");
    }
    for n in KEPT {
        delete(&log, n);
    }
    committer.step(Duration::ZERO);
    drop((log, committer));
    let disk = disk.kill(1);
    // The commit of the deletes is torn.
    disk.tamper(&segment(1), |bytes| {
        let end = 4096 + (KEPT.len() * (40 + 304 + 64)) + KEPT.len() * 48;
        bytes.truncate(end);
    });
    disk
}

fn lose_manifest(disk: &SimDisk) {
    disk.lose(&Path::new(DIR).join("MANIFEST"));
}

fn check(log: &Log, what: &str) {
    for n in KEPT {
        let found = log.get(slot(n)).unwrap().unwrap_or_else(|| panic!("{what}: {n} is lost"));
        assert_eq!(found, vec![n; 300], "{what}: {n}");
    }
}

/// Opens a log without its manifest, and accepts that.
fn open_orphan(disk: &SimDisk, what: &str) -> (Log, Committer) {
    lose_manifest(disk);
    let (log, committer) = open(disk);
    check(&log, what);
    let damaged = log.damaged(1);
    assert_eq!((damaged.len(), damaged[0].what), (1, DamageKind::Manifest), "{what}: {damaged:?}");
    assert!(log.unhealthy_reason().is_some(), "{what}");
    log.acknowledge().unwrap();
    (log, committer)
}

#[test]
fn entries_that_only_the_recovery_holds_survive_the_loss_of_the_manifest() {
    let disk = crashed();
    drop(open(&disk));
    let disk = disk.kill(2);
    let (log, mut committer) = open_orphan(&disk, "once");
    let ticket = put(&log, 100, 10, Durability::Power);
    settle(&mut committer);
    assert!(is_done(&ticket));
}

#[test]
fn manifest_may_be_lost_after_every_recovery_of_a_row() {
    let mut disk = crashed();
    drop(open(&disk));
    for round in 0..6 {
        disk = disk.crash(round);
        drop(open_orphan(&disk, &format!("round {round}")));
        // With the manifest in between: a tail that holds nothing is retired.
        disk = disk.crash(round);
        let (log, _committer) = open(&disk);
        check(&log, "with a manifest");
    }
}

#[test]
fn manifest_that_is_lost_at_any_step_of_the_recovery_takes_nothing_along() {
    let mut died = 0;
    for (step, seed) in (0..24).flat_map(|step| (0..4).map(move |seed| (step, seed))) {
        let disk = crashed();
        disk.plan(disk.steps() + step, Fault::Crash);
        let opened = Log::open_stepped(Arc::new(disk.clone()), Path::new(DIR), options());
        died += u64::from(disk.is_dead());
        drop(opened);
        drop(open_orphan(&disk.crash(seed), &format!("step {step}, {seed}")));
    }
    assert!(died > 40, "{died}");
}

#[test]
fn what_a_recovery_cut_does_not_come_back_without_the_manifest() {
    let disk = crashed();
    let (log, mut committer) = open(&disk);
    assert!(log.recovery().torn_bytes > 0);
    // What the recovery copied is dead soon, and its segment goes; the old tail stays.
    assert_eq!(log.recovery().rewritten, 1);
    put(&log, KEPT.end - 1, 300, Durability::Power);
    put(&log, 100, 15_000, Durability::Power);
    put(&log, 101, 15_000, Durability::Power);
    settle(&mut committer);
    committer.compact(CompactMode::Step).unwrap();
    assert!(disk.read(&segment(1)).is_some() && disk.read(&segment(2)).is_none());
    drop((log, committer));
    drop(open_orphan(&disk.crash(3), "after a compaction"));
}
