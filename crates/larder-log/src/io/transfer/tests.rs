use std::num::NonZeroUsize;
use std::sync::Mutex;

use super::*;

/// A file that takes at most `short` bytes a call, and writes down what it is asked for.
#[derive(Debug)]
struct Slow {
    short: usize,
    piece: Option<usize>,
    bytes: Mutex<Vec<u8>>,
    begun: Mutex<Vec<(u64, u64)>>,
    /// Beginning fails from this call on.
    sound: usize,
}

impl Slow {
    fn new(short: usize, piece: Option<usize>) -> Self {
        Self { short, piece, bytes: Mutex::default(), begun: Mutex::default(), sound: usize::MAX }
    }
}

impl File for Slow {
    fn size(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().unwrap().len() as u64)
    }

    fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
        Ok(0)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let all: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let taken = &all[..all.len().min(self.short)];
        let (mut bytes, at) = (self.bytes.lock().unwrap(), usize::try_from(offset).unwrap());
        let end = bytes.len().max(at + taken.len());
        bytes.resize(end, 0);
        bytes[at..at + taken.len()].copy_from_slice(taken);
        Ok(taken.len())
    }

    fn begin_bytes(&self) -> Option<NonZeroUsize> {
        self.piece.and_then(NonZeroUsize::new)
    }

    fn begin_sync(&self, offset: u64, len: u64) -> io::Result<()> {
        let written = self.bytes.lock().unwrap().len() as u64;
        assert!(offset + len <= written, "it began with what is not written");
        let mut begun = self.begun.lock().unwrap();
        begun.push((offset, len));
        if begun.len() > self.sound { Err(io::Error::other("planned")) } else { Ok(()) }
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn allocate(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&self, _: u64) -> io::Result<()> {
        Ok(())
    }
}

fn parts() -> Vec<Vec<u8>> {
    let lens = [1usize, 0, 40_000, 7, 16_384, 16_384, 5, 90_000, 3];
    lens.iter().enumerate().map(|(i, len)| vec![u8::try_from(i).unwrap() + 1; *len]).collect()
}

#[test]
fn every_byte_is_written_in_its_place_whatever_a_call_takes() {
    let parts = parts();
    let slices: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    for short in [1000, 4096, 30_000, usize::MAX] {
        for piece in [None, Some(4096), Some(10_000), Some(1 << 20)] {
            for offset in [0, 100, 4096, 9000] {
                let file = Slow::new(short, piece);
                write_and_begin(&file, &slices, offset).unwrap();
                let bytes = file.bytes.lock().unwrap();
                assert!(bytes[usize::try_from(offset).unwrap()..] == parts.concat());
            }
        }
    }
}

#[test]
fn the_disk_begins_with_whole_blocks_in_order_and_leaves_the_last_piece_to_the_sync() {
    let parts = parts();
    let slices: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    let len = parts.concat().len() as u64;
    for offset in [0, 100, 9000] {
        let file = Slow::new(usize::MAX, Some(10_000));
        write_and_begin(&file, &slices, offset).unwrap();
        let begun = file.begun.lock().unwrap();
        assert!(begun.len() > 5, "{begun:?}");
        let mut at = offset - offset % BLOCK;
        for (from, len) in begun.iter() {
            assert!(*from == at && from % BLOCK == 0 && len % BLOCK == 0, "{begun:?}");
            at = from + len;
        }
        assert!(at < offset + len && offset + len - at < 10_000 + 2 * BLOCK, "{at} {offset}");
    }
}

#[test]
fn nothing_is_begun_of_what_is_short_or_not_synced() {
    let file = Slow::new(usize::MAX, Some(10_000));
    write_and_begin(&file, &[&vec![1; 19_999]], 0).unwrap();
    write_all(&file, &[&vec![1; 200_000]], 0).unwrap();
    assert!(file.begun.lock().unwrap().is_empty());
}

#[test]
fn what_the_disk_says_of_pieces_that_it_began_with_is_an_error_of_the_write() {
    let file = Slow { sound: 1, ..Slow::new(usize::MAX, Some(10_000)) };
    write_and_begin(&file, &[&vec![1; 200_000]], 0).unwrap_err();
    assert_eq!(file.begun.lock().unwrap().len(), 2);
}
