//! A write whose deadline passes is annulled by its position: it harms neither what it would have
//! replaced nor a later write of the same id. Deadlines themselves are the spool's: see the library's
//! `tests/log/spool.rs`, with a device that stalls.

use larder_log::sim::SimDisk;
use larder_log::{Annulment, Durability, Outcome};

use crate::sim_log::{open, put, settle, slot};

#[test]
fn annulled_write_is_never_listed_and_neither_predecessor_nor_retry_suffers() {
    let disk = SimDisk::new(1);
    let (log, mut committer) = open(&disk);
    put(&log, 1, 100, Durability::Power);
    settle(&mut committer);
    let late = [put(&log, 1, 200, Durability::Power), put(&log, 2, 200, Durability::Power)];
    assert!(late.iter().all(|ticket| ticket.annul() == Annulment::NotWritten));
    let retry = put(&log, 3, 200, Durability::Power);
    assert_eq!(retry.annul(), Annulment::NotWritten);
    let again = put(&log, 3, 300, Durability::Power);
    settle(&mut committer);
    assert!(matches!(again.outcome(), Some(Outcome::Done { .. })));
    assert_eq!(again.annul(), Annulment::AlreadyDone);
    assert_eq!(log.unhealthy_reason(), None, "being late closes nothing");
    drop((committer, log));
    let (log, _committer) = open(&disk.crash(1));
    assert_eq!(log.get(slot(1)).unwrap().unwrap(), vec![1; 100]);
    assert_eq!(log.get(slot(3)).unwrap().unwrap(), vec![3; 300]);
    assert_eq!(log.snapshot(1).len(), 2);
}
