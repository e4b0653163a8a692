//! One fault at a time, on the simulated disk: what callers are told, and what is there afterwards.

#![expect(clippy::unwrap_used, reason = "this is a test")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use larder_log::sim::{Fault, SimDisk, SimRandom};
use larder_log::{
    Batch, Committer, CompactMode, DamageKind, Durability, Effect, Log, LogOptions, Next,
    OpenError, Outcome, ReadError, Slot, SubmitError, Ticket, WriteError,
};

const DIR: &str = "/log";

fn slot(n: u8) -> Slot {
    Slot { namespace: 1, id: [n; 16] }
}

fn options() -> LogOptions {
    LogOptions { segment_bytes: 16 << 10, auto_compact: false, ..LogOptions::default() }
}

fn open(disk: &SimDisk) -> (Log, Committer) {
    Log::open_stepped(Arc::new(disk.clone()), Path::new(DIR), options()).unwrap()
}

fn put(log: &Log, n: u8, len: usize, durability: Durability) -> Ticket {
    let mut batch = Batch::new();
    batch.put(slot(n), vec![n; len].into());
    log.submit(batch, durability).unwrap()
}

fn delete(log: &Log, n: u8) -> Ticket {
    let mut batch = Batch::new();
    batch.delete(slot(n));
    log.submit(batch, Durability::Power).unwrap()
}

fn settle(committer: &mut Committer) {
    let mut now = Duration::ZERO;
    while !matches!(committer.step(now), Next::Wait(None) | Next::Closed) {
        now += Duration::from_secs(1);
    }
}

fn is_done(ticket: &Ticket) -> bool {
    matches!(ticket.outcome(), Some(Outcome::Done { .. }))
}

