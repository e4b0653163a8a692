//! The log on the real disk, with its threads.

#![expect(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "this is a test")]

use std::time::Duration;

use larder_log::{
    Annulment, Batch, CompactMode, DamageKind, Durability, Log, LogOptions, OpenError, Outcome,
    ReadError, Slot, SubmitError,
};

fn slot(n: u64) -> Slot {
    let mut id = [0; 16];
    id[8..].copy_from_slice(&n.to_be_bytes());
    Slot { namespace: 1, id }
}

fn payload(n: u64, len: usize) -> Vec<u8> {
    (0..len).map(|i| (n as usize * 31 + i) as u8).collect()
}

fn put(log: &Log, n: u64, data: impl Into<bytes::Bytes>, durability: Durability) {
    let mut batch = Batch::new();
    batch.put(slot(n), data.into());
    done(log.submit(batch, durability).unwrap().wait(None).as_ref());
}

fn delete(log: &Log, n: u64, durability: Durability) {
    let mut batch = Batch::new();
    batch.delete(slot(n));
    done(log.submit(batch, durability).unwrap().wait(None).as_ref());
}

fn done(outcome: Option<&Outcome>) {
    assert!(matches!(outcome, Some(Outcome::Done { .. })), "{outcome:?}");
}

fn small() -> LogOptions {
    LogOptions { segment_bytes: 64 << 10, ..LogOptions::default() }
}

#[test]
fn what_was_put_is_there_after_a_clean_reopen() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b/log");
    let log = Log::open(&path, LogOptions::default()).unwrap();
    assert!(log.recovery().created);
    put(&log, 1, &b"one"[..], Durability::Power);
    put(&log, 2, &b""[..], Durability::Process);
    put(&log, 3, payload(3, 300_000), Durability::Process);
    delete(&log, 1, Durability::Power);
    assert_eq!(log.get(slot(1)).unwrap(), None);
    log.close().unwrap();
    assert!(matches!(log.get(slot(2)), Err(ReadError::Closed)));
    assert!(matches!(log.submit(Batch::new(), Durability::Power), Err(SubmitError::Closed)));
    let log = Log::open(&path, LogOptions::default()).unwrap();
    assert!(log.recovery().clean);
    assert_eq!(log.recovery().entries, 2);
    assert_eq!(log.get(slot(2)).unwrap().as_deref(), Some(&b""[..]));
    assert_eq!(log.get(slot(3)).unwrap().unwrap(), payload(3, 300_000));
    assert_eq!(log.payload_len(slot(3)), Some(300_000));
    assert!(!log.contains(slot(1)));
}

#[test]
fn opening_and_reading_changes_no_byte_of_a_clean_log() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), LogOptions::default()).unwrap();
    put(&log, 1, &b"one"[..], Durability::Power);
    drop(log);
    let before = files(dir.path());
    let log = Log::open(dir.path(), LogOptions::default()).unwrap();
    assert_eq!(log.get(slot(1)).unwrap().as_deref(), Some(&b"one"[..]));
    drop(log);
    assert_eq!(files(dir.path()), before);
}

fn files(dir: &std::path::Path) -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(Result::unwrap)
        .filter(|entry| entry.file_type().unwrap().is_file())
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, std::fs::read(entry.path()).unwrap())
        })
        .collect();
    all.sort();
    all
}

#[test]
fn segments_roll_and_full_compaction_gives_the_space_back() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), LogOptions { auto_compact: false, ..small() }).unwrap();
    for n in 0..200 {
        put(&log, n, payload(n, 3000), Durability::Process);
    }
    assert!(log.stats().segments > 5, "{:?}", log.stats());
    for n in 0..200 {
        if n % 10 != 0 {
            delete(&log, n, Durability::Process);
        }
    }
    let before = log.stats();
    let report = log.compact(CompactMode::Full).unwrap();
    let after = log.stats();
    assert!(report.reclaimed_bytes > 400_000, "{report:?} {before:?} {after:?}");
    assert!(after.disk_bytes < 150_000, "{after:?}");
    for reopen in [false, true] {
        let log = if reopen {
            log.close().unwrap();
            Log::open(dir.path(), small()).unwrap()
        } else {
            log.clone()
        };
        for n in 0..200 {
            let want = (n % 10 == 0).then(|| payload(n, 3000));
            assert_eq!(log.get(slot(n)).unwrap().map(Vec::from), want, "{n} {reopen}");
        }
    }
}

