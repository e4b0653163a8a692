use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

impl Table {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The distance of the entry that lies farthest from home.
    pub(crate) fn farthest(&self) -> usize {
        (0..self.marks.len()).filter_map(|at| self.distance(at)).max().unwrap_or(0)
    }

    /// Every entry can be found: none lies behind a gap, or behind one nearer to home.
    fn check(&self) {
        let mut used = 0;
        for at in 0..self.marks.len() {
            let Some(distance) = self.distance(at) else { continue };
            used += 1;
            let true_home = self.home(self.hash_of(&self.entries[at]));
            assert_eq!((true_home + distance) % self.marks.len(), at);
            let before = if at == 0 { self.marks.len() - 1 } else { at - 1 };
            if distance > 0 {
                assert!(self.distance(before).is_some_and(|found| found + 1 >= distance));
            }
        }
        assert_eq!(used, self.len);
        assert!(self.len * 8 <= self.marks.len() * 7);
    }
}

fn slot(n: u16) -> Slot {
    Slot { namespace: n, id: [7; 16] }
}

fn location(n: u64) -> Location {
    Location::new(1, n * 8, 3, n)
}

/// Hashes of all kinds of badness: good, few values, at the very end of the table, all the same.
const HASHERS: [Hasher; 4] = [
    |key, slot| super::super::hash(key, slot),
    |_, slot| u64::from(slot.namespace % 3) << 62,
    |_, slot| u64::MAX - u64::from(slot.namespace % 5),
    |_, _| u64::MAX / 2,
];

proptest! {
    #[test]
    fn behaves_like_a_map(
        hasher in 0..HASHERS.len(),
        acts in prop::collection::vec((0_u16..600, 0_u8..5), 1..1500),
    ) {
        let hasher = HASHERS[hasher];
        let mut table = Table::new(1, hasher);
        let mut model: HashMap<u16, u64> = HashMap::new();
        for (step, (n, act)) in (1..).zip(acts) {
            let (slot, hash) = (slot(n), hasher(1, &slot(n)));
            let lsn = |found: Option<Location>| found.map(|location| location.lsn());
            match act {
                0..=2 => {
                    let old = table.upsert(hash, &slot, |_| location(step));
                    assert_eq!(lsn(old), model.insert(n, step));
                }
                3 => assert_eq!(lsn(table.remove(hash, &slot, |_| true)), model.remove(&n)),
                _ => {
                    let old = table.update(hash, &slot, |_| Some(location(step)));
                    let was = model.get_mut(&n).map(|lsn| std::mem::replace(lsn, step));
                    assert_eq!(lsn(old), was);
                }
            }
            assert_eq!(table.len(), model.len());
        }
        table.check();
        table.shrink();
        table.check();
        let mut all = HashMap::new();
        table.for_each(|slot, location| assert!(all.insert(slot.namespace, location.lsn()).is_none()));
        assert_eq!(&all, &model);
        for n in 0..600 {
            let found = table.get(hasher(1, &slot(n)), &slot(n)).map(|location| location.lsn());
            assert_eq!(found, model.get(&n).copied());
        }
    }
}

#[test]
fn an_entry_takes_39_bytes_a_bucket_and_at_most_75_whatever_came_and_went() {
    let hasher = HASHERS[0];
    let mut table = Table::new(3, hasher);
    let at_most_75 = |table: &Table| assert!(table.bytes() <= 75 * table.len() + 4 * 39);
    for round in 0..3 {
        for n in 0..20_000 {
            table.upsert(hasher(3, &slot(n)), &slot(n), |_| location(round));
            at_most_75(&table);
        }
        for n in 0..20_000 - 10 * (2 - u16::try_from(round).unwrap()) {
            table.remove(hasher(3, &slot(n)), &slot(n), |_| true);
            at_most_75(&table);
        }
    }
    assert_eq!((table.len(), table.bytes()), (0, 0));
}
