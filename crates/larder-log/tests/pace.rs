//! Writers that outrun compaction, and a disk that is short of room: the files keep to their bound.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "this is a test")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use larder_log::sim::{SimDisk, SimRandom};
use larder_log::{
    Batch, Committer, CompactMode, Durability, Log, LogOptions, Next, Outcome, Slot, SubmitError,
    WriteError,
};

const SEGMENT: u64 = 1 << 20;
/// What the files take at most beyond twice the live bytes, in segments: as `LogOptions` says.
const CONSTANT: u64 = 10;

fn slot(n: u64) -> Slot {
    let mut id = [0; 16];
    id[8..].copy_from_slice(&n.to_be_bytes());
    Slot { namespace: 1, id }
}

fn put(n: u64, payload: &[u8]) -> Batch {
    let mut batch = Batch::new();
    batch.put(slot(n), payload.to_vec().into());
    batch
}

fn write(log: &Log, committer: &mut Committer, batch: &Batch) -> Outcome {
    let ticket = log.submit(batch.clone(), Durability::Power).unwrap();
    while committer.step(Duration::ZERO) == Next::Again {}
    ticket.outcome().unwrap()
}

/// Overwrites at random as fast as the log takes it; says how far the files were beyond twice the
/// live bytes at the worst moment.
fn outrun(log: &Log, bytes: u64, slots: u64) -> u64 {
    let mut random = SimRandom::new(7);
    let payload: bytes::Bytes = vec![7; 5000].into();
    let (mut given, mut beyond) = (0, 0);
    while given < bytes {
        let mut batch = Batch::new();
        for _ in 0..20 {
            batch.put(slot(random.below(slots)), payload.clone());
        }
        given += batch.bytes();
        match log.submit(batch.clone(), Durability::Process) {
            Ok(_) => {}
            Err(SubmitError::Full) => {
                let ticket = loop {
                    match log.submit(batch.clone(), Durability::Process) {
                        Ok(ticket) => break ticket,
                        Err(SubmitError::Full) => std::thread::yield_now(),
                        Err(error) => panic!("{error}"),
                    }
                };
                ticket.wait(None);
            }
            Err(error) => panic!("{error}"),
        }
        let stats = log.stats();
        beyond = beyond.max(stats.disk_bytes.saturating_sub(2 * stats.live_bytes));
    }
    beyond
}

#[test]
fn writers_that_outrun_a_slow_rate_do_not_outgrow_the_bound() {
    let dir = tempfile::tempdir().unwrap();
    let options = LogOptions {
        segment_bytes: SEGMENT,
        budget_bytes: SEGMENT,
        compact_bytes_per_second: 1,
        scrub_bytes_per_second: 0,
        ..LogOptions::default()
    };
    let log = Log::open(&dir.path().join("log"), options).unwrap();
    let beyond = outrun(&log, 250 << 20, 2000);
    eprintln!("{} tenths of a segment beyond", beyond * 10 / SEGMENT);
    assert!(beyond <= CONSTANT * SEGMENT, "{beyond}: {:?}", log.stats());
    log.close().unwrap();
}

/// Segments of which three tenths are dead: nothing that would be copied otherwise.
#[test]
fn disk_that_is_short_of_room_gets_back_what_would_not_pay_otherwise() {
    const SMALL: u64 = 128 << 10;
    let disk = SimDisk::new(1);
    let options = LogOptions { segment_bytes: SMALL, auto_compact: false, ..LogOptions::default() };
    let io = Arc::new(disk.clone());
    let (log, mut committer) = Log::open_stepped(io, Path::new("/log"), options).unwrap();
    let entry = vec![1; 1000];
    for n in 0..1000 {
        write(&log, &mut committer, &put(n, &entry));
    }
    for n in (0..1000).filter(|n| n % 10 < 3) {
        let mut batch = Batch::new();
        batch.delete(slot(n));
        write(&log, &mut committer, &batch);
    }
    disk.set_capacity(disk.used());
    let large = put(2000, &vec![2; 100 << 10]);
    let refused = write(&log, &mut committer, &large);
    assert!(matches!(refused, Outcome::Failed(error) if matches!(*error, WriteError::NoSpace)));
    let report = committer.compact(CompactMode::Due).unwrap();
    assert!(report.reclaimed_bytes > 2 * i64::try_from(SMALL).unwrap(), "{report:?}");
    let accepted = write(&log, &mut committer, &large);
    assert!(matches!(accepted, Outcome::Done { .. }), "{accepted:?}");
    // With room it is idle again: nothing that does not pay is copied.
    let before = log.stats().compacted_bytes;
    committer.compact(CompactMode::Due).unwrap();
    assert_eq!(log.stats().compacted_bytes, before);
    for n in (0..1000).filter(|n| n % 10 >= 3) {
        assert_eq!(log.get(slot(n)).unwrap().unwrap(), entry);
    }
}