fn failure(ticket: &Ticket) -> Arc<WriteError> {
    match ticket.outcome() {
        Some(Outcome::Failed(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn failed_sync_poisons_the_log_and_is_never_tried_again() {
    let disk = SimDisk::new(1);
    let (log, mut committer) = open(&disk);
    let before = put(&log, 1, 100, Durability::Power);
    settle(&mut committer);
    assert!(is_done(&before));
    let failing = put(&log, 2, 100, Durability::Power);
    let also = put(&log, 3, 100, Durability::Process);
    // Reservation is done; the group is one write and one sync.
    disk.plan(disk.steps() + 1, Fault::SyncError { lost: false });
    settle(&mut committer);
    for ticket in [&failing, &also] {
        assert_eq!(failure(ticket).effect(), Effect::Unknown);
    }
    assert!(log.unhealthy_reason().is_some());
    assert!(log.acknowledge().is_err());
    assert_eq!(log.get(slot(1)).unwrap().unwrap(), vec![1; 100]);
    assert_eq!(log.get(slot(2)).unwrap(), None);
    let steps = disk.steps();
    let mut batch = Batch::new();
    batch.delete(slot(1));
    assert!(matches!(log.submit(batch, Durability::Power), Err(SubmitError::Unhealthy(_))));
    let sync = log.sync();
    settle(&mut committer);
    assert_eq!(failure(&sync).effect(), Effect::NotApplied);
    assert_eq!(disk.steps(), steps, "a poisoned log touched the disk");
    drop((committer, log));
    // The process starts again and reads its page cache: what it shows must then be durable.
    let (log, committer) = open(&disk);
    assert!(!log.recovery().clean);
    let seen = log.get(slot(2)).unwrap();
    drop((committer, log));
    let (log, _committer) = open(&disk.crash(7));
    assert_eq!(log.get(slot(2)).unwrap(), seen);
    assert_eq!(log.get(slot(1)).unwrap().unwrap(), vec![1; 100]);
}

#[test]
fn full_disk_refuses_puts_and_takes_deletes_and_recovers_by_itself() {
    let disk = SimDisk::new(2);
    let (log, mut committer) = open(&disk);
    for n in 0..10 {
        put(&log, n, 1000, Durability::Power);
    }
    settle(&mut committer);
    disk.set_full(true);
    let mut refused = 0;
    for n in 10..40 {
        let ticket = put(&log, n, 1000, Durability::Power);
        settle(&mut committer);
        if !is_done(&ticket) {
            assert!(matches!(*failure(&ticket), WriteError::NoSpace));
            assert_eq!(log.get(slot(n)).unwrap(), None);
            refused += 1;
        }
    }
    assert!(refused > 20, "{refused}");
    let deleted = delete(&log, 3);
    let (mixed_put, mixed_delete) = (put(&log, 99, 1000, Durability::Power), delete(&log, 4));
    settle(&mut committer);
    assert!(is_done(&deleted) && is_done(&mixed_delete));
    assert!(matches!(*failure(&mixed_put), WriteError::NoSpace));
    assert_eq!(log.unhealthy_reason(), None);
    disk.set_full(false);
    let again = put(&log, 50, 1000, Durability::Power);
    settle(&mut committer);
    assert!(is_done(&again));
    drop((committer, log));
    let (log, _committer) = open(&disk.crash(1));
    assert_eq!(log.damaged(1), vec![]);
    for n in [3, 4, 39, 99] {
        assert_eq!(log.get(slot(n)).unwrap(), None, "{n}");
    }
    for n in [0, 1, 2, 5, 9, 50] {
        assert_eq!(log.get(slot(n)).unwrap().unwrap(), vec![n; 1000]);
    }
}

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

#[test]
fn read_error_is_not_corruption() {
    let disk = SimDisk::new(3);
    let (log, mut committer) = open(&disk);
    put(&log, 1, 100, Durability::Power);
    settle(&mut committer);
    disk.fail_reads(1);
    assert!(matches!(log.get(slot(1)), Err(ReadError::Io { .. })));
    assert_eq!(log.damaged(1), vec![]);
    assert!(log.get(slot(1)).unwrap().is_some());
}

#[test]
fn rot_under_a_running_log_is_never_served_and_never_copied_as_sound() {
    let disk = SimDisk::new(4);
    let (log, mut committer) = open(&disk);
    for n in 0..12 {
        put(&log, n, 1000, Durability::Power);
    }
    delete(&log, 0);
    settle(&mut committer);
    let file = Path::new(DIR).join("seg-0000000000000001.log");
    disk.tamper(&file, |bytes| {
        let at = bytes.windows(1000).position(|window| window == [5; 1000]).unwrap();
        bytes[at + 500] ^= 0x40;
    });
    let error = committer.compact(CompactMode::Full).unwrap_err();
    assert!(matches!(error, larder_log::Error::Corrupt { entries: 1, segment: 1 }), "{error}");
    assert!(matches!(log.get(slot(5)), Err(ReadError::Corrupt { .. })));
    assert_eq!(log.get(slot(6)).unwrap().unwrap(), vec![6; 1000]);
    assert_eq!(log.damaged(1).len(), 1);
    assert_eq!(log.unhealthy_reason(), None);
    // Once it is removed the segment can go, but its bytes are kept aside.
    delete(&log, 5);
    settle(&mut committer);
    committer.compact(CompactMode::Full).unwrap();
    assert!(disk.read(&Path::new(DIR).join("quarantine/seg-0000000000000001.log")).is_some());
    assert!(disk.read(&file).is_none());
    assert_eq!(log.get(slot(6)).unwrap().unwrap(), vec![6; 1000]);
}

#[test]
fn shut_down_answers_everything_that_was_submitted() {
    let disk = SimDisk::new(5);
    let (log, mut committer) = open(&disk);
    let tickets: Vec<Ticket> = (0..50).map(|n| put(&log, n, 300, Durability::Power)).collect();
    let first = log.shutdown();
    let second = log.shutdown();
    let mut batch = Batch::new();
    batch.delete(slot(1));
    assert_eq!(log.submit(batch, Durability::Power).unwrap_err(), SubmitError::Closed);
    settle(&mut committer);
    assert!(tickets.iter().all(is_done) && is_done(&first) && is_done(&second));
    assert!(is_done(&log.shutdown()));
    drop((committer, log));
    let (log, _committer) = open(&disk.crash(3));
    assert!(log.recovery().clean);
    assert_eq!(log.recovery().entries, 50);
}

#[test]
fn committer_that_ends_early_leaves_nobody_waiting() {
    let disk = SimDisk::new(6);
    let (log, committer) = open(&disk);
    let ticket = put(&log, 1, 10, Durability::Power);
    let (sync, shutdown) = (log.sync(), log.shutdown());
    drop(committer);
    for ticket in [&ticket, &sync, &shutdown] {
        assert_eq!(failure(ticket).effect(), Effect::NotApplied);
    }
    assert!(is_done(&log.shutdown()));
}

/// A store with several sealed segments, shut down.
fn store() -> SimDisk {
    let disk = SimDisk::new(9);
    let (log, mut committer) = open(&disk);
    for n in 0..60 {
        put(&log, n, 900, Durability::Process);
        settle(&mut committer);
    }
    assert!(log.stats().segments > 4);
    drop(log.shutdown());
    settle(&mut committer);
    disk
}

fn last_segment(disk: &SimDisk) -> u64 {
    let files = disk.files(Path::new(DIR));
    files.iter().filter(|file| file.to_string_lossy().ends_with(".log")).count() as u64
}

fn segment(n: u64) -> std::path::PathBuf {
    Path::new(DIR).join(format!("seg-{n:016x}.log"))
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
    log.acknowledge().unwrap();
    assert_eq!(log.unhealthy_reason(), None);
    let ticket = put(&log, 1, 10, Durability::Power);
    settle(&mut committer);
    assert!(is_done(&ticket));
    drop((committer, log));
    let (log, _committer) = open(&disk);
    assert_eq!(log.unhealthy_reason(), None, "{what:?} came back: {:?}", log.damaged(1));
    assert!(log.get(slot(59)).unwrap().is_some());
}

fn copy(disk: &SimDisk, from: &SimDisk, source: u64, to: u64) {
    use larder_log::Io;
    let bytes = from.read(&segment(source)).unwrap();
    if disk.read(&segment(to)).is_none() {
        disk.create(&segment(to)).unwrap();
    }
    disk.tamper(&segment(to), |content| *content = bytes);
}

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
        let (log, _committer) = open(&disk);
        assert!(log.damaged(1).iter().any(|d| d.what == DamageKind::Manifest));
        assert!(log.unhealthy_reason().is_some());
        for n in 0..60 {
            assert_eq!(log.get(slot(n)).unwrap().unwrap(), vec![n; 900], "{n}");
        }
    }
}

#[test]
fn damaged_segment_header_loses_nothing_and_closes_nothing() {
    let disk = store();
    disk.tamper(&segment(2), |bytes| bytes[..64].fill(0xee));
    let (log, _committer) = open(&disk);
    assert_eq!(log.damaged(1).len(), 1);
    assert_eq!(log.damaged(1)[0].what, DamageKind::SegmentHeader);
    assert_eq!(log.unhealthy_reason(), None);
    for n in 0..60 {
        assert_eq!(log.get(slot(n)).unwrap().unwrap(), vec![n; 900], "{n}");
    }
}

#[test]
fn flipped_header_byte_hides_one_record_and_no_more() {
    let disk = store();
    disk.tamper(&segment(2), |bytes| bytes[4096 + 8] ^= 0xff);
    let (log, _committer) = open(&disk);
    let found = log.damaged(1);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].what, found[0].slot), (DamageKind::Unidentified, None));
    assert_eq!(log.recovery().entries, 59);
    assert_eq!(log.unhealthy_reason(), None);
}

