use proptest::prelude::*;

use super::*;

const FORM: Form = Form { codec: 1, compression: 0, fingerprint: 0x0102_0304_0506_0708 };

fn record(life: &CacheValue<()>, key: Option<&str>, payload: &[u8]) -> Vec<u8> {
    let mut record = begin(FORM, life, key);
    record.extend_from_slice(payload);
    seal(&mut record);
    record
}

fn life() -> impl Strategy<Value = CacheValue<()>> {
    let time = || proptest::option::of(any::<u64>().prop_map(Timestamp::from_nanos));
    let version =
        any::<(u64, u64)>().prop_map(|(reading, origin)| Version::from_parts(reading, origin));
    (time(), time(), proptest::option::of(version))
        .prop_map(|(expire, stale, version)| CacheValue { data: (), expire, stale, version })
}

#[test]
fn the_layout_is_the_documented_one() {
    let life = CacheValue {
        data: (),
        expire: Some(Timestamp::from_nanos(1)),
        stale: None,
        version: Some(Version::from_parts(2, 3)),
    };
    let record = record(&life, None, b"payload");
    assert_eq!(&record[..12], b"LRDC\x01\x05\0\0\x01\0\0\0");
    assert_eq!(&record[16..24], &[8, 7, 6, 5, 4, 3, 2, 1]);
    assert_eq!(&record[24..40], &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(&record[40..56], &[0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3]);
    assert_eq!(&record[56..], b"payload");
}

#[test]
fn a_later_layout_is_foreign_whatever_its_checksum() {
    let mut record = record(&CacheValue::new(()), None, b"payload");
    record[4] = 2;
    assert_eq!(parse(&Bytes::from(record)), Err(Unreadable::Foreign));
}

#[test]
fn an_unknown_flag_under_a_good_checksum_is_foreign() {
    let mut record = record(&CacheValue::new(()), None, b"payload");
    record[5] |= 0x80;
    seal(&mut record);
    assert_eq!(parse(&Bytes::from(record)), Err(Unreadable::Foreign));
}

#[test]
fn a_version_that_no_clock_gives_is_foreign_under_a_good_checksum() {
    let life = CacheValue::new(()).with_version(Version::from_parts(7, 9));
    let mut record = record(&life, None, b"payload");
    record[40..48].fill(0xFF);
    seal(&mut record);
    assert_eq!(parse(&Bytes::from(record)), Err(Unreadable::Foreign));
}

#[test]
fn a_key_length_beyond_the_end_is_damage_even_under_a_good_checksum() {
    let mut record = record(&CacheValue::new(()), Some("key"), b"");
    record[HEADER_LEN] = 4;
    seal(&mut record);
    assert_eq!(parse(&Bytes::from(record)), Err(Unreadable::Damaged));
}

proptest! {
    #[test]
    fn what_was_written_is_read(
        life in life(),
        key in proptest::option::of("[a-z]{1,40}"),
        payload: Vec<u8>,
    ) {
        let bytes = Bytes::from(record(&life, key.as_deref(), &payload));
        let parsed = parse(&bytes).unwrap();
        prop_assert_eq!(parsed.form, FORM);
        prop_assert_eq!(parsed.key.as_deref(), key.as_deref().map(str::as_bytes));
        prop_assert_eq!(parsed.value, life.map(|()| Bytes::from(payload)));
    }

    #[test]
    fn arbitrary_bytes_are_never_a_record(bytes: Vec<u8>, at in 0..8_usize) {
        prop_assert!(parse(&Bytes::from(bytes.clone())).is_err());
        // The same behind a good beginning, and from an odd address.
        let mut record = record(&CacheValue::new(()), Some("key"), b"");
        record.truncate(HEADER_LEN.min(16 + at * 4));
        record.extend_from_slice(&bytes);
        let shifted = Bytes::from([&[0][..], &record].concat()).slice(1..);
        prop_assert!(parse(&shifted).is_err());
        // Sealed, so that everything behind the checksum is read: it must not panic.
        seal(&mut record);
        drop(parse(&Bytes::from(record)));
    }

    #[test]
    fn no_flipped_bit_and_no_cut_goes_unnoticed(
        life in life(),
        payload in proptest::collection::vec(any::<u8>(), 0..64),
        at: prop::sample::Index,
        bit in 0..8_u8,
    ) {
        let good = record(&life, None, &payload);
        let mut flipped = good.clone();
        flipped[at.index(good.len())] ^= 1 << bit;
        prop_assert!(parse(&Bytes::from(flipped)).is_err());
        prop_assert!(parse(&Bytes::from(good).slice(..at.index(HEADER_LEN + payload.len()))).is_err());
    }
}
