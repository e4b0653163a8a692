use super::*;
use crate::sim::SimDisk;

const DIR: &str = "/";

fn len(disk: &SimDisk) -> Option<u64> {
    disk.read(&Path::new(DIR).join(NAME)).map(|bytes| bytes.len() as u64)
}

#[test]
fn what_a_crash_left_of_it_is_made_whole_and_not_believed() {
    let disk = SimDisk::new(1);
    disk.create(&Path::new(DIR).join(NAME)).unwrap();
    assert!(Spare::default().hold(&disk, Path::new(DIR)));
    assert_eq!(len(&disk), Some(BYTES));
}

#[test]
fn deletes_leave_some_for_copies_and_copies_leave_the_manifest_its_own() {
    let (disk, dir) = (SimDisk::new(1), Path::new(DIR));
    let mut spare = Spare::default();
    assert!(spare.hold(&disk, dir));
    assert!(!spare.lend(&disk, dir, Need::Puts));
    assert!(spare.lend(&disk, dir, Need::Deletes) && !spare.lend(&disk, dir, Need::Deletes));
    let left = len(&disk).unwrap();
    assert!(left > MANIFEST && left < BYTES, "{left}");
    assert!(spare.lend(&disk, dir, Need::Copies) && !spare.lend(&disk, dir, Need::Copies));
    assert_eq!(len(&disk), Some(MANIFEST));
    // Somebody has it, and then no more.
    disk.set_capacity(disk.used());
    assert!(spare.hold(&disk, dir));
    assert_eq!(len(&disk), Some(MANIFEST));
    disk.set_capacity(disk.used() + 3 * STEP + 100);
    assert!(spare.hold(&disk, dir));
    assert_eq!(len(&disk), Some(MANIFEST + 3 * STEP));
    disk.set_capacity(u64::MAX);
    assert!(spare.hold(&disk, dir));
    assert_eq!(len(&disk), Some(BYTES));
}

#[test]
fn as_much_is_held_as_there_is() {
    let (disk, dir) = (SimDisk::new(1), Path::new(DIR));
    disk.set_capacity(STEP - 1);
    assert!(!Spare::default().hold(&disk, dir));
    assert_eq!(len(&disk), None);
    disk.set_capacity(2 * STEP);
    assert!(
        !Spare::default().hold(&disk, dir),
        "too little for every manifest, better than nothing"
    );
    assert_eq!(len(&disk), Some(2 * STEP));
}
