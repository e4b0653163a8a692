//! The durable mark that a silent log writes: synced, soon, and never for a busy one.

use std::path::Path;
use std::time::Duration;

use larder_log::sim::SimDisk;
use larder_log::{DamageKind, Next};

use super::{DIR, is_done, open, options, put, slot};

const MS: Duration = Duration::from_millis(1);

#[test]
fn ten_silent_milliseconds_make_the_last_group_immune_to_being_taken_for_torn() {
    let disk = SimDisk::new(5);
    let (log, mut committer) = open(&disk, options());
    let ticket = put(&log, 1, 1000);
    assert_eq!(committer.step(100 * MS), Next::Again);
    assert!(is_done(&ticket));
    assert_eq!(committer.step(100 * MS), Next::Wait(Some(10 * MS)));
    assert_eq!(committer.step(110 * MS), Next::Again);
    assert_eq!(committer.step(110 * MS), Next::Wait(None), "nothing is left to do");
    drop((committer, log));
    // The power fails right then, and a byte of the entry rots.
    let disk = disk.crash(9);
    disk.tamper(&Path::new(DIR).join("seg-0000000000000001.log"), |bytes| {
        let at = bytes.windows(1000).position(|window| window == [1; 1000]).unwrap();
        bytes[at + 500] ^= 1;
    });
    let (log, _committer) = open(&disk, options());
    assert_eq!(log.recovery().torn_bytes, 0);
    let damaged = log.damaged(1);
    assert_eq!(damaged.len(), 1, "{damaged:?}");
    assert_eq!((damaged[0].slot, damaged[0].what), (Some(slot(1)), DamageKind::Payload));
}

#[test]
fn a_busy_log_writes_no_marks_and_a_silent_one_writes_one() {
    let disk = SimDisk::new(6);
    let (log, mut committer) = open(&disk, options());
    for n in 0..200 {
        let now = u32::from(n) * 9 * MS;
        let ticket = put(&log, n % 4, 10);
        while committer.step(now) == Next::Again {}
        assert!(is_done(&ticket));
    }
    let busy = log.stats().syncs;
    // One for each store; those of segments that were begun are the rest.
    assert!((200..200 + 2 * log.stats().segments).contains(&busy), "{busy}");
    for ms in 1800..10_000 {
        while committer.step(ms * MS) == Next::Again {}
    }
    assert_eq!(log.stats().syncs, busy + 1, "one mark, once");
}