#[test]
fn later_format_is_refused_and_left_alone() {
    let disk = store();
    let manifest = Path::new(DIR).join("MANIFEST");
    disk.tamper(&manifest, |bytes| {
        bytes[8] = 9;
        let crc = crc32c(&bytes[..32]);
        bytes[32..36].copy_from_slice(&crc.to_le_bytes());
    });
    let steps = disk.steps();
    let result = Log::open_stepped(Arc::new(disk.clone()), Path::new(DIR), options());
    match result {
        Err(OpenError::Newer { found: 9, supported: 1, .. }) => {}
        other => panic!("{:?}", other.err()),
    }
    assert_eq!(disk.steps(), steps);
}

/// Bit by bit, so that the test does not lean on the code under test.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

#[test]
fn deleted_entry_stays_deleted_whichever_segment_dies_first() {
    let disk = SimDisk::new(12);
    let (log, mut committer) = open(&disk);
    // Two versions and a delete, each in a segment of its own, with live neighbours.
    for round in 0..3 {
        if round < 2 {
            put(&log, 1, 500 + round, Durability::Power);
        } else {
            delete(&log, 1);
        }
        put(&log, 100 + u8::try_from(round).unwrap(), 9000, Durability::Power);
        put(&log, 110 + u8::try_from(round).unwrap(), 9000, Durability::Power);
        settle(&mut committer);
    }
    for n in [101, 111, 102, 112, 100, 110] {
        delete(&log, n);
        settle(&mut committer);
        committer.compact(CompactMode::Step).unwrap();
        committer.compact(CompactMode::Step).unwrap();
        for seed in 0..4 {
            // A copy of the disk at this moment, read by another process.
            let (again, mut other) = open(&disk_copy(&disk, seed));
            assert_eq!(again.get(slot(1)).unwrap(), None, "after {n}");
            other.compact(CompactMode::Full).unwrap();
            assert_eq!(again.get(slot(1)).unwrap(), None, "after {n}");
        }
    }
}

