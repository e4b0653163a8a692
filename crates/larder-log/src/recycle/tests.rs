use super::*;
use crate::sim::SimDisk;
use crate::{Batch, Committer, CompactMode, Durability, Log, Slot};

const DIR: &str = "/log";

fn fill(log: &Log, committer: &mut Committer, segments: u32) {
    for i in 0..segments * 17 {
        let mut batch = Batch::new();
        batch.put(Slot { namespace: 1, id: [0; 16] }, vec![i.to_le_bytes()[0]; 700].into());
        log.submit(batch, Durability::Power).unwrap();
        while committer.step(std::time::Duration::ZERO) == crate::Next::Again {}
        committer.compact(CompactMode::Step).unwrap();
    }
}

#[test]
fn file_is_not_written_again_while_somebody_reads_the_segment_that_it_was() {
    let disk = SimDisk::new(1);
    let options =
        LogOptions { segment_bytes: 16 << 10, auto_compact: false, ..LogOptions::default() };
    let (log, mut committer) = Log::open_stepped(Arc::new(disk), Path::new(DIR), options).unwrap();
    // Half-way through a read of the first segment, and holding on to no more than its file in the
    // second.
    let first = log.shared().segment(1).unwrap();
    let bytes = |file: &dyn crate::io::File| {
        let mut bytes = vec![0; 16 << 10];
        crate::io::read_full(file, &mut bytes, 0).unwrap();
        bytes
    };
    fill(&log, &mut committer, 1);
    let second = Arc::clone(&log.shared().segment(2).unwrap().file);
    fill(&log, &mut committer, 1);
    let before = (bytes(&*first.file), bytes(&*second));
    fill(&log, &mut committer, 8);
    assert!(log.shared().segment(1).is_none() && log.shared().segment(2).is_none());
    assert!(log.stats().recycled_segments > 4, "others are written again: {:?}", log.stats());
    assert!((bytes(&*first.file), bytes(&*second)) == before, "bytes changed under a reader");
    // Once they are let go, they are written again like the others.
    let ids = |log: &Log| -> Vec<u64> {
        log.shared().manifest().free.files.iter().map(|file| file.id).collect()
    };
    assert!([1, 2].iter().all(|id| ids(&log).contains(id)), "{:?}", ids(&log));
    drop((first, second));
    fill(&log, &mut committer, 8);
    assert!([1, 2].iter().all(|id| !ids(&log).contains(id)), "{:?}", ids(&log));
}

#[test]
fn names_round_trip_and_no_other_name_is_taken_for_one() {
    for id in [0, 1, 0xabc, u64::MAX] {
        let path = path(Path::new(DIR), id);
        assert_eq!(parse_name(path.file_name().unwrap().to_str().unwrap()), Some(id));
    }
    for name in ["free-1.log", "free-000000000000000A.log", "seg-0000000000000001.log", "free-"] {
        assert_eq!(parse_name(name), None, "{name}");
    }
}
