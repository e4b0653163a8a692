//! Files that are gone, cut or not ours are named; puts are refused until that is acknowledged.

use std::path::Path;

use larder_log::sim::SimDisk;
use larder_log::{Batch, CompactMode, DamageKind, Durability, Io, SubmitError};

use crate::sim_log::{DIR, is_done, open, put, segment, settle, slot, store};

#[test]
fn vanished_segment_is_named() {
    structural(|disk| disk.lose(&segment(2)), DamageKind::Vanished, 2);
}

#[test]
fn vanished_tail_is_named() {
    let disk = store();
    let last = last_segment(&disk);
    disk.lose(&segment(last));
    let (log, _committer) = open(&disk);
    assert!(log.damaged(1).iter().any(|d| d.what == DamageKind::Vanished && d.segment == last));
    assert!(log.unhealthy_reason().is_some());
}

#[test]
fn segment_cut_to_nothing_is_named() {
    structural(|disk| disk.tamper(&segment(2), Vec::clear), DamageKind::CutShort, 2);
}

#[test]
fn segment_cut_in_the_middle_is_named() {
    structural(|disk| disk.tamper(&segment(2), |b| b.truncate(9000)), DamageKind::CutShort, 2);
}

#[test]
fn foreign_segment_in_the_place_of_one_is_named() {
    let other = SimDisk::new(77);
    let (log, mut committer) = open(&other);
    put(&log, 1, 10, Durability::Power);
    settle(&mut committer);
    structural(|disk| copy(disk, &other, 1, 2), DamageKind::Foreign, 2);
}

#[test]
fn copied_segment_under_another_name_is_named_and_never_overwritten() {
    let next = last_segment(&store()) + 1;
    structural(|disk| copy(disk, &store(), 1, next), DamageKind::Misplaced, next);
    structural(|disk| copy(disk, &store(), 1, 3), DamageKind::Misplaced, 3);
}

#[test]
fn lost_manifest_is_rebuilt_and_named() {
    let manifest = Path::new(DIR).join("MANIFEST");
    let lost = store();
    lost.lose(&manifest);
    let rotten = store();
    rotten.tamper(&manifest, |bytes| bytes[50] ^= 1);
    for disk in [lost, rotten] {
        // A restart is no acknowledgement: a new manifest is there by then, and says so.
        for _ in 0..2 {
            let (log, _committer) = open(&disk);
            assert!(log.damaged(1).iter().any(|d| d.what == DamageKind::Manifest));
            assert!(log.unhealthy_reason().is_some());
            for n in 0..60 {
                assert_eq!(log.get(slot(n)).unwrap().unwrap(), vec![n; 900], "{n}");
            }
        }
        let (log, committer) = open(&disk);
        log.acknowledge().unwrap();
        drop((committer, log));
        let (log, _committer) = open(&disk);
        assert_eq!((log.unhealthy_reason(), log.damaged(1)), (None, vec![]));
    }
}

/// Damages a store; the gate must close, name the file, and open again once acknowledged, for good.
fn structural(damage: impl FnOnce(&SimDisk), what: DamageKind, at: u64) {
    let disk = store();
    damage(&disk);
    let (log, mut committer) = open(&disk);
    let found = log.damaged(1);
    assert!(found.iter().any(|d| (d.what, d.segment) == (what, at)), "{what:?}: {found:?}");
    assert!(log.unhealthy_reason().is_some(), "{what:?}");
    assert!(log.get(slot(59)).unwrap().is_some());
    let mut batch = Batch::new();
    batch.put(slot(1), "x".into());
    assert!(matches!(log.submit(batch, Durability::Power), Err(SubmitError::Unhealthy(_))));
    assert!(committer.compact(CompactMode::Full).is_err(), "{what:?}");
    let accepted = log.acknowledge().unwrap();
    assert!(accepted.iter().any(|d| (d.what, d.segment) == (what, at)), "{what:?}: {accepted:?}");
    assert_eq!(log.acknowledge().unwrap(), vec![]);
    assert_eq!(log.unhealthy_reason(), None);
    let ticket = put(&log, 1, 10, Durability::Power);
    settle(&mut committer);
    assert!(is_done(&ticket));
    drop((committer, log));
    let (log, _committer) = open(&disk);
    assert_eq!(log.unhealthy_reason(), None, "{what:?} came back: {:?}", log.damaged(1));
    assert!(log.get(slot(59)).unwrap().is_some());
}

/// Copies a segment file to another name.
fn copy(disk: &SimDisk, from: &SimDisk, source: u64, to: u64) {
    let bytes = from.read(&segment(source)).unwrap();
    if disk.read(&segment(to)).is_none() {
        disk.create(&segment(to)).unwrap();
    }
    disk.tamper(&segment(to), |content| *content = bytes);
}

fn last_segment(disk: &SimDisk) -> u64 {
    let files = disk.files(Path::new(DIR));
    files.iter().filter(|file| file.to_string_lossy().ends_with(".log")).count() as u64
}
