use super::*;

fn slot(n: u64) -> Slot {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&n.to_le_bytes());
    Slot { namespace: 1, id }
}

#[test]
fn location_keeps_its_parts_apart() {
    let location = Location::new(7, 4096 + 48, 99, 0x0123_4567_89ab);
    let flagged = location.with_pre_open(true).with_replaced(true).with_corrupt(true);
    for l in [location, flagged] {
        assert_eq!((l.segment(), l.offset(), l.len(), l.lsn()), (7, 4144, 99, 0x0123_4567_89ab));
    }
    assert!(flagged.pre_open() && flagged.replaced() && flagged.corrupt());
    assert!(flagged.same_place(&location) && !location.pre_open());
}

#[test]
fn replacing_keeps_pre_open_and_marks_replaced() {
    let index = Index::new(1);
    index.put(slot(1), Location::new(1, 4096, 1, 5).with_pre_open(true));
    index.put(slot(1), Location::new(2, 4096, 1, 9));
    let found = index.get(&slot(1)).unwrap();
    assert!(found.pre_open() && found.replaced());
    assert_eq!(found.lsn(), 9);
}

#[test]
fn relocation_loses_against_a_newer_put() {
    let index = Index::new(1);
    let old = Location::new(1, 4096, 1, 5);
    index.put(slot(1), old);
    index.put(slot(1), Location::new(1, 8192, 1, 9));
    assert!(index.relocate(&slot(1), Location::new(3, 4096, 1, 5)).is_none());
    assert_eq!(index.get(&slot(1)).unwrap().segment(), 1);
}

#[test]
fn the_scan_keeps_the_highest_position_and_deletes_only_what_is_below() {
    let index = Index::new(1);
    for lsn in [5, 9, 7, 9] {
        index.put_if_newer(slot(1), Location::new(1, 4096, 1, lsn));
    }
    assert_eq!((index.get(&slot(1)).unwrap().lsn(), index.len()), (9, 1));
    index.remove_if_older(&slot(1), 9);
    assert!(index.contains(&slot(1)));
    index.remove_if_older(&slot(1), 10);
    assert_eq!((index.contains(&slot(1)), index.len()), (false, 0));
}

/// Ids as they come: counters in either half, and times with random tails.
#[test]
fn ids_of_every_kind_spread_over_the_shards() {
    type Id = fn(u64) -> [u8; 16];
    let kinds: [Id; 4] = [
        |n| u128::from(n).to_le_bytes(),
        |n| u128::from(n).to_be_bytes(),
        |n| (u128::from(n) << 64).to_le_bytes(),
        |n| {
            let tail = n.wrapping_mul(0xd129_0d3a_f0c1_6a45) | 1;
            ((u128::from(1_700_000_000_000 + n / 7) << 80) | u128::from(tail)).to_be_bytes()
        },
    ];
    for id in kinds {
        let index = Index::new(0x5bd1_e995_0f0f_3c3c);
        for n in 0..25_600 {
            index.put(Slot { namespace: 1, id: id(n) }, Location::new(1, 4096, 1, n));
        }
        assert_eq!(index.len(), 25_600);
        let most = index.shards.iter().map(|shard| lock_read(shard).len()).max().unwrap();
        assert!(most < 200, "{most}");
        let farthest = index.shards.iter().map(|shard| lock_read(shard).farthest()).max().unwrap();
        assert!(farthest < 60, "{farthest}");
    }
}

#[test]
fn of_two_copies_of_a_version_the_sound_one_counts() {
    let slot = Slot { namespace: 1, id: [1; 16] };
    let (sound, rotten) =
        (Location::new(1, 4096, 5, 9), Location::new(2, 4096, 5, 9).with_corrupt(true));
    for order in [[sound, rotten], [rotten, sound]] {
        let index = Index::new(1);
        for location in order {
            index.put_if_newer(slot, location);
        }
        assert_eq!(index.get(&slot), Some(sound));
    }
}

/// A walk believes what it saw of a shard for as long as this number stays.
#[test]
fn every_change_of_a_slot_changes_the_number_of_its_shard() {
    type Change = fn(&Index, Location) -> bool;
    let index = Index::new(1);
    let at = |lsn| Location::new(1, 4096, 1, lsn);
    let changes: [(&str, Change); 5] = [
        ("put", |index, at| index.put(slot(1), at).is_none()),
        ("replace", |index, at| index.put(slot(1), at).is_some()),
        ("relocate", |index, at| index.relocate(&slot(1), at).is_some()),
        ("remove", |index, _| index.remove(&slot(1)).is_some()),
        ("put again", |index, at| index.put(slot(1), at).is_none()),
    ];
    let number = |index: &Index| index.changes(index.shard_of(&slot(1)));
    for (what, change) in changes {
        let before = number(&index);
        index.get(&slot(1));
        index.for_each(|_, _| {});
        index.shrink();
        assert_eq!(number(&index), before, "nothing changed before {what}");
        assert!(change(&index, at(5)), "{what}");
        assert_ne!(number(&index), before, "{what}");
    }
    assert_eq!(index.changes(SHARDS), None);
}
