//! Random histories on the real disk, with the log's own threads, against a map.

#![expect(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "this is a test")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use larder_log::{
    Batch, CompactMode, Durability, Log, LogOptions, Outcome, Slot, SubmitError, Ticket,
};
use proptest::prelude::*;

fn slot(n: u8) -> Slot {
    Slot { namespace: u16::from(n % 2), id: [n; 16] }
}

fn options() -> LogOptions {
    LogOptions { segment_bytes: 32 << 10, ..LogOptions::default() }
}

#[derive(Clone, Debug)]
enum Act {
    Write { ops: Vec<(u8, Option<(u8, usize)>)>, power: bool, wait: bool },
    Compact(bool),
    Reopen,
    Sync,
    LowMemory,
}

fn act() -> impl Strategy<Value = Act> {
    let value = prop_oneof![
        3 => (any::<u8>(), 0..600usize).prop_map(Some),
        1 => (any::<u8>(), 3000..40_000usize).prop_map(Some),
        2 => Just(None),
    ];
    let ops = prop::collection::vec((0..12u8, value), 1..5);
    prop_oneof![
        20 => (ops, any::<bool>(), any::<bool>())
            .prop_map(|(ops, power, wait)| Act::Write { ops, power, wait }),
        1 => any::<bool>().prop_map(Act::Compact),
        1 => Just(Act::Reopen),
        1 => Just(Act::Sync),
        1 => Just(Act::LowMemory),
    ]
}

fn compare(log: &Log, model: &BTreeMap<u8, Vec<u8>>) {
    for n in 0..12 {
        assert_eq!(log.get(slot(n)).unwrap().as_deref(), model.get(&n).map(Vec::as_slice));
        assert_eq!(log.contains(slot(n)), model.contains_key(&n));
    }
    let listed: usize = (0..2).map(|namespace| log.snapshot(namespace).len()).sum();
    assert_eq!(listed, model.len());
    assert_eq!(log.stats().entries, model.len() as u64);
}

fn run(acts: &[Act]) {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(dir.path(), options()).unwrap();
    let mut model = BTreeMap::new();
    let mut pending: Vec<Ticket> = Vec::new();
    for act in acts {
        match act {
            Act::Write { ops, power, wait } => {
                let mut batch = Batch::new();
                for (n, value) in ops {
                    if let Some((byte, len)) = value {
                        batch.put(slot(*n), vec![*byte; *len].into());
                        model.insert(*n, vec![*byte; *len]);
                    } else {
                        batch.delete(slot(*n));
                        model.remove(n);
                    }
                }
                let durability = if *power { Durability::Power } else { Durability::Process };
                pending.push(log.submit(batch, durability).unwrap());
                if *wait {
                    finish(&mut pending);
                    compare(&log, &model);
                }
            }
            Act::Compact(full) => {
                let mode = if *full { CompactMode::Full } else { CompactMode::Step };
                log.compact(mode).unwrap();
            }
            Act::Reopen => {
                log.close().unwrap();
                finish(&mut pending);
                log = Log::open(dir.path(), options()).unwrap();
                assert!(log.recovery().clean);
                compare(&log, &model);
            }
            Act::Sync => {
                assert!(matches!(log.sync().wait(None), Some(Outcome::Done { .. })));
                finish(&mut pending);
            }
            Act::LowMemory => {
                let _ = log.advise_low_memory();
            }
        }
    }
    finish(&mut pending);
    compare(&log, &model);
    drop(log);
    let report = larder_log::verify(dir.path()).unwrap();
    assert!(report.is_sound() && report.clean, "{report:?}");
    assert_eq!(report.entries, model.len() as u64);
}

