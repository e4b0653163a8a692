//! A walk goes on while the log changes under it. For the walks of a spool: the laws `enumerate`.

use larder_log::sim::SimDisk;
use larder_log::{CompactMode, Durability};

use crate::sim_log::{delete, open, put, settle};

#[test]
fn snapshot_stays_readable_while_its_segments_are_compacted_away() {
    let disk = SimDisk::new(18);
    let (log, mut committer) = open(&disk);
    for n in 0..40 {
        put(&log, n, 900, Durability::Process);
        settle(&mut committer);
    }
    let entries = log.snapshot(1);
    assert_eq!(entries.len(), 40);
    assert!(log.snapshot(2).is_empty());
    for n in 0..20 {
        delete(&log, n);
    }
    put(&log, 30, 5, Durability::Power);
    settle(&mut committer);
    committer.compact(CompactMode::Full).unwrap();
    for entry in &entries {
        let n = entry.slot.id[0];
        let want = match n {
            0..20 => None,
            30 => Some(vec![30; 5]),
            _ => Some(vec![n; 900]),
        };
        assert_eq!(log.get(entry.slot).unwrap().map(Vec::from), want, "{n}");
    }
}
