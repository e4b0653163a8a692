use futures_util::FutureExt as _;
use larder_core::{MemorySpool, Timestamp, Version};
use proptest::prelude::*;

use super::super::debts::{Due, Loss, Missed};
use super::*;

fn records() -> Vec<Record> {
    let version = |reading| Version::from_parts(reading, u64::MAX);
    let missed = |expire| Some(Missed { version: version(7), expire });
    let losses = [
        Loss::default(),
        Loss { missed: None, void: Some(version(3)) },
        Loss { missed: missed(None), void: None },
        Loss { missed: missed(Some(Timestamp::from_nanos(12))), void: Some(version(9)) },
    ];
    let key = |text: &str| Key::new(text).ok();
    let mut records = Vec::new();
    for loss in losses {
        for due in [Due::Forget, Due::Remove] {
            for layer in [CompositionLayer::L1, CompositionLayer::L2] {
                for key in [None, key("k"), key(&"ä".repeat(512))] {
                    records.push(Record { layer, key, owes: Owes { due, loss } });
                }
            }
        }
    }
    records
}

#[test]
fn what_is_written_down_is_read_again() {
    let name = Key::new("products").unwrap();
    for record in records() {
        assert_eq!(parse(&record.encode(&name)), Ok((name.clone(), record)));
    }
}

#[test]
fn a_flipped_or_missing_byte_is_damage_and_other_bytes_are_foreign() {
    let name = Key::new("products").unwrap();
    for record in records() {
        let bytes = record.encode(&name);
        for at in 4..bytes.len() {
            let mut flipped = bytes.to_vec();
            flipped[at] ^= 0x10;
            assert_eq!(parse(&flipped.into()), Err(Unreadable::Damaged), "{at}");
            assert_eq!(parse(&bytes.slice(..at)), Err(Unreadable::Damaged), "{at}");
        }
    }
    for bytes in [&b""[..], b"LRD", b"a mail", b"lrdo and more"] {
        assert_eq!(parse(&Bytes::from_static(bytes)), Err(Unreadable::Foreign));
    }
}

fn versions() -> impl Strategy<Value = Version> {
    (any::<u64>(), any::<u64>()).prop_map(|(reading, origin)| Version::from_parts(reading, origin))
}

prop_compose! {
    fn any_record()(
        l1: bool,
        forget: bool,
        key in proptest::option::of("[^\\x00-\\x1f]{1,300}"),
        void in proptest::option::of(versions()),
        missed in proptest::option::of((versions(), proptest::option::of(1_u64..))),
    ) -> Record {
        let expire = |nanos: Option<u64>| nanos.map(Timestamp::from_nanos);
        let missed = missed.map(|(version, nanos)| Missed { version, expire: expire(nanos) });
        let due = if forget { Due::Forget } else { Due::Remove };
        Record {
            layer: if l1 { CompositionLayer::L1 } else { CompositionLayer::L2 },
            key: key.and_then(|key| Key::new(key).ok()),
            owes: Owes { due, loss: Loss { missed, void } },
        }
    }
}

proptest! {
    #[test]
    fn any_debt_is_read_again_as_it_was_written(
        record in any_record(),
        name in "[^\\x00-\\x1f]{1,300}",
    ) {
        let name = Key::new(name).unwrap();
        prop_assert_eq!(parse(&record.encode(&name)), Ok((name, record)));
    }

    #[test]
    fn bytes_with_a_sound_checksum_are_damage_or_what_would_be_written_for_them(
        record in any_record(),
        at: usize,
        with in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let bytes = record.encode(&Key::new("products").unwrap());
        let end = bytes.len() - 4;
        let at = 4 + at % (end - 4);
        let mut changed = bytes[..end].to_vec();
        changed.splice(at..(at + with.len()).min(end), with);
        changed.extend(crc32c::crc32c(&changed).to_be_bytes());
        let changed = Bytes::from(changed);
        match parse(&changed) {
            Ok((name, read)) => prop_assert_eq!(parse(&read.encode(&name)), Ok((name, read))),
            Err(why) => prop_assert_eq!(why, Unreadable::Damaged),
        }
    }
}

#[tokio::test]
async fn who_has_changed_something_waits_for_whoever_is_writing_it_down() {
    let spool = MemorySpool::new(SystemClock::shared(), 1 << 20, 9);
    let ledger = DebtLedger::open(SharedSpool::new(spool), "test").await.unwrap();
    let (ledger, owed) = ledger.of(CompositionLayer::L2, "test");
    assert_eq!(owed, []);
    ledger.touch(None);
    let writing = ledger.entries.lock().await;
    let taken = Taken::of(&ledger);
    assert!(ledger.touched().keys.is_empty());
    assert_eq!(ledger.unwritten(), 1, "it is not written before that is done");
    assert!(ledger.write(|_| None).now_or_never().is_none());
    drop((taken, writing));
    assert_eq!(ledger.unwritten(), 1, "dropped half-way, it is left to the next one");
    assert!(ledger.write(|_| None).now_or_never().is_some());
}

#[tokio::test]
async fn what_was_not_written_to_its_end_is_written_by_the_next_one() {
    let spool = SharedSpool::new(MemorySpool::new(SystemClock::shared(), 1 << 20, 1));
    let ledger = DebtLedger::open(spool.clone(), "test").await.unwrap();
    let (ledger, _) = ledger.of(CompositionLayer::L2, "test");
    let other = SpoolId::new(&SystemClock);
    spool.store(other, Bytes::from_static(b"in the way"), true, None).await.unwrap();
    ledger.touch(None);
    ledger.write(|_| Some(Owes::EVERYTHING)).await;
    assert_eq!(ledger.unwritten(), 1);
    spool.remove(other).await.unwrap();
    ledger.write(|_| Some(Owes::EVERYTHING)).await;
    assert_eq!(ledger.unwritten(), 0);
    assert_eq!(spool.stats().await.unwrap().entries, 1);
    ledger.touch(None);
    ledger.write(|_| None).await;
    assert_eq!(spool.stats().await.unwrap().entries, 0);
}
