//! A replacement is there as a whole or not at all, and the old value never comes back after it.

use larder_log::sim::{Fault, SimDisk};
use larder_log::{CompactMode, Durability};

use crate::sim_log::{is_done, open, put, settle, slot};

/// Replaces an entry beside compaction, with power failing at step `at` of it.
fn replace(seed: u64, at: u64) -> bool {
    let disk = SimDisk::new(seed);
    let (log, mut committer) = open(&disk);
    // The first value lies in a sealed segment that is worth compacting.
    put(&log, 1, 700, Durability::Power);
    for _ in 0..5 {
        put(&log, 2, 9000, Durability::Power);
        settle(&mut committer);
    }
    disk.plan(disk.steps() + at, Fault::Crash);
    let replaced = put(&log, 1, 800, Durability::Power);
    if seed.is_multiple_of(2) {
        drop(committer.compact(CompactMode::Full));
        settle(&mut committer);
    } else {
        settle(&mut committer);
        drop(committer.compact(CompactMode::Full));
    }
    let (died, answered) = (disk.is_dead(), is_done(&replaced));
    assert!(died || answered);
    drop((committer, log));
    let (log, mut committer) = open(&disk.crash(seed));
    for _ in 0..2 {
        let shown = log.get(slot(1)).unwrap().unwrap();
        let old = shown == vec![1; 700];
        assert!(old && !answered || shown == vec![1; 800], "{seed} {at}: {} bytes", shown.len());
        let listed = log.snapshot(1).iter().filter(|entry| entry.slot == slot(1)).count();
        assert_eq!(listed, 1);
        // Nor does compaction bring anything back.
        committer.compact(CompactMode::Full).unwrap();
    }
    died
}

#[test]
fn replaced_value_never_comes_back_whenever_power_fails_beside_a_compaction() {
    for seed in 0..8 {
        let steps = (0..200).take_while(|at| replace(seed, *at)).count();
        assert!((10..200).contains(&steps), "{steps}");
    }
}