fn finish(pending: &mut Vec<Ticket>) {
    for ticket in pending.drain(..) {
        assert!(matches!(ticket.wait(None), Some(Outcome::Done { .. })));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_history_ends_as_the_map_says(acts in prop::collection::vec(act(), 1..60)) {
        run(&acts);
    }
}

/// Writers own disjoint slots and know what they were told; readers and compaction never stop.
#[test]
fn writers_readers_and_compaction_do_not_disturb_each_other() {
    const WRITERS: u8 = 6;
    const ROUNDS: u64 = 300;
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), options()).unwrap();
    let stop = AtomicBool::new(false);
    let reads = AtomicU64::new(0);
    let key = |writer: u8, n: u64| {
        let mut id = [writer; 16];
        id[..8].copy_from_slice(&n.to_le_bytes());
        Slot { namespace: 9, id }
    };
    std::thread::scope(|scope| {
        let (log, stop, reads) = (&log, &stop, &reads);
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                scope.spawn(move || {
                    for n in 0..ROUNDS {
                        let durability =
                            if n % 3 == 0 { Durability::Power } else { Durability::Process };
                        let mut batch = Batch::new();
                        batch.put(key(writer, n), vec![writer; 200 + n as usize].into());
                        if n >= 5 {
                            batch.delete(key(writer, n - 5));
                        }
                        let ticket = log.submit(batch, durability).unwrap();
                        assert!(matches!(ticket.wait(None), Some(Outcome::Done { .. })));
                        assert_eq!(
                            log.get(key(writer, n)).unwrap().unwrap().len(),
                            200 + n as usize
                        );
                        if n >= 5 {
                            assert_eq!(log.get(key(writer, n - 5)).unwrap(), None);
                        }
                    }
                })
            })
            .collect();
        scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                for entry in log.snapshot(9) {
                    if let Some(bytes) = log.get(entry.slot).unwrap() {
                        assert!(bytes.iter().all(|byte| *byte == entry.slot.id[15]));
                        reads.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        });
        scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                log.compact(CompactMode::Full).unwrap();
            }
        });
        for writer in writers {
            writer.join().unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(reads.load(Ordering::Relaxed) > 0);
    assert_eq!(log.stats().entries, u64::from(WRITERS) * 5);
    assert_eq!(log.stats().in_flight_bytes, 0);
    log.compact(CompactMode::Full).unwrap();
    let stats = log.stats();
    drop(log);
    let log = Log::open(dir.path(), options()).unwrap();
    assert_eq!(log.stats().entries, u64::from(WRITERS) * 5);
    assert_eq!(log.stats().live_bytes, stats.live_bytes);
    assert_eq!(log.stats().disk_bytes, stats.disk_bytes);
}

#[test]
fn a_full_budget_is_refused_and_admission_waits_its_turn() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let tight = LogOptions { budget_bytes: 8192, ..LogOptions::default() };
    let log = Log::open(dir.path(), tight).unwrap();
    let batch = |n: u64| {
        let mut batch = Batch::new();
        let mut id = [0; 16];
        id[..8].copy_from_slice(&n.to_le_bytes());
        batch.put(Slot { namespace: 1, id }, vec![7; 4000].into());
        batch
    };
    let refused = (0..200)
        .filter(|n| matches!(log.submit(batch(*n), Durability::Power), Err(SubmitError::Full)))
        .count();
    assert!(refused > 0);
    runtime.block_on(async {
        let mut tasks = Vec::new();
        for n in 1000..1200 {
            let (log, batch) = (log.clone(), batch(n));
            tasks.push(tokio::spawn(async move {
                let permit = log.admission(batch.bytes()).await.unwrap();
                log.submit_admitted(batch, Durability::Power, permit).unwrap().await
            }));
        }
        for (i, task) in tasks.into_iter().enumerate() {
            if i % 7 == 0 {
                task.abort();
                let _ = task.await;
            } else {
                assert!(matches!(task.await.unwrap(), Outcome::Done { .. }));
            }
        }
        assert!(matches!(log.shutdown().await, Outcome::Done { .. }));
        assert_eq!(log.admission(1).await.unwrap_err(), SubmitError::Closed);
    });
    assert_eq!(log.stats().in_flight_bytes, 0);
}
