use super::*;
use crate::crc32c;

fn header() -> Header {
    Header {
        kind: Kind::Put,
        flags: FLAG_REPLACES,
        slot: Slot { namespace: 0x0102, id: *b"0123456789abcdef" },
        payload_len: 5,
        payload_crc: crc32c::of(b"hello"),
        lsn: 0x0102_0304_0506_0708,
    }
}

#[test]
fn header_round_trips() {
    assert_eq!(Header::decode(&header().encode(7), 7), Some(header()));
}

#[test]
fn header_of_another_segment_or_store_is_refused() {
    let (a, b) = ([1; 16], [2; 16]);
    let bytes = header().encode(seed(&a, 1));
    assert!(Header::decode(&bytes, seed(&a, 1)).is_some());
    assert!(Header::decode(&bytes, seed(&a, 2)).is_none());
    assert!(Header::decode(&bytes, seed(&b, 1)).is_none());
}

#[test]
fn every_flipped_bit_of_a_header_is_noticed() {
    let good = header().encode(7);
    for bit in 0..HEADER_LEN * 8 {
        let mut bad = good;
        bad[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(Header::decode(&bad, 7), None, "bit {bit}");
    }
}

#[test]
fn zeros_and_short_input_are_no_header() {
    assert_eq!(Header::decode(&[0; HEADER_LEN], 0), None);
    assert_eq!(Header::decode(&[0; HEADER_LEN - 1], 7), None);
    assert_eq!(Header::decode(&[], 7), None);
}

#[test]
fn frames_are_padded_to_eight_bytes() {
    for len in 0..40 {
        let payload = vec![9; len];
        let mut out = Vec::new();
        let header = Header::control(Kind::Put, 1, &payload);
        push_frame(&mut out, &header, &payload, 7);
        assert_eq!(out.len() as u64, header.frame_len());
        assert_eq!(out.len() % 8, 0);
    }
}

#[test]
fn bodies_round_trip() {
    let commit = Commit { first_lsn: 1, durable_lsn: 2, count: 3, headers_crc: 4 };
    assert_eq!(Commit::decode(&commit.encode()), Some(commit));
    let seal = Seal { offset: 1, frames: 2, min_lsn: 3, max_lsn: 4, footer: 5, headers_crc: 6 };
    assert_eq!(Seal::decode(&seal.encode()), Some(seal));
    assert_eq!(decode_delete(&encode_delete(77)), 77);
    assert_eq!(decode_abort(&encode_abort(&[(1, 2), (9, 9)])), vec![(1, 2), (9, 9)]);
}

proptest::proptest! {
    #[test]
    fn decoding_any_bytes_never_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..80)) {
        let _ = Header::decode(&bytes, 1);
        let _ = Commit::decode(&bytes);
        let _ = Seal::decode(&bytes);
        let _ = decode_delete(&bytes);
        let _ = decode_abort(&bytes);
    }
}
