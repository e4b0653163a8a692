use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::group::control_frame;
use crate::io::{Io, write_all};
use crate::record::push_frame;
use crate::sim::{SimDisk, SimRandom};

const SEED: u32 = 9;

/// A sealed segment with all kinds of frames in it: its bytes from the first frame on, where its
/// footer begins, and the frames.
fn segment(seed: u64) -> (Vec<u8>, u64, Vec<Frame>) {
    let mut random = SimRandom::new(seed);
    let (mut bytes, mut frames, mut hints) = (Vec::new(), Vec::new(), Hints::default());
    let mut lsn = 1 + random.below(1 << 40);
    for _ in 0..=random.below(30) {
        let slot = Slot {
            namespace: u16::from_le_bytes([1, u8::from(random.chance(5))]),
            id: std::array::from_fn(|_| random.next().to_le_bytes()[0]),
        };
        let (kind, payload, body) = match random.below(5) {
            0 => (Kind::Delete, encode_delete(lsn / 2).to_vec(), Body::Delete(lsn / 2)),
            1 => {
                let ranges = [(lsn / 3, lsn / 2), (lsn - 1, lsn)];
                (Kind::Abort, encode_abort(&ranges), Body::Abort(ranges.into()))
            }
            2 => (Kind::Commit, vec![seed.to_le_bytes()[0]; Commit::LEN], Body::None),
            _ => {
                let len = usize::try_from(random.below(300)).unwrap();
                (Kind::Put, vec![lsn.to_le_bytes()[0]; len], Body::None)
            }
        };
        let control = Header::control(kind, lsn, &payload);
        let header = match kind {
            Kind::Put => Header { slot, flags: u8::from(random.chance(2)), ..control },
            Kind::Delete => Header { slot, ..control },
            _ => control,
        };
        let offset = FRAMES_START + bytes.len() as u64;
        push_frame(&mut bytes, &header, &payload, SEED);
        let header_crc = header_crc(&header.encode(SEED));
        let frame = Frame { offset, header, header_crc, payload_ok: true, body };
        hints.push_frame(&frame);
        frames.push(frame);
        // Copies have gaps, and go back.
        lsn = if random.chance(4) { 1 + random.below(1 << 40) } else { lsn + 1 };
    }
    let footer = FRAMES_START + bytes.len() as u64;
    let lsns = frames.iter().map(|frame| frame.header.lsn);
    let range = (lsns.clone().min().unwrap(), lsns.max().unwrap());
    let seal = hints.seal(footer, range).encode();
    bytes.extend(control_frame(Kind::Footer, lsn, hints.payload().unwrap(), SEED));
    assert_eq!(FRAMES_START + bytes.len() as u64, footer + hints.footer_len());
    bytes.extend(control_frame(Kind::Seal, lsn + 1, &seal, SEED));
    (bytes, footer, frames)
}

fn file(bytes: &[u8]) -> Arc<dyn File> {
    let file = SimDisk::new(1).create(Path::new("/f")).unwrap();
    write_all(&*file, &[bytes], FRAMES_START).unwrap();
    file
}

fn read(bytes: &[u8]) -> Option<Footer> {
    let end = FRAMES_START + bytes.len() as u64;
    Footer::read(&*file(bytes), SEED, end, None).unwrap()
}

fn at(offset: u64) -> usize {
    usize::try_from(offset - FRAMES_START).unwrap()
}

#[test]
fn footer_tells_of_every_frame_as_it_was_written() {
    for seed in 0..200 {
        let (bytes, _, frames) = segment(seed);
        let footer = read(&bytes).unwrap();
        assert!(footer.frames().eq(frames), "{seed}");
    }
}

#[test]
fn footer_or_seal_with_a_flipped_byte_is_not_believed() {
    let (bytes, footer, _) = segment(3);
    let header = Header::decode(&bytes[at(footer)..], SEED).unwrap();
    let padding =
        at(footer) + HEADER_LEN + header.payload_len as usize..at(footer + header.frame_len());
    for place in (at(footer)..bytes.len()).filter(|place| !padding.contains(place)) {
        let mut rotten = bytes.clone();
        rotten[place] ^= 0x41;
        assert!(read(&rotten).is_none(), "{place} of {}", bytes.len());
    }
}

/// Whatever it was that changed the records before the checksum was taken.
#[test]
fn footer_that_lies_under_a_sound_checksum_is_not_believed() {
    for seed in 0..20 {
        let (bytes, footer, _) = segment(seed);
        let header = Header::decode(&bytes[at(footer)..], SEED).unwrap();
        let from = at(footer) + HEADER_LEN;
        let payload = &bytes[from..from + header.payload_len as usize];
        let seal = &bytes[bytes.len() - HEADER_LEN - Seal::LEN..];
        for place in 0..payload.len() {
            for flip in [0x01, 0x10, 0x80] {
                let mut lie = payload.to_vec();
                lie[place] ^= flip;
                let frame = control_frame(Kind::Footer, header.lsn, &lie, SEED);
                let lying = [&bytes[..at(footer)], &frame, seal].concat();
                assert!(read(&lying).is_none(), "{seed}: {place} of {}", payload.len());
            }
        }
        // One record less, and one more.
        for lie in [&payload[..payload.len() - 1], &[payload, &[0; 24]].concat()] {
            let frame = control_frame(Kind::Footer, header.lsn, lie, SEED);
            let mut told = Seal::decode(&seal[HEADER_LEN..]).unwrap();
            told.offset = footer + frame.len() as u64;
            let seal = control_frame(Kind::Seal, header.lsn + 1, &told.encode(), SEED);
            assert!(read(&[&bytes[..at(footer)], &frame, &seal].concat()).is_none(), "{seed}");
        }
    }
}

#[test]
fn footer_that_contradicts_the_manifest_is_not_believed() {
    let (bytes, _, frames) = segment(5);
    let lsns = frames.iter().map(|frame| frame.header.lsn);
    let (min, max) = (lsns.clone().min().unwrap(), lsns.max().unwrap());
    let end = FRAMES_START + bytes.len() as u64;
    let known = |lsns| Footer::read(&*file(&bytes), SEED, end, Some(lsns)).unwrap();
    assert!(known((min, max)).is_some());
    assert!(known((min, max + 1)).is_none());
    assert!(known((min + 1, max)).is_none());
    assert!(Footer::read(&*file(&bytes), SEED, end - 8, None).unwrap().is_none());
}

#[test]
fn frame_that_cannot_be_told_leaves_the_segment_without_footer() {
    let (_, _, frames) = segment(7);
    let mut hints = Hints::default();
    hints.push_frame(&frames[0]);
    hints.push_frame(&Frame { payload_ok: false, ..frames[0].clone() });
    hints.push_frame(&frames[0]);
    assert_eq!((hints.payload(), hints.footer_len()), (None, 0));
    assert_eq!(hints.seal(5000, (1, 2)).footer, 0);
}
