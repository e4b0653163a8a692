use proptest::prelude::*;

use super::*;

fn change() -> impl Strategy<Value = Change> {
    let version =
        any::<(u64, u64)>().prop_map(|(reading, origin)| Version::from_parts(reading, origin));
    let key = "[^\0]{1,200}".prop_map(|text| Key::new(text).unwrap());
    let tag = "[a-z /:]{1,100}".prop_map(|text| Tag::new(&text).unwrap());
    (0..4, version, key, tag).prop_map(|(kind, version, key, tag)| match kind {
        0 => Change::Put(key, version),
        1 => Change::Remove(key, version),
        2 => Change::RemoveTag(tag, version),
        _ => Change::Clear(version),
    })
}

fn frame() -> impl Strategy<Value = Frame> {
    let changes = proptest::collection::vec(change(), 0..40);
    (any::<u64>(), any::<u64>(), any::<bool>(), any::<bool>(), changes).prop_map(
        |(origin, number, well, goodbye, mut changes)| {
            changes.truncate(Frame::fitting(&changes));
            Frame { origin, number, well, goodbye, changes }
        },
    )
}

fn sealed(mut bytes: Vec<u8>) -> Bytes {
    let sum = checksum(&bytes).to_be_bytes();
    bytes.extend_from_slice(&sum);
    Bytes::from(bytes)
}

proptest! {
    #[test]
    fn a_frame_comes_back_as_it_was_and_fits_every_bus(frame in frame()) {
        let bytes = frame.encode();
        prop_assert!(bytes.len() <= FRAME_BYTES_MAX);
        prop_assert_eq!(Frame::parse(bytes), Ok(frame));
    }

    #[test]
    fn what_is_cut_off_or_turned_over_is_not_read(frame in frame(), at: usize, bit in 0..8_u8) {
        let whole = frame.encode();
        let at = at % whole.len();
        prop_assert!(Frame::parse(whole.slice(..at)).is_err());
        let mut turned = whole.to_vec();
        turned[at] ^= 1 << bit;
        prop_assert!(Frame::parse(Bytes::from(turned)).is_err());
        let mut longer = whole.to_vec();
        longer.push(0);
        prop_assert!(Frame::parse(Bytes::from(longer)).is_err());
    }

    #[test]
    fn whatever_comes_is_judged_without_a_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        seal: bool,
    ) {
        let mut ours = b"LRDB\x01\0".to_vec();
        ours.extend_from_slice(&bytes);
        let ours = if seal { sealed(ours) } else { Bytes::from(ours) };
        if let Ok(frame) = Frame::parse(ours.clone()) {
            prop_assert_eq!(frame.encode(), ours);
        }
        prop_assert!(Frame::parse(Bytes::from(bytes)).is_err());
    }
}

#[test]
fn the_layout_is_the_documented_one() {
    let key = Key::new("k").unwrap();
    let change = Change::Remove(key, Version::from_parts(2, 3));
    let frame = Frame { origin: 7, number: 8, well: true, goodbye: false, changes: vec![change] };
    let bytes = frame.encode();
    assert_eq!(&bytes[..7], b"LRDB\x01\x01\x01");
    assert_eq!(&bytes[7..23], &[0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 8]);
    assert_eq!(&bytes[23..42], b"\x02\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x03\0\x01");
    assert_eq!(&bytes[42..43], b"k");
    assert_eq!(&bytes[43..], crc32c::crc32c(&bytes[..43]).to_be_bytes());
}

#[test]
fn a_later_layout_is_foreign_and_so_is_what_this_one_does_not_know() {
    let head = |wire: u8, flags: u8, count: u8| {
        let mut bytes = b"LRDB".to_vec();
        bytes.extend_from_slice(&[wire, flags, count]);
        bytes.extend_from_slice(&[0; 16]);
        bytes
    };
    let foreign = Err(Unreadable::Foreign);
    assert_eq!(Frame::parse(sealed(head(2, 0, 0))), foreign);
    assert_eq!(Frame::parse(sealed(head(1, 4, 0))), foreign);
    let mut unknown_kind = head(1, 0, 1);
    unknown_kind.push(5);
    unknown_kind.extend_from_slice(&[0; 18]);
    assert_eq!(Frame::parse(sealed(unknown_kind)), foreign);
    assert_eq!(Frame::parse(Bytes::from("hello")), foreign);
    assert_eq!(Frame::parse(Bytes::from(head(1, 0, 0))), Err(Unreadable::Damaged));
    assert!(Frame::parse(sealed(head(1, 0, 0))).is_ok());
}

#[test]
fn the_longest_change_fits_and_as_many_as_fit_are_taken() {
    let longest = Change::Put(Key::new("k".repeat(1024)).unwrap(), Version::from_parts(1, 1));
    let many = vec![longest.clone(); 9];
    assert_eq!(Frame::fitting(&many), 3);
    let small = vec![Change::Clear(Version::from_parts(1, 1)); 300];
    let taken = Frame::fitting(&small);
    assert!((200..=255).contains(&taken), "{taken}");
}
