//! What is torn was promised to nobody; it is cut, counted, and never appended to.

use std::time::Duration;

use larder_log::Durability;
use larder_log::sim::{Fault, SimDisk};

use crate::sim_log::{open, put, settle, slot};

#[test]
fn torn_tail_is_not_corruption() {
    for seed in 0..200 {
        let disk = SimDisk::new(seed);
        let (log, mut committer) = open(&disk);
        for n in 0..3 {
            put(&log, n, 700, Durability::Power);
        }
        settle(&mut committer);
        disk.plan(disk.steps() + seed % 2, Fault::Crash);
        for n in 3..6 {
            put(&log, n, 700, Durability::Power);
        }
        committer.step(Duration::from_secs(100));
        drop((committer, log));
        let (log, _committer) = open(&disk.crash(seed));
        assert_eq!((log.recovery().corrupt, log.damaged(1)), (0, vec![]), "{seed}");
        let there = (3..6).filter(|n| log.contains(slot(*n))).count();
        assert!(there == 0 || there == 3, "{seed}: a group came back in part");
        for n in 0..3 {
            assert_eq!(log.get(slot(n)).unwrap().unwrap(), vec![n; 700], "{seed}");
        }
    }
}
