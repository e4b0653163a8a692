//! Damage in front of synced records costs what was hit, and nothing behind it.

use std::path::Path;
use std::sync::Arc;

use larder_log::sim::{SimDisk, SimRandom};
use larder_log::{CompactMode, Damage, DamageKind, Durability, Log, ReadError};

use crate::sim_log::{DIR, disk_copy, is_done, open, options, put, segment, settle, slot, store};

#[test]
fn rotten_header_and_payload_cost_one_record_which_the_footer_names() {
    let disk = store();
    disk.tamper(&segment(2), |bytes| bytes[4096 + 8..4096 + 50].fill(0xff));
    let (log, _committer) = open(&disk);
    assert_eq!((log.recovery().entries, log.damaged(1)), (60, vec![]));
    let lost: Vec<u8> = (0..60)
        .filter(|n| match log.get(slot(*n)) {
            Err(ReadError::Corrupt { slot: found }) => found == slot(*n),
            sound => sound.unwrap().unwrap() != vec![*n; 900],
        })
        .collect();
    let found = log.damaged(1);
    assert_eq!((lost.len(), found.len()), (1, 1), "{found:?}");
    assert_eq!((found[0].what, found[0].slot), (DamageKind::Payload, Some(slot(lost[0]))));
    assert_eq!(log.unhealthy_reason(), None);
}

/// In the segment that is not sealed nothing tells whose record it was, or that it was no delete.
#[test]
fn unidentified_record_closes_the_gate_until_that_is_acknowledged() {
    for clean in [true, false] {
        let disk = SimDisk::new(3);
        let (log, mut committer) = open(&disk);
        for n in 0..8 {
            put(&log, n, 300, Durability::Power);
            settle(&mut committer);
        }
        if clean {
            drop(log.shutdown());
            settle(&mut committer);
        }
        drop((committer, log));
        let disk = disk.kill(1);
        disk.tamper(&segment(1), |bytes| bytes[4096 + 16..4096 + 18].fill(0x77));
        let report = larder_log::verify_with(&disk, Path::new(DIR)).unwrap();
        let (log, mut committer) = open(&disk);
        let found = log.damaged(1);
        assert_eq!(
            (found.len(), found[0].what),
            (1, DamageKind::Unidentified),
            "{clean}: {found:?}"
        );
        assert_eq!(report.damage, found);
        assert!(log.unhealthy_reason().is_some());
        assert_eq!((log.stats().entries, log.get(slot(0)).unwrap()), (7, None));
        log.acknowledge().unwrap();
        assert_eq!(log.unhealthy_reason(), None);
        let ticket = put(&log, 0, 300, Durability::Power);
        settle(&mut committer);
        assert!(is_done(&ticket));
        // It stays known, but nobody is asked again.
        drop((committer, log));
        for _ in 0..2 {
            let (log, mut committer) = open(&disk);
            let found = log.damaged(1);
            assert_eq!((found.len(), found[0].what), (1, DamageKind::Accepted), "{found:?}");
            assert_eq!((log.unhealthy_reason(), log.stats().entries), (None, 8));
            drop(log.shutdown());
            settle(&mut committer);
        }
        let report = larder_log::verify_with(&disk, Path::new(DIR)).unwrap();
        assert_eq!(report.damage, found_again(&found));
        // Once its segment is gone, so is what was accepted about it.
        let (log, mut committer) = open(&disk);
        for n in 0..8 {
            put(&log, n, 300, Durability::Power);
        }
        settle(&mut committer);
        committer.compact(CompactMode::Full).unwrap();
        assert!(disk.read(&segment(1)).is_none());
        drop((committer, log));
        let (log, _committer) = open(&disk);
        assert_eq!(log.damaged(1), vec![]);
    }
}

fn found_again(found: &[Damage]) -> Vec<Damage> {
    let mut found = found.to_vec();
    for damage in &mut found {
        damage.what = DamageKind::Accepted;
    }
    found
}

#[test]
fn damaged_segment_header_loses_nothing_and_closes_nothing() {
    let disk = store();
    disk.tamper(&segment(2), |bytes| bytes[..64].fill(0xee));
    let (log, _committer) = open(&disk);
    assert_eq!(log.damaged(1).len(), 1);
    assert_eq!(log.damaged(1)[0].what, DamageKind::SegmentHeader);
    assert_eq!(log.unhealthy_reason(), None);
    for n in 0..60 {
        assert_eq!(log.get(slot(n)).unwrap().unwrap(), vec![n; 900], "{n}");
    }
}

#[test]
fn whatever_is_done_to_the_files_no_wrong_byte_is_served_and_nothing_panics() {
    let pristine = store();
    let mut opened = 0;
    for seed in 0..1500 {
        let mut random = SimRandom::new(seed);
        let disk = disk_copy(&pristine, seed);
        let files = disk.files(Path::new(DIR));
        for _ in 0..=random.below(4) {
            let pick = |random: &mut SimRandom| {
                files[usize::try_from(random.below(files.len() as u64)).unwrap()].clone()
            };
            let file = pick(&mut random);
            let other = disk.read(&pick(&mut random)).unwrap_or_default();
            disk.tamper(&file, |bytes| mutate(bytes, &other, &mut random));
            if random.chance(10) {
                disk.lose(&pick(&mut random));
            }
        }
        drop(larder_log::verify_with(&disk, Path::new(DIR)));
        let io = Arc::new(disk.clone());
        let Ok((log, mut committer)) = Log::open_stepped(io, Path::new(DIR), options()) else {
            continue;
        };
        opened += 1;
        for n in 0..60 {
            match log.get(slot(n)) {
                Ok(Some(bytes)) => assert_eq!(bytes, vec![n; 900], "seed {seed}, slot {n}"),
                Ok(None) | Err(ReadError::Corrupt { .. }) => {}
                Err(error) => panic!("seed {seed}: {error}"),
            }
        }
        drop(log.acknowledge());
        let ticket = put(&log, 1, 900, Durability::Power);
        settle(&mut committer);
        assert!(is_done(&ticket), "seed {seed}");
        drop(committer.compact(CompactMode::Full));
        assert_eq!(log.get(slot(1)).unwrap().unwrap(), vec![1; 900], "seed {seed}");
    }
    assert!(opened > 1000, "{opened}");
}

fn mutate(bytes: &mut Vec<u8>, other: &[u8], random: &mut SimRandom) {
    if bytes.is_empty() {
        return;
    }
    let len = bytes.len() as u64;
    let at = usize::try_from(random.below(len)).unwrap();
    let to = at + usize::try_from(random.below(200)).unwrap().min(bytes.len() - at);
    match random.below(6) {
        0 | 1 => bytes[at] ^= 1 << random.below(8),
        2 => bytes[at..to].fill(0),
        3 => bytes[at..to].iter_mut().for_each(|byte| *byte = random.next().to_le_bytes()[0]),
        4 => bytes.truncate(at),
        // A block that was meant for another file.
        _ => {
            let from = at.min(other.len());
            let part = &other[from..(from + 600).min(other.len())];
            let end = (at + part.len()).min(bytes.len());
            bytes[at..end].copy_from_slice(&part[..end - at]);
        }
    }
}
