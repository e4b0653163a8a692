use super::*;
use crate::crc32c;

fn header() -> SegmentHeader {
    SegmentHeader {
        store: [7; 16],
        id: 9,
        base_lsn: 100,
        as_of_lsn: 50,
        origin: Origin::Compaction,
        recycled: true,
    }
}

#[test]
fn header_round_trips_in_one_block() {
    let bytes = header().encode();
    assert_eq!(bytes.len() as u64, FRAMES_START);
    assert_eq!(SegmentHeader::decode(&bytes), Ok(header()));
}

#[test]
fn every_flipped_bit_of_a_header_is_damage_and_never_a_newer_version() {
    let good = header().encode();
    for bit in 0..(FIELDS_LEN + 4) * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(SegmentHeader::decode(&bad), Err(HeaderFault::Damaged), "bit {bit}");
    }
}

#[test]
fn later_version_is_named() {
    let mut bytes = header().encode();
    bytes[8..12].copy_from_slice(&7u32.to_le_bytes());
    let crc = crc32c::of(&bytes[..FIELDS_LEN]);
    bytes[FIELDS_LEN..FIELDS_LEN + 4].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(SegmentHeader::decode(&bytes), Err(HeaderFault::Newer(7)));
}

#[test]
fn names_round_trip_and_others_are_refused() {
    assert_eq!(parse_name(&file_name(0xabc)), Some(0xabc));
    for name in ["seg-1.log", "seg-000000000000000G.log", "seg-0000000000000ABC.log", "MANIFEST"] {
        assert_eq!(parse_name(name), None, "{name}");
    }
}

#[test]
fn cut_stands_behind_the_header_and_no_flipped_bit_of_it_is_believed() {
    let cut = Cut { segment: 8, end: 5000 };
    let mut good = header().encode();
    assert_eq!(Cut::decode(&good), None);
    cut.put_into(&mut good);
    assert_eq!((SegmentHeader::decode(&good), Cut::decode(&good)), (Ok(header()), Some(cut)));
    for bit in 0..START_LEN * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(Cut::decode(&bad), None, "bit {bit}");
    }
}
