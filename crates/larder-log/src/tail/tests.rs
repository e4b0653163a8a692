use super::*;
use crate::Slot;
use crate::crc32c;
use crate::group::{Group, Place};
use crate::index::Index;
use crate::io::write_all;
use crate::scan::scan;
use crate::segment::FRAMES_START;
use crate::shared::QueuedBatch;
use crate::sim::SimDisk;

const SEED: u32 = 7;

/// A tail of three groups of two puts and a commit each: positions 1-3, 4-6, 7-9. The third commit
/// says that everything up to 3 is durable.
fn groups() -> (Vec<u8>, Vec<u64>) {
    let index = Index::new(1);
    let budget = crate::budget::Budget::new(1 << 20);
    let mut place = Place { segment: 1, seed: SEED, offset: FRAMES_START, lsn: 1 };
    let (mut bytes, mut starts) = (Vec::new(), Vec::new());
    for (n, durable) in [(1, 0), (2, 0), (3, 3)] {
        let mut batch = crate::Batch::new();
        for half in 0..2 {
            batch.put(Slot { namespace: half, id: [n; 16] }, vec![n; 100].into());
        }
        let queued = QueuedBatch {
            bytes: batch.bytes(),
            puts: 2,
            durability: crate::Durability::Power,
            answer: crate::Ticket::new().1.into(),
            permit: budget.try_take(1).unwrap(),
            ops: batch.ops,
        };
        starts.push(place.offset - FRAMES_START);
        let mut group =
            Group::new(place, crate::footer::Hints::default(), crate::group::Scratch::default());
        group.push_batches(std::slice::from_ref(&queued), &index);
        group.commit(durable);
        bytes.extend(group.parts().concat());
        place = group.next_place();
    }
    starts.push(bytes.len() as u64);
    (bytes, starts)
}

fn header(recycled: bool) -> SegmentHeader {
    SegmentHeader {
        store: [0; 16],
        id: 1,
        base_lsn: 1,
        as_of_lsn: 0,
        origin: Origin::Log,
        recycled,
    }
}

fn divide_bytes(bytes: &[u8], floor: u64) -> Tail {
    divide_file(bytes, floor, false)
}

fn divide_file(bytes: &[u8], floor: u64, recycled: bool) -> Tail {
    use crate::io::Io;
    let disk = SimDisk::new(1);
    let file = disk.create(std::path::Path::new("/f")).unwrap();
    write_all(&*file, &[bytes], FRAMES_START).unwrap();
    let met = scan(&*file, SEED, FRAMES_START, u64::MAX).unwrap();
    divide(met, &header(recycled), floor)
}

fn lsns(frames: &[Frame]) -> Vec<u64> {
    frames.iter().map(|frame| frame.header.lsn).collect()
}

#[test]
fn sound_tail_is_kept_whole() {
    let tail = divide_bytes(&groups().0, 0);
    assert_eq!(tail.durable_lsn, 3);
    assert_eq!((lsns(&tail.below), lsns(&tail.above)), (vec![1, 2, 3], vec![4, 5, 7, 8]));
    assert_eq!((tail.torn_bytes, tail.corrupt.len()), (0, 0));
}

#[test]
fn any_cut_above_the_mark_keeps_whole_groups_only() {
    let (bytes, starts) = groups();
    for cut in usize::try_from(starts[1]).unwrap()..bytes.len() {
        // The mark is known from elsewhere: the commit that carries it may be gone.
        let tail = divide_bytes(&bytes[..cut], 3);
        let whole = if cut as u64 >= starts[2] { vec![4, 5] } else { vec![] };
        assert_eq!((lsns(&tail.below), lsns(&tail.above)), (vec![1, 2, 3], whole), "{cut}");
        assert_eq!(tail.corrupt, vec![], "{cut}");
    }
}

#[test]
fn any_flipped_byte_is_corrupt_below_the_mark_and_torn_above() {
    let (bytes, starts) = groups();
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 0x10;
        let tail = divide_bytes(&bad, 3);
        let rotten = tail.below.iter().filter(|frame| !frame.payload_ok).count();
        let harmed = tail.corrupt.len() + rotten;
        if (at as u64) < starts[1] {
            // Padding is covered by nothing, and nothing depends on it.
            assert!(harmed <= 1 && tail.torn_bytes == 0, "{at}");
            assert_eq!(lsns(&tail.above), [4, 5, 7, 8], "{at}");
        } else {
            assert_eq!(harmed, 0, "{at}");
            assert!(tail.above.len().is_multiple_of(2), "{at}");
        }
    }
}

#[test]
fn group_whose_commit_disagrees_is_torn() {
    let (bytes, starts) = groups();
    let (second, third) =
        (usize::try_from(starts[1]).unwrap(), usize::try_from(starts[2]).unwrap());
    // The commit frame is the last 64 bytes of the second group; give it another count.
    let commit = third - 64;
    let mut bad = bytes.clone();
    let header = crate::record::Header::decode(&bad[commit..], SEED).unwrap();
    let body = Commit { count: 1, ..Commit::decode(&bad[commit + 40..third]).unwrap() }.encode();
    let header = crate::record::Header { payload_crc: crc32c::of(&body), ..header };
    bad[commit..commit + 40].copy_from_slice(&header.encode(SEED));
    bad[commit + 40..third].copy_from_slice(&body);
    let tail = divide_bytes(&bad, 3);
    assert_eq!(lsns(&tail.above), Vec::<u64>::new());
    assert_eq!(tail.torn_bytes, (bytes.len() - second) as u64);
}

#[test]
fn zeros_before_all_that_was_durable_are_corruption() {
    let (bytes, starts) = groups();
    let tail = divide_bytes(&bytes[..usize::try_from(starts[1]).unwrap()], 6);
    assert_eq!(tail.corrupt.len(), 1);
}

/// What another segment left behind the groups.
fn with_stale(bytes: &[u8]) -> Vec<u8> {
    let mut stale = Vec::new();
    for n in 0..20u8 {
        let header = crate::record::Header {
            payload_crc: crc32c::of(&[n; 100]),
            payload_len: 100,
            ..crate::record::Header::control(Kind::Put, 10 + u64::from(n), &[])
        };
        crate::record::push_frame(&mut stale, &header, &[n; 100], SEED + 1);
    }
    let mut all = bytes.to_vec();
    all.extend_from_slice(&stale[bytes.len().min(400)..]);
    all
}

#[test]
fn what_a_recycled_file_held_before_is_neither_torn_nor_kept() {
    let (bytes, starts) = groups();
    for cut in starts.iter().map(|start| usize::try_from(*start).unwrap()).filter(|cut| *cut > 0) {
        let (with, without) =
            (divide_file(&with_stale(&bytes[..cut]), 3, true), divide_bytes(&bytes[..cut], 3));
        assert_eq!(
            (lsns(&with.below), lsns(&with.above)),
            (lsns(&without.below), lsns(&without.above))
        );
        assert_eq!((with.torn_bytes, with.corrupt), (0, vec![]), "{cut}");
    }
}

#[test]
fn stale_bytes_in_the_place_of_what_was_durable_are_corruption_that_stays() {
    let (bytes, starts) = groups();
    let all = with_stale(&bytes[..usize::try_from(starts[1]).unwrap()]);
    let tail = divide_file(&all, 6, true);
    assert!(!tail.corrupt.is_empty());
    assert!(tail.below_end > FRAMES_START + starts[1], "the next open must see it, too");
}