#[test]
fn space_is_reclaimed_in_the_background() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), small()).unwrap();
    for n in 0..2000 {
        put(&log, n, payload(n, 3000), Durability::Process);
        delete(&log, n, Durability::Process);
    }
    for _ in 0..3_000 {
        if log.stats().disk_bytes < 400_000 {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
    panic!("{:?}", log.stats());
}

#[test]
fn second_open_names_the_owner_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), LogOptions::default()).unwrap();
    put(&log, 1, &b"one"[..], Durability::Power);
    // Until the durable mark is written and synced, the owner itself goes on writing.
    while log.stats().syncs < 2 {
        std::thread::park_timeout(Duration::from_millis(5));
    }
    let before = files(dir.path());
    match Log::open(dir.path(), LogOptions::default()) {
        Err(OpenError::Locked { pid, .. }) => assert_eq!(pid, Some(std::process::id())),
        other => panic!("{other:?}"),
    }
    assert_eq!(files(dir.path()), before);
    drop(log);
    Log::open(dir.path(), LogOptions::default()).unwrap();
}

#[test]
fn one_rotten_payload_byte_is_one_corrupt_entry() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), LogOptions::default()).unwrap();
    for n in 0..10 {
        put(&log, n, payload(n, 100), Durability::Power);
    }
    drop(log);
    let path = dir.path().join("seg-0000000000000001.log");
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(100).position(|window| window == payload(5, 100)).unwrap();
    bytes[at + 50] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let log = Log::open(dir.path(), LogOptions::default()).unwrap();
    for n in 0..10 {
        match log.get(slot(n)) {
            Err(ReadError::Corrupt { slot: s }) if n == 5 => assert_eq!(s, slot(5)),
            got => assert_eq!(got.unwrap().unwrap(), payload(n, 100)),
        }
    }
    let damaged = log.damaged(1);
    assert_eq!(damaged.len(), 1);
    assert_eq!((damaged[0].slot, damaged[0].what), (Some(slot(5)), DamageKind::Payload));
    assert_eq!(log.snapshot(1).len(), 10);
    assert_eq!(log.unhealthy_reason(), None);
}

#[test]
fn vanished_segment_closes_the_gate_until_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), LogOptions { auto_compact: false, ..small() }).unwrap();
    for n in 0..100 {
        put(&log, n, payload(n, 3000), Durability::Process);
    }
    drop(log);
    std::fs::remove_file(dir.path().join("seg-0000000000000002.log")).unwrap();
    let log = Log::open(dir.path(), small()).unwrap();
    assert!(log.unhealthy_reason().is_some());
    assert!(log.damaged(1).iter().any(|d| d.what == DamageKind::Vanished && d.segment == 2));
    let mut batch = Batch::new();
    batch.put(slot(1000), "x".into());
    assert!(matches!(log.submit(batch, Durability::Power), Err(SubmitError::Unhealthy(_))));
    delete(&log, 1, Durability::Power);
    assert!(log.get(slot(99)).unwrap().is_some());
    assert!(log.compact(CompactMode::Full).is_err());
    log.acknowledge().unwrap();
    put(&log, 1000, &b"x"[..], Durability::Power);
    drop(log);
    let log = Log::open(dir.path(), small()).unwrap();
    assert_eq!(log.unhealthy_reason(), None);
    assert_eq!(log.damaged(1), vec![]);
}

#[test]
fn annulled_while_queued_or_in_flight_is_never_seen() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), LogOptions::default()).unwrap();
    let mut gone = Vec::new();
    for n in 0..500 {
        let mut batch = Batch::new();
        batch.put(slot(n), payload(n, 100).into());
        let ticket = log.submit(batch, Durability::Power).unwrap();
        if n % 3 == 0 && ticket.annul() != Annulment::AlreadyDone {
            gone.push(n);
        } else if n % 50 == 1 {
            done(ticket.wait(None).as_ref());
        }
    }
    assert!(!gone.is_empty());
    done(log.sync().wait(None).as_ref());
    for n in &gone {
        assert_eq!(log.get(slot(*n)).unwrap(), None);
    }
    drop(log);
    let log = Log::open(dir.path(), LogOptions::default()).unwrap();
    for n in 0..500 {
        assert_eq!(log.contains(slot(n)), !gone.contains(&n), "{n}");
    }
}

