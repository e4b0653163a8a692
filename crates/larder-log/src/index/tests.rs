use super::*;

fn slot(n: u64) -> Slot {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&n.to_le_bytes());
    Slot { namespace: 1, id }
}

#[test]
fn an_entry_takes_forty_bytes() {
    assert_eq!(size_of::<(Slot, Location)>(), 40);
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
fn sequential_ids_spread_over_the_shards() {
    let index = Index::new(1);
    for n in 0..6400 {
        index.put(slot(n), Location::new(1, 4096, 1, n));
    }
    let most = index.shards.iter().map(|shard| lock_read(shard).len()).max().unwrap();
    assert!(most < 200, "{most}");
    assert_eq!(index.len(), 6400);
}