fn disk_copy(disk: &SimDisk, seed: u64) -> SimDisk {
    use larder_log::Io;
    let copy = SimDisk::new(seed);
    copy.create_dir(Path::new(DIR)).unwrap();
    for file in disk.files(Path::new(DIR)) {
        copy.create(&file).unwrap();
        let bytes = disk.read(&file).unwrap();
        copy.tamper(&file, |content| *content = bytes);
    }
    copy.sync_dir(Path::new(DIR)).unwrap();
    copy
}

#[test]
fn full_compaction_leaves_no_dead_bytes_and_no_needless_deletes() {
    let disk = SimDisk::new(13);
    let (log, mut committer) = open(&disk);
    for n in 0..100 {
        put(&log, n, 900, Durability::Process);
        settle(&mut committer);
    }
    // One survivor from the very beginning must not keep the deletes of the others alive.
    for n in 1..100 {
        delete(&log, n);
        settle(&mut committer);
    }
    committer.compact(CompactMode::Full).unwrap();
    committer.compact(CompactMode::Full).unwrap();
    let stats = log.stats();
    assert!(stats.segments <= 3 && stats.disk_bytes < 3 * 4096 + 2500, "{stats:?}");
    assert_eq!(log.get(slot(0)).unwrap().unwrap(), vec![0; 900]);
    drop((committer, log));
    let (log, _committer) = open(&disk.crash(5));
    assert_eq!(log.recovery().entries, 1);
}

#[test]
fn limits_shed_puts_and_let_replacements_and_deletes_pass() {
    let disk = SimDisk::new(14);
    let limited = LogOptions {
        max_entries: Some(3),
        max_bytes: Some(4000),
        max_payload_bytes: 2000,
        ..options()
    };
    let (log, mut committer) = Log::open_stepped(Arc::new(disk), Path::new(DIR), limited).unwrap();
    let submit = |n: u8, len: usize| {
        let mut batch = Batch::new();
        batch.put(slot(n), vec![n; len].into());
        log.submit(batch, Durability::Power)
    };
    assert_eq!(submit(1, 2001).unwrap_err(), SubmitError::TooLarge { limit: 2000 });
    for n in 0..3 {
        submit(n, 10).unwrap();
    }
    assert_eq!(submit(3, 10).unwrap_err(), SubmitError::TooManyEntries { limit: 3 });
    settle(&mut committer);
    submit(2, 2000).unwrap();
    settle(&mut committer);
    assert_eq!(submit(1, 2000).unwrap_err(), SubmitError::TooManyBytes { limit: 4000 });
    assert!(is_done(&{
        let ticket = delete(&log, 2);
        settle(&mut committer);
        ticket
    }));
    submit(3, 2000).unwrap();
}

#[test]
fn sizes_around_a_segment_and_the_empty_payload_come_back() {
    let disk = SimDisk::new(15);
    let (log, mut committer) = open(&disk);
    let room = (16 << 10) - 4096;
    let sizes = [0, 1, 7, 8, room - 200, room - 1, room, room + 1, 20 * room];
    for (n, len) in sizes.iter().enumerate() {
        put(&log, u8::try_from(n).unwrap(), *len, Durability::Power);
        settle(&mut committer);
    }
    for death in [false, true] {
        let disk = if death { disk.crash(1) } else { disk_copy(&disk, 1) };
        let (log, _committer) = open(&disk);
        assert_eq!(log.damaged(1), vec![]);
        for (n, len) in sizes.iter().enumerate() {
            let n = u8::try_from(n).unwrap();
            assert_eq!(log.get(slot(n)).unwrap().unwrap(), vec![n; *len], "{len}");
        }
    }
}

