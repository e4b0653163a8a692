use super::*;
use crate::crc32c;

fn manifest() -> Manifest {
    Manifest {
        store: [3; 16],
        next_segment: 12,
        durable_lsn: 100,
        next_lsn: 130,
        clean_end: 4200,
        segments: (1..4)
            .map(|id| Listed {
                id,
                end: id * 4096,
                base_lsn: id * 10,
                as_of_lsn: id,
                min_lsn: id * 10 + 1,
                max_lsn_and_origin: (id * 10 + 9, Origin::Recovery),
            })
            .collect(),
        void: vec![5, 6],
        cancelled: vec![(101, 103), (110, 110)],
        accepted: vec![(2, 4096)],
        rebuilt: true,
    }
}

#[test]
fn manifest_round_trips() {
    assert_eq!(Manifest::decode(&manifest().encode()).unwrap(), manifest());
    let empty = Manifest { segments: vec![], void: vec![], ..manifest() };
    assert_eq!(Manifest::decode(&empty.encode()).unwrap(), empty);
    let empty = Manifest { cancelled: vec![], accepted: vec![], rebuilt: false, ..manifest() };
    assert_eq!(Manifest::decode(&empty.encode()).unwrap(), empty);
}

#[test]
fn every_flipped_bit_and_every_cut_is_damage() {
    let good = manifest().encode();
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(matches!(Manifest::decode(&bad), Err(ManifestFault::Damaged)), "bit {bit}");
    }
    for len in 0..good.len() {
        assert!(matches!(Manifest::decode(&good[..len]), Err(ManifestFault::Damaged)), "{len}");
    }
}

#[test]
fn later_version_is_named_whatever_follows() {
    let mut bytes = manifest().encode();
    bytes[8..12].copy_from_slice(&2u32.to_le_bytes());
    let crc = crc32c::of(&bytes[..32]);
    bytes[32..36].copy_from_slice(&crc.to_le_bytes());
    assert!(matches!(Manifest::decode(&bytes), Err(ManifestFault::Newer(2))));
}
