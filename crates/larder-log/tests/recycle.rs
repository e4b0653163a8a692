//! Dead segment files that are written again, on the simulated disk.

#![expect(clippy::unwrap_used, reason = "this is a test")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use larder_log::sim::{Fault, SimDisk};
use larder_log::{
    Batch, Committer, CompactMode, DamageKind, Durability, Log, LogOptions, Next, Outcome, Slot,
};

const DIR: &str = "/log";

fn options() -> LogOptions {
    LogOptions { segment_bytes: 16 << 10, auto_compact: false, ..LogOptions::default() }
}

fn open_with(disk: &SimDisk, options: LogOptions) -> (Log, Committer) {
    Log::open_stepped(Arc::new(disk.clone()), Path::new(DIR), options).unwrap()
}

fn open(disk: &SimDisk) -> (Log, Committer) {
    open_with(disk, options())
}

fn slot(n: u8) -> Slot {
    Slot { namespace: 1, id: [n; 16] }
}

fn settle(committer: &mut Committer) {
    let mut now = Duration::ZERO;
    while committer.step(now) != Next::Wait(None) {
        now += Duration::from_secs(1);
    }
}

fn close(log: &Log, committer: &mut Committer) {
    log.shutdown();
    while committer.step(Duration::ZERO) != Next::Closed {}
}

/// Puts a payload of 700 bytes and waits for it; whether it was taken.
fn put(log: &Log, committer: &mut Committer, n: u8, fill: u8) -> bool {
    let mut batch = Batch::new();
    batch.put(slot(n), vec![fill; 700].into());
    let ticket = log.submit(batch, Durability::Power).unwrap();
    settle(committer);
    matches!(ticket.outcome(), Some(Outcome::Done { .. }))
}

/// Replaces two slots until `segments` segments were filled, reclaiming what is dead.
fn churn(log: &Log, committer: &mut Committer, segments: u64) {
    for i in 0..segments * 17 {
        assert!(put(log, committer, u8::try_from(i % 2).unwrap(), u8::try_from(i % 251).unwrap()));
        if i % 17 == 0 {
            committer.compact(CompactMode::Step).unwrap();
        }
    }
}

/// Leaves more than two free files.
fn free_some(log: &Log, committer: &mut Committer) {
    for n in 0..100 {
        put(log, committer, n, n);
    }
    for n in 0..=u8::MAX {
        put(log, committer, n % 100, n);
    }
    for _ in 0..8 {
        committer.compact(CompactMode::Step).unwrap();
    }
    assert!(log.stats().free_bytes > 40 << 10, "{:?}", log.stats());
}

fn named(disk: &SimDisk, prefix: &str) -> Vec<PathBuf> {
    let mut files = disk.files(Path::new(DIR));
    files.retain(|file| file.file_name().unwrap().to_str().unwrap().starts_with(prefix));
    files
}

fn sizes(disk: &SimDisk) -> Vec<usize> {
    let files = named(disk, "seg-").into_iter().chain(named(disk, "free-"));
    files.map(|file| disk.read(&file).unwrap().len()).collect()
}

/// The segment that is appended to, in a file that was written before.
fn active(disk: &SimDisk) -> PathBuf {
    named(disk, "seg-").pop().unwrap()
}

#[test]
fn files_of_dead_segments_are_written_again() {
    let disk = SimDisk::new(1);
    let (log, mut committer) = open(&disk);
    churn(&log, &mut committer, 6);
    let (before, used) = (log.stats(), sizes(&disk).iter().sum::<usize>());
    assert!(before.recycled_segments > 0 && before.free_bytes > 0, "{before:?}");
    churn(&log, &mut committer, 30);
    assert!(log.stats().recycled_segments >= before.recycled_segments + 29, "{:?}", log.stats());
    assert_eq!(sizes(&disk).iter().sum::<usize>(), used, "no file is made and none grows");
    let (log, _committer) = open(&disk.crash(1));
    assert_eq!(log.damaged(1), vec![]);
    assert_eq!(log.stats().entries, 2);
}

/// The blocks of a file that is emptied before it is full were all written: cutting them off would make
/// the next segment grow again.
#[test]
fn file_that_is_emptied_half_full_is_kept_whole() {
    let disk = SimDisk::new(1);
    let (log, mut committer) = open(&disk);
    free_some(&log, &mut committer);
    let full = active(&disk);
    while active(&disk) == full {
        put(&log, &mut committer, 0, 0);
    }
    let active = active(&disk).to_str().unwrap().replace("seg-", "free-");
    for n in 0..100 {
        let mut batch = Batch::new();
        batch.delete(slot(n));
        log.submit(batch, Durability::Power).unwrap();
    }
    settle(&mut committer);
    assert_eq!(log.stats().entries, 0);
    committer.compact(CompactMode::Full).unwrap();
    let kept = disk.read(Path::new(&active)).map(|bytes| bytes.len());
    assert!(kept.is_some_and(|len| len >= 12 << 10), "{kept:?}");
}