#[test]
fn verify_agrees_with_open_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), LogOptions { auto_compact: false, ..small() }).unwrap();
    for n in 0..100 {
        put(&log, n, payload(n, 3000), Durability::Process);
    }
    for n in 0..30 {
        delete(&log, n, Durability::Process);
    }
    assert!(matches!(larder_log::verify(dir.path()), Err(OpenError::Locked { .. })));
    log.close().unwrap();
    let before = files(dir.path());
    let report = larder_log::verify(dir.path()).unwrap();
    assert!(report.clean && report.is_sound(), "{report:?}");
    assert_eq!(report.entries, 70);
    let mut puts = 0;
    larder_log::dump(dir.path(), |item| puts += u64::from(item.to_string().contains(" put ")))
        .unwrap();
    assert_eq!(puts, 100);
    assert_eq!(files(dir.path()), before);
    // A rotten header and payload hide one record; the footer knows whose it is.
    let path = dir.path().join("seg-0000000000000002.log");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[4096 + 16..4096 + 60].fill(0xee);
    std::fs::write(&path, bytes).unwrap();
    let report = larder_log::verify(dir.path()).unwrap();
    assert_eq!(report.damage.len(), 1, "{report:?}");
    assert_eq!(report.damage[0].what, DamageKind::Payload);
    let log = Log::open(dir.path(), small()).unwrap();
    assert_eq!((log.damaged(1), log.stats().entries), (vec![], 70));
    let lost = report.damage[0].slot.unwrap();
    let is_lost = matches!(log.get(lost), Err(ReadError::Corrupt { .. }));
    assert_eq!(u64::from(is_lost), report.lost_entries);
    if is_lost {
        assert_eq!(log.damaged(1), report.damage);
    }
    assert!(matches!(
        larder_log::verify(&dir.path().join("nothing")),
        Err(OpenError::NotFound { .. })
    ));
}

#[test]
fn open_refuses_what_is_not_its_own_and_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let open = |path: &std::path::Path| Log::open(path, LogOptions::default()).unwrap_err();
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let error = open(&file);
    assert!(matches!(error, OpenError::NotAFolder { .. }), "{error}");
    assert!(error.to_string().contains("file is not a folder"), "{error}");
    let error = open(dir.path());
    assert!(matches!(&error, OpenError::Foreign { name, .. } if name == "file"), "{error}");
    let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
    assert_eq!(names.len(), 1, "the stranger's folder was changed");
    let missing = LogOptions { create_missing: false, ..LogOptions::default() };
    let nowhere = dir.path().join("nowhere");
    assert!(matches!(Log::open(&nowhere, missing), Err(OpenError::NotFound { .. })));
    assert!(!nowhere.exists());
    let error = open(&file.join("below"));
    assert!(error.to_string().contains("below"), "{error}");
}

#[test]
fn closing_twice_and_from_two_threads_waits_for_the_same_end() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), LogOptions::default()).unwrap();
    put(&log, 1, payload(1, 100_000), Durability::Process);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                log.close().unwrap();
                // The lock is free once any of them has returned.
                drop(larder_log::verify(dir.path()).unwrap());
            });
        }
    });
    log.close().unwrap();
}

/// A waker that lets go of the last handle.
struct LetGo(std::sync::Mutex<Option<Log>>);

impl std::task::Wake for LetGo {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.lock().unwrap().take();
    }
}

/// A pending ticket whose waker holds the last handle of its log.
fn pending(log: Log) -> larder_log::Ticket {
    use std::future::Future;
    let mut log = log;
    loop {
        let mut batch = Batch::new();
        batch.put(slot(1), payload(1, 30_000).into());
        let mut ticket = log.submit(batch, Durability::Power).unwrap();
        let holder = std::sync::Arc::new(LetGo(std::sync::Mutex::new(Some(log))));
        let waker = std::sync::Arc::clone(&holder).into();
        let mut context = std::task::Context::from_waker(&waker);
        if std::pin::Pin::new(&mut ticket).poll(&mut context).is_pending() {
            return ticket;
        }
        // It was done too soon to have to wake anybody.
        log = holder.0.lock().unwrap().take().unwrap();
    }
}

/// Whether what `act` does lets the log end, so that it can be opened again.
#[expect(clippy::disallowed_methods, reason = "the end of the log is seen from outside only")]
fn ends(act: impl FnOnce(larder_log::Ticket) + Send + 'static) {
    let dir = tempfile::tempdir().unwrap();
    let ticket = pending(Log::open(dir.path(), small()).unwrap());
    std::thread::spawn(move || act(ticket));
    let opened = (0..1000).find_map(|_| {
        std::thread::sleep(Duration::from_millis(10));
        Log::open(dir.path(), small()).ok()
    });
    let log = opened.unwrap();
    assert_eq!(log.get(slot(1)).unwrap().unwrap(), payload(1, 30_000));
}

#[test]
fn last_handle_may_be_dropped_by_a_waker_on_the_thread_of_the_log() {
    ends(|ticket| drop(ticket.wait(None)));
}

#[test]
fn last_handle_may_be_dropped_with_the_waker_of_a_dropped_ticket() {
    ends(drop);
}
