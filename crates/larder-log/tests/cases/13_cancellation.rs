//! Callers that go away leave nothing behind: no bytes of the budget, no entry by half.
//! Futures of a spool that are dropped: the library's `tests/log/spool.rs`, and the law
//! `a_cancelled_store_is_whole_or_nothing`.

use larder_log::{Annulment, Batch, Durability, Log, LogOptions, SubmitError};

use crate::child::{number, payload, slot, submit};

#[test]
fn a_hundred_thousand_cancelled_writes_leave_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let log = Log::open(folder.path(), LogOptions::default()).unwrap();
    let (mut gone, mut unsure) = (0, 0);
    for n in 0..100_000 {
        let mut batch = Batch::new();
        batch.put(slot(n), payload(n % 7).into());
        let ticket = loop {
            match log.submit(batch.clone(), Durability::Process) {
                Ok(ticket) => break ticket,
                Err(SubmitError::Full) => submit(&log, Batch::new(), Durability::Power),
                Err(error) => panic!("{error}"),
            }
        };
        match n % 4 {
            // Dropped without a word: it is stored, and nobody is told.
            0 => unsure += 1,
            1..4 if ticket.annul() == Annulment::AlreadyDone => unsure += 1,
            _ => gone += 1,
        }
    }
    assert!(gone > 1000, "{gone}");
    log.sync().wait(None);
    assert_eq!(log.stats().in_flight_bytes, 0);
    for reopened in [false, true] {
        let log = if reopened {
            log.close().unwrap();
            Log::open(folder.path(), LogOptions::default()).unwrap()
        } else {
            log.clone()
        };
        let entries = log.snapshot(1);
        assert_eq!(entries.len(), unsure, "{gone} were cancelled");
        for entry in entries.iter().step_by(97) {
            let n = number(entry.slot);
            assert_eq!(log.get(entry.slot).unwrap().unwrap(), payload(n % 7));
        }
    }
}
