use super::*;
use crate::Slot;
use crate::io::{Io, write_all};
use crate::record::push_frame;
use crate::segment::FRAMES_START;
use crate::sim::SimDisk;

const SEED: u32 = 11;

fn header(n: u8) -> Header {
    let slot = Slot { namespace: 1, id: [n; 16] };
    let header = Header { kind: Kind::Put, slot, ..Header::control(Kind::Put, u64::from(n), &[]) };
    header.of(&[n; 50])
}

/// Three records, positions 1 to 3.
fn records() -> Vec<u8> {
    let mut bytes = Vec::new();
    for n in 1..=3 {
        push_frame(&mut bytes, &header(n), &[n; 50], SEED);
    }
    bytes
}

fn mend(bytes: &[u8], after: Option<u64>) -> Mended {
    let disk = SimDisk::new(1);
    let file = disk.create(std::path::Path::new("/f")).unwrap();
    write_all(&*file, &[bytes], FRAMES_START).unwrap();
    let met = crate::scan::scan(&*file, SEED, FRAMES_START, u64::MAX).unwrap();
    scan(&*file, SEED, met, after, u64::MAX).unwrap()
}

fn lsns(mended: &Mended) -> Vec<u64> {
    mended.scan.events.iter().filter_map(Event::frame).map(|frame| frame.header.lsn).collect()
}

#[test]
fn any_byte_of_any_header_is_put_right_whatever_it_became() {
    for (n, at) in (1..=3).flat_map(|n| (0..HEADER_LEN).map(move |at| (n, at))) {
        for flip in [0x01, 0x80, 0x5a, 0xff] {
            let mut bytes = records();
            bytes[(n - 1) * 96 + at] ^= flip;
            for after in [Some(0), None] {
                let mended = mend(&bytes, after);
                assert_eq!(lsns(&mended), [1, 2, 3], "{n} at {at} ^ {flip:x}");
                let place = FRAMES_START + (n as u64 - 1) * 96;
                let header = header(u8::try_from(n).unwrap());
                assert_eq!(mended.headers, [(place, header)]);
            }
        }
    }
}

#[test]
fn neighbours_may_both_be_rotten() {
    let mut bytes = records();
    bytes[3] ^= 1;
    bytes[96 + 30] ^= 1;
    assert_eq!(lsns(&mend(&bytes, Some(0))), [1, 2, 3]);
}

#[test]
fn two_rotten_bytes_of_a_header_stay_unreadable() {
    let mut bytes = records();
    bytes[96 + 20] ^= 1;
    bytes[96 + 30] ^= 1;
    let mended = mend(&bytes, Some(0));
    assert_eq!((lsns(&mended), mended.headers.len()), (vec![1, 3], 0));
}

#[test]
fn header_is_not_believed_against_its_payload_its_neighbours_or_its_place() {
    // The payload is rotten, too.
    let mut bytes = records();
    bytes[96 + 20] ^= 1;
    bytes[96 + 50] ^= 1;
    assert_eq!(lsns(&mend(&bytes, Some(0))), [1, 3]);
    // Its position is not one above that before it, and nothing follows.
    let mut bytes = records();
    bytes.truncate(96);
    push_frame(&mut bytes, &header(5), &[5; 50], SEED);
    bytes[96 + 20] ^= 1;
    assert_eq!(lsns(&mend(&bytes, Some(0))), [1]);
    // It is that of a record before.
    let mut bytes = records();
    let first = bytes[..96].to_vec();
    bytes[96..192].copy_from_slice(&first);
    bytes[96 + 20] ^= 1;
    assert_eq!(lsns(&mend(&bytes, Some(0))), [1, 3]);
}