#[test]
fn nothing_is_kept_when_it_is_turned_off() {
    let disk = SimDisk::new(1);
    let (log, mut committer) = open_with(&disk, LogOptions { recycle_bytes: 0, ..options() });
    churn(&log, &mut committer, 20);
    assert_eq!((log.stats().recycled_segments, log.stats().free_bytes), (0, 0));
    assert_eq!(named(&disk, "free-"), Vec::<PathBuf>::new());
}

#[test]
fn free_files_are_bounded_and_outlive_the_log() {
    let disk = SimDisk::new(1);
    let bounded = LogOptions { recycle_bytes: 40 << 10, ..options() };
    let (log, mut committer) = open_with(&disk, bounded.clone());
    for n in 0..=255 {
        put(&log, &mut committer, n, n);
    }
    for n in 0..=255 {
        put(&log, &mut committer, 0, n);
        let mut batch = Batch::new();
        batch.delete(slot(n));
        log.submit(batch, Durability::Process).unwrap();
    }
    settle(&mut committer);
    committer.compact(CompactMode::Full).unwrap();
    let free = log.stats().free_bytes;
    assert!(free > 16 << 10 && free <= 40 << 10, "{free}");
    close(&log, &mut committer);
    drop((log, committer));
    let (log, mut committer) = open_with(&disk, bounded);
    assert_eq!(log.stats().free_bytes, free);
    churn(&log, &mut committer, 2);
    assert!(log.stats().recycled_segments > 0);
    close(&log, &mut committer);
    drop((log, committer));
    let (log, _committer) = open_with(&disk, LogOptions { recycle_bytes: 0, ..options() });
    assert_eq!((log.stats().free_bytes, named(&disk, "free-").len()), (0, 0));
}

#[test]
fn recycled_segment_keeps_its_blocks_through_a_clean_shut_down() {
    let disk = SimDisk::new(1);
    let (log, mut committer) = open(&disk);
    churn(&log, &mut committer, 8);
    put(&log, &mut committer, 5, 5);
    let before = sizes(&disk);
    close(&log, &mut committer);
    drop((log, committer));
    assert_eq!(sizes(&disk), before);
    let (log, mut committer) = open(&disk.kill(1));
    assert!(log.recovery().clean);
    assert_eq!(log.get(slot(5)).unwrap().unwrap(), vec![5; 700]);
    assert!(put(&log, &mut committer, 6, 6));
}

#[test]
fn what_a_file_held_before_is_not_taken_for_a_torn_tail() {
    let disk = SimDisk::new(1);
    let (log, mut committer) = open(&disk);
    churn(&log, &mut committer, 8);
    put(&log, &mut committer, 5, 5);
    let killed = disk.kill(1);
    let report = larder_log::verify_with(&killed, Path::new(DIR)).unwrap();
    assert_eq!((report.torn_bytes, report.is_sound(), report.entries), (0, true, 3), "{report:?}");
    drop((log, committer));
    let (log, _committer) = open(&killed);
    assert_eq!((log.recovery().torn_bytes, log.damaged(1)), (0, vec![]));
    assert_eq!(log.get(slot(5)).unwrap().unwrap(), vec![5; 700]);
}

#[test]
fn damaged_last_record_of_a_recycled_segment_is_reported_at_every_open() {
    let disk = SimDisk::new(1);
    let (log, mut committer) = open(&disk);
    churn(&log, &mut committer, 8);
    put(&log, &mut committer, 5, 5);
    put(&log, &mut committer, 6, 6);
    let killed = disk.kill(1);
    drop((log, committer));
    // From the header of the last put on, everything is unreadable, the mark included.
    killed.tamper(&active(&killed), |bytes| {
        let at = bytes.windows(700).position(|window| window == [6; 700]).unwrap();
        bytes[at - 40..at + 900].fill(0xa5);
    });
    let verified = larder_log::verify_with(&killed, Path::new(DIR)).unwrap();
    for _ in 0..3 {
        // The mark before it vouches for all but the last: that one cannot be told from torn.
        let (log, mut committer) = open(&killed);
        assert_eq!(log.get(slot(5)).unwrap().unwrap(), vec![5; 700]);
        assert!(log.damaged(1).iter().all(|damage| damage.what == DamageKind::Unidentified));
        assert_eq!(log.damaged(1).is_empty(), verified.damage.is_empty());
        close(&log, &mut committer);
    }
}

#[test]
fn full_disk_gets_the_free_files_before_a_put_is_refused() {
    let disk = SimDisk::new(1);
    let (log, mut committer) = open(&disk);
    free_some(&log, &mut committer);
    // Room for one payload only if what waits is given back for it.
    disk.set_capacity(disk.used());
    let mut batch = Batch::new();
    batch.put(slot(7), vec![9; 30 << 10].into());
    let ticket = log.submit(batch, Durability::Power).unwrap();
    settle(&mut committer);
    assert!(matches!(ticket.outcome(), Some(Outcome::Done { .. })), "{:?}", ticket.outcome());
    assert_eq!(log.stats().free_bytes, 0);
    // And on until there is nothing left; then deletes and compaction still work.
    let mut taken = 0u8;
    while put(&log, &mut committer, 100 + taken % 100, 1) {
        taken = taken.wrapping_add(1);
    }
    let mut batch = Batch::new();
    batch.delete(slot(7));
    let deleted = log.submit(batch, Durability::Power).unwrap();
    settle(&mut committer);
    assert!(matches!(deleted.outcome(), Some(Outcome::Done { .. })));
    committer.compact(CompactMode::Step).unwrap();
    assert!(put(&log, &mut committer, 100, 1));
    assert_eq!(log.unhealthy_reason(), None);
}