#[test]
fn deleting_what_is_not_there_writes_nothing() {
    let disk = SimDisk::new(16);
    let (log, mut committer) = open(&disk);
    let steps = disk.steps();
    let ticket = delete(&log, 1);
    settle(&mut committer);
    assert!(is_done(&ticket));
    assert_eq!(disk.steps(), steps);
    // But a put that is still queued is deleted.
    put(&log, 1, 10, Durability::Power);
    let ticket = delete(&log, 1);
    settle(&mut committer);
    assert!(is_done(&ticket));
    assert_eq!(log.get(slot(1)).unwrap(), None);
}

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
fn snapshot_stays_readable_while_its_segments_are_compacted_away() {
    let disk = SimDisk::new(18);
    let (log, mut committer) = open(&disk);
    for n in 0..40 {
        put(&log, n, 900, Durability::Process);
        settle(&mut committer);
    }
    let entries = log.snapshot(1);
    assert_eq!(entries.len(), 40);
    assert!(log.snapshot(2).is_empty());
    for n in 0..20 {
        delete(&log, n);
    }
    put(&log, 30, 5, Durability::Power);
    settle(&mut committer);
    committer.compact(CompactMode::Full).unwrap();
    for entry in &entries {
        let n = entry.slot.id[0];
        let want = match n {
            0..20 => None,
            30 => Some(vec![30; 5]),
            _ => Some(vec![n; 900]),
        };
        assert_eq!(log.read_entry(entry).unwrap().map(Vec::from), want, "{n}");
    }
}

#[test]
fn whatever_is_done_to_the_files_no_wrong_byte_is_served_and_nothing_panics() {
    let pristine = store();
    let mut opened = 0;
    for seed in 0..1500 {
        let mut random = SimRandom::new(seed);
        let disk = disk_copy(&pristine, seed);
        let files = disk.files(Path::new(DIR));
        for _ in 0..=random.below(4) {
            let pick = |random: &mut SimRandom| {
                files[usize::try_from(random.below(files.len() as u64)).unwrap()].clone()
            };
            let file = pick(&mut random);
            let other = disk.read(&pick(&mut random)).unwrap_or_default();
            disk.tamper(&file, |bytes| mutate(bytes, &other, &mut random));
            if random.chance(10) {
                disk.lose(&pick(&mut random));
            }
        }
        drop(larder_log::verify_with(&disk, Path::new(DIR)));
        let io = Arc::new(disk.clone());
        let Ok((log, mut committer)) = Log::open_stepped(io, Path::new(DIR), options()) else {
            continue;
        };
        opened += 1;
        for n in 0..60 {
            match log.get(slot(n)) {
                Ok(Some(bytes)) => assert_eq!(bytes, vec![n; 900], "seed {seed}, slot {n}"),
                Ok(None) | Err(ReadError::Corrupt { .. }) => {}
                Err(error) => panic!("seed {seed}: {error}"),
            }
        }
        drop(log.acknowledge());
        let ticket = put(&log, 1, 900, Durability::Power);
        settle(&mut committer);
        assert!(is_done(&ticket), "seed {seed}");
        drop(committer.compact(CompactMode::Full));
        assert_eq!(log.get(slot(1)).unwrap().unwrap(), vec![1; 900], "seed {seed}");
    }
    assert!(opened > 1000, "{opened}");
}

fn mutate(bytes: &mut Vec<u8>, other: &[u8], random: &mut SimRandom) {
    if bytes.is_empty() {
        return;
    }
    let len = bytes.len() as u64;
    let at = usize::try_from(random.below(len)).unwrap();
    let to = at + usize::try_from(random.below(200)).unwrap().min(bytes.len() - at);
    match random.below(6) {
        0 | 1 => bytes[at] ^= 1 << random.below(8),
        2 => bytes[at..to].fill(0),
        3 => bytes[at..to].iter_mut().for_each(|byte| *byte = random.next().to_le_bytes()[0]),
        4 => bytes.truncate(at),
        // A block that was meant for another file.
        _ => {
            let from = at.min(other.len());
            let part = &other[from..(from + 600).min(other.len())];
            let end = (at + part.len()).min(bytes.len());
            bytes[at..end].copy_from_slice(&part[..end - at]);
        }
    }
}

