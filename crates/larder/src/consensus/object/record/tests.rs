use proptest::collection::vec;
use proptest::prelude::{Strategy, any, proptest};

use super::*;

fn record() -> impl Strategy<Value = Record> {
    let versions = vec((1_u64..1 << 40, vec(any::<u8>(), 0..40)), 1..12);
    (".{1,20}", versions, vec(any::<u64>(), 1..=WRITERS), 0_u64..1 << 50).prop_filter_map(
        "a key without NUL",
        |(key, steps, writers, more)| {
            key::check_key(&key).ok()?;
            let mut seqno = 0;
            let versions = steps.into_iter().map(|(step, data)| {
                seqno += step;
                VersionedData { seqno: SeqNo(seqno), data: data.into() }
            });
            let writes = u64::try_from(writers.len()).ok()? + more;
            Some(Record { key, writes, versions: versions.collect(), writers })
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_is_read(record in record()) {
        let bytes = record.encode();
        assert!(u64::try_from(bytes.len()).unwrap() <= record.bytes());
        assert_eq!(Record::decode(&bytes), Ok(record));
    }

    #[test]
    fn one_wrong_bit_is_found(record in record(), at in any::<proptest::sample::Index>(), bit in 0..8) {
        let mut bytes = record.encode().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= 1_u8 << bit;
        // Another version number is told by name: that release has checksums of its own.
        let expected = if at == 4 { "newer" } else { "damaged" };
        let found = match Record::decode(&bytes.into()) {
            Ok(_) => "sound",
            Err(Unreadable::Newer(_)) => "newer",
            Err(Unreadable::Damaged(_)) => "damaged",
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_cut_off_is_damaged(record in record(), at in any::<proptest::sample::Index>()) {
        let bytes = record.encode();
        let short = bytes.slice(..at.index(bytes.len()));
        assert!(matches!(Record::decode(&short), Err(Unreadable::Damaged(_))));
        let long: Bytes = [&bytes[..], b"x"].concat().into();
        assert!(matches!(Record::decode(&long), Err(Unreadable::Damaged(_))));
    }

    /// With a sound checksum, whatever else is wrong: decoded bytes encode to themselves.
    #[test]
    fn arbitrary_bytes_with_a_sound_checksum_are_refused_or_mean_themselves(
        record in record(),
        changes in vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
        len in any::<proptest::sample::Index>(),
        cut in proptest::bool::ANY,
    ) {
        let mut bytes = record.encode().to_vec();
        if cut {
            bytes.truncate(HEADER + len.index(bytes.len() - HEADER + 1));
        }
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let sum = checksum(&bytes).to_le_bytes();
        bytes[CHECKSUM].copy_from_slice(&sum);
        let bytes = Bytes::from(bytes);
        if let Ok(read) = Record::decode(&bytes) {
            assert_eq!(read.encode(), bytes);
        }
    }

    #[test]
    fn the_last_writers_are_known_by_number(count in 1_u64..200, asked in 0_u64..210) {
        let mut record = Record { key: "k".into(), writes: 0, writers: Vec::new(), versions: Vec::new() };
        for number in 1..=count {
            record.sign(number * 7);
        }
        let is_known = asked >= 1 && asked <= count && count - asked < 64;
        assert_eq!(record.writer(asked), is_known.then_some(asked * 7));
    }
}

#[test]
fn the_bytes_are_those_of_the_documented_format() {
    let version =
        |seqno, data: &'static str| VersionedData { seqno: SeqNo(seqno), data: data.into() };
    let record = Record {
        key: "k".into(),
        writes: 3,
        writers: vec![0x0102_0304_0506_0708],
        versions: vec![version(5, ""), version(10, "ten")],
    };
    let mut expected =
        Vec::from(*b"LRDO\x01\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x01\0\x01\0\x02\0\0\0k");
    expected.extend([8, 7, 6, 5, 4, 3, 2, 1]);
    expected.extend([5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    expected.extend([10, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0]);
    expected.extend(b"ten");
    // A second opinion on the checksum.
    let sum = crc32c::crc32c(&[&expected[..8], &expected[12..]].concat());
    expected[CHECKSUM].copy_from_slice(&sum.to_le_bytes());
    assert_eq!(record.encode(), expected);
}

#[test]
fn counts_that_promise_more_than_there_is_take_no_memory() {
    let record = Record {
        key: "k".into(),
        writes: 1,
        writers: vec![1],
        versions: vec![VersionedData { seqno: SeqNo(1), data: "x".into() }],
    };
    let mut bytes = record.encode().to_vec();
    bytes[24..28].copy_from_slice(&u32::MAX.to_le_bytes());
    let sum = checksum(&bytes).to_le_bytes();
    bytes[CHECKSUM].copy_from_slice(&sum);
    let read = Record::decode(&bytes.into());
    assert_eq!(read, Err(Unreadable::Damaged("it has no versions, or fewer than it says")));
}

#[test]
fn a_count_that_cannot_go_on_is_damage() {
    let mut record = Record {
        key: "k".into(),
        writes: u64::MAX - 1,
        writers: vec![1],
        versions: vec![VersionedData { seqno: SeqNo(1), data: "x".into() }],
    };
    assert!(Record::decode(&record.encode()).is_ok());
    record.sign(2);
    let told = "it counts more writes than there can have been";
    assert_eq!(Record::decode(&record.encode()), Err(Unreadable::Damaged(told)));
}