#[test]
fn recovery_on_a_full_disk_may_use_the_room_of_free_files() {
    let disk = SimDisk::new(1);
    let (log, mut committer) = open(&disk);
    free_some(&log, &mut committer);
    put(&log, &mut committer, 5, 5);
    let killed = disk.kill(1);
    drop((log, committer));
    // Nothing but free files can be given up: the room for the manifest is gone.
    killed.lose(&Path::new(DIR).join("SPARE"));
    killed.set_capacity(killed.used());
    let (log, mut committer) = open(&killed);
    assert_eq!(log.get(slot(5)).unwrap().unwrap(), vec![5; 700]);
    assert!(put(&log, &mut committer, 6, 6));
}

/// Without the manifest nobody knows how far ids were given out: a file whose frames may pass for
/// those of a segment to come must not be written again.
#[test]
fn free_file_of_an_id_that_may_come_again_is_removed() {
    let disk = SimDisk::new(1);
    let (log, mut committer) = open(&disk);
    churn(&log, &mut committer, 8);
    close(&log, &mut committer);
    drop((log, committer));
    let newest = active(&disk);
    let free = named(&disk, "free-").pop().unwrap();
    // As if the newest segment had died, and then the manifest.
    let (bytes, to_come) =
        (disk.read(&newest).unwrap(), Path::new(DIR).join("free-00000000000000ff.log"));
    let io: &dyn larder_log::Io = &disk;
    io.create(&to_come).unwrap();
    disk.tamper(&to_come, |content| *content = bytes);
    disk.lose(&Path::new(DIR).join("MANIFEST"));
    let (log, _committer) = open(&disk);
    assert!(disk.read(&to_come).is_none(), "{:?}", disk.files(Path::new(DIR)));
    assert!(disk.read(&free).is_some());
    assert!(log.damaged(1).iter().any(|damage| damage.what == DamageKind::Manifest));
}

#[test]
fn strange_file_with_the_name_of_the_next_segment_is_left_alone() {
    let disk = SimDisk::new(1);
    let (log, mut committer) = open(&disk);
    churn(&log, &mut committer, 8);
    let last = active(&disk);
    let digits = last.file_stem().unwrap().to_str().unwrap().strip_prefix("seg-").unwrap();
    let next = u64::from_str_radix(digits, 16).unwrap() + 1;
    let strange = Path::new(DIR).join(format!("seg-{next:016x}.log"));
    let io: &dyn larder_log::Io = &disk;
    io.create(&strange).unwrap();
    disk.tamper(&strange, |content| *content = b"not ours".to_vec());
    churn(&log, &mut committer, 3);
    assert_eq!(disk.read(&strange).unwrap(), b"not ours");
}

/// A file that is written again is never seen under the wrong name, nor listed while its name may
/// still be lost: not by a power failure at any step of a roll, whatever of the folder survives it.
#[test]
fn power_that_fails_at_any_step_of_writing_a_file_again_leaves_a_sound_log() {
    let disk = SimDisk::new(1);
    let (log, mut committer) = open(&disk);
    churn(&log, &mut committer, 6);
    close(&log, &mut committer);
    drop((log, committer));
    // One more roll, until the power fails; how many files were written again.
    let roll = |disk: &SimDisk| {
        let (log, mut committer) = open(disk);
        for n in 0..20 {
            let mut batch = Batch::new();
            batch.put(slot(2), vec![n; 700].into());
            if log.submit(batch, Durability::Power).is_err() {
                break;
            }
            while committer.step(Duration::ZERO) == Next::Again {}
        }
        log.stats().recycled_segments
    };
    let looked = disk.kill(0);
    drop(open(&looked));
    let opened = looked.steps();
    let whole = disk.kill(0);
    assert!(roll(&whole) > 0 && whole.steps() > opened + 50, "{}", whole.steps());
    for step in opened..whole.steps() {
        for seed in 0..32 {
            let disk = disk.kill(0);
            disk.plan(step, Fault::Crash);
            roll(&disk);
            assert!(disk.is_dead());
            let (log, _committer) = open(&disk.crash(seed));
            assert_eq!(log.damaged(1), vec![], "step {step}, seed {seed}");
            assert_eq!(log.unhealthy_reason(), None, "step {step}, seed {seed}");
            for n in 0..2 {
                assert_eq!(log.get(slot(n)).unwrap().unwrap().len(), 700, "step {step}");
            }
        }
    }
}