#[test]
fn full_disk_is_emptied_by_deleting_and_compacting() {
    let disk = SimDisk::new(21);
    let (log, mut committer) = open(&disk);
    for n in 0..60 {
        put(&log, n, 900, Durability::Power);
        settle(&mut committer);
    }
    disk.set_capacity(disk.used());
    let refused = put(&log, 100, 9000, Durability::Power);
    settle(&mut committer);
    assert!(matches!(*failure(&refused), WriteError::NoSpace));
    for n in 0..50 {
        let mut ticket = delete(&log, n);
        settle(&mut committer);
        if !is_done(&ticket) {
            // What deletes may use is used up; what is dead by now makes room for more.
            let report = committer.compact(CompactMode::Full).unwrap();
            assert!(report.removed_segments > 2, "{report:?}");
            ticket = delete(&log, n);
            settle(&mut committer);
        }
        assert!(is_done(&ticket), "{n}");
    }
    let accepted = put(&log, 100, 9000, Durability::Power);
    settle(&mut committer);
    assert!(is_done(&accepted));
    drop((committer, log));
    let (log, _committer) = open(&disk.crash(1));
    assert_eq!(log.recovery().entries, 11);
}

#[test]
fn refused_puts_use_up_neither_segment_ids_nor_room_in_the_manifest() {
    let disk = SimDisk::new(22);
    let (log, mut committer) = open(&disk);
    put(&log, 1, 9000, Durability::Power);
    settle(&mut committer);
    let manifest = Path::new(DIR).join("MANIFEST");
    let before = disk.read(&manifest).unwrap().len();
    let refuse = |committer: &mut Committer| {
        for _ in 0..100 {
            let refused = put(&log, 2, 9000, Durability::Power);
            settle(committer);
            assert!(matches!(*failure(&refused), WriteError::NoSpace));
        }
    };
    // First there is no room for a name, then none for what the file should hold.
    disk.set_full(true);
    refuse(&mut committer);
    disk.set_full(false);
    disk.set_capacity(disk.used());
    refuse(&mut committer);
    disk.set_capacity(u64::MAX);
    let accepted = put(&log, 2, 9000, Durability::Power);
    settle(&mut committer);
    assert!(is_done(&accepted));
    assert!(disk.read(&segment(2)).is_some(), "{:?}", disk.files(Path::new(DIR)));
    assert_eq!(disk.read(&manifest).unwrap().len(), before + 48, "one more segment, no more");
    drop((committer, log));
    let (log, _committer) = open(&disk.crash(1));
    assert_eq!(log.recovery().entries, 2);
}

#[test]
fn rotten_delete_does_not_hold_up_the_reclaiming_of_other_segments() {
    let disk = SimDisk::new(23);
    let (log, mut committer) = open(&disk);
    // The first segment holds what the delete in the second one is about.
    for n in 0..11 {
        put(&log, n, 1000, Durability::Power);
    }
    settle(&mut committer);
    put(&log, 20, 5000, Durability::Power);
    delete(&log, 0);
    settle(&mut committer);
    for _ in 0..6 {
        put(&log, 20, 3000, Durability::Power);
        settle(&mut committer);
    }
    disk.tamper(&segment(2), |bytes| {
        let is_delete = |at: &usize| bytes[at + 4] == 2 && bytes[at + 24..at + 40] == [0; 16];
        let at = (4096..bytes.len() - 48).step_by(8).find(is_delete).unwrap();
        bytes[at + 40] ^= 1;
    });
    for _ in 0..4 {
        committer.compact(CompactMode::Step).unwrap();
    }
    assert!(disk.read(&segment(3)).is_none(), "the others are reclaimed");
    assert_eq!(log.unhealthy_reason(), None);
    drop((committer, log));
    let (log, _committer) = open(&disk.crash(1));
    assert_eq!(log.get(slot(0)).unwrap(), None);
    assert_eq!(log.recovery().entries, 11);
}

#[test]
fn a_log_that_was_killed_on_a_full_disk_opens_again() {
    let disk = SimDisk::new(22);
    let (log, mut committer) = open(&disk);
    for n in 0..20 {
        put(&log, n, 900, Durability::Power);
        settle(&mut committer);
    }
    // Killed, not shut down: what was written stays, and somebody else takes the last block.
    let killed = disk.kill(1);
    drop((committer, log));
    killed.set_capacity(killed.used());
    let (log, mut committer) = open(&killed);
    for n in 0..20 {
        assert_eq!(log.get(slot(n)).unwrap().unwrap().len(), 900, "{n}");
    }
    // Deletes have to find room as well: they are the way out.
    assert!(is_done(&{
        let ticket = delete(&log, 3);
        settle(&mut committer);
        ticket
    }));
}
