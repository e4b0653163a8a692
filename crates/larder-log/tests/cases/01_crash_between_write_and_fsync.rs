//! Between the write and the sync nobody has been told anything that is not true.

use std::collections::HashSet;
use std::time::Duration;

use larder_log::sim::{Fault, SimDisk};
use larder_log::{Durability, Log, Ticket};

use crate::child::{self, Process, number, payload};
use crate::sim_log::{is_done, open, put, settle, slot};

#[test]
fn one_sync_serves_everybody_who_waits() {
    let disk = SimDisk::new(17);
    let (log, mut committer) = open(&disk);
    let tickets: Vec<Ticket> = (0..100).map(|n| put(&log, n, 20, Durability::Power)).collect();
    committer.step(Duration::ZERO);
    assert!(tickets.iter().all(is_done));
    assert_eq!((log.stats().syncs, log.stats().groups), (1, 1));
}

#[test]
fn stores_that_lack_their_sync_are_not_answered_and_are_whole_or_absent() {
    let mut kept = HashSet::new();
    for seed in 0..100 {
        let disk = SimDisk::new(seed);
        let (log, mut committer) = open(&disk);
        put(&log, 9, 600, Durability::Power);
        settle(&mut committer);
        // One group is one write and one sync; power fails in the latter.
        disk.plan(disk.steps() + 1, Fault::Crash);
        let tickets: Vec<Ticket> = (0..4)
            .map(|n| put(&log, n, 600, if n < 3 { Durability::Power } else { Durability::Process }))
            .collect();
        settle(&mut committer);
        assert!(disk.is_dead() && !tickets.iter().any(is_done), "{seed}");
        drop((committer, log));
        let (log, _committer) = open(&disk.crash(seed));
        assert_eq!(log.damaged(1), vec![], "{seed}");
        assert_eq!(log.get(slot(9)).unwrap().unwrap(), vec![9; 600]);
        for n in 0..4 {
            let found = log.get(slot(n)).unwrap();
            assert!(found.is_none() || found.as_deref() == Some(&[n; 600][..]), "{seed} {n}");
            kept.insert(found.is_some());
        }
    }
    assert_eq!(kept.len(), 2, "the sample has both kinds of crashes");
}

#[test]
fn killed_process_loses_no_store_that_was_answered() {
    let folder = tempfile::tempdir().unwrap();
    let (mut stored, mut deleted, mut total) = (HashSet::new(), HashSet::new(), 0);
    for round in 0..6 {
        let mut process = Process::start("write", folder.path());
        let mut told = vec![process.line()];
        // A different moment in every round, counted in what it has done.
        for _ in 0..40 + 90 * round {
            told.push(process.line());
        }
        let rest = process.kill();
        // The last line may be cut off: it was being written.
        told.extend(rest.split_inclusive('\n').filter(|l| l.ends_with('\n')).map(String::from));
        let mut open = HashSet::new();
        for line in &told {
            let Some((what, n)) = line.trim_end().split_once(' ') else { panic!("{line:?}") };
            let n: u64 = n.parse().unwrap();
            match what {
                "put" | "delete" => drop((open.insert(n), stored.remove(&n))),
                "stored" => drop((open.remove(&n), stored.insert(n))),
                "deleted" => drop((open.remove(&n), deleted.insert(n))),
                _ => panic!("{line:?}"),
            }
        }
        let log = Log::open(folder.path(), child::options()).unwrap();
        assert_eq!((log.damaged(1), log.recovery().clean), (vec![], false));
        let there: HashSet<u64> = log.snapshot(1).iter().map(|e| number(e.slot)).collect();
        for n in &there {
            assert_eq!(log.get(child::slot(*n)).unwrap().unwrap(), payload(*n));
        }
        assert_eq!(stored.difference(&there).collect::<Vec<_>>(), Vec::<&u64>::new());
        assert_eq!(deleted.intersection(&there).collect::<Vec<_>>(), Vec::<&u64>::new());
        let strange = there.iter().filter(|n| !stored.contains(n) && !open.contains(n));
        assert_eq!(strange.count(), 0);
        total += there.len();
        // What was open is one of two things now, and stays it.
        stored.extend(open.intersection(&there));
        deleted.extend(open.difference(&there));
        log.sync().wait(Some(Duration::from_secs(20)));
        log.close().unwrap();
    }
    assert!(total > 100, "{total}");
}
