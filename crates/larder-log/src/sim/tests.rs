use std::io::IoSlice;

use super::*;
use crate::io::{File, Io};

fn disk_with_file() -> (SimDisk, Arc<dyn File>) {
    let disk = SimDisk::new(1);
    disk.create_dir(Path::new("/d")).unwrap();
    let file = disk.create(Path::new("/d/f")).unwrap();
    (disk, file)
}

fn write(file: &Arc<dyn File>, offset: u64, bytes: &[u8]) {
    assert_eq!(file.write_at(&[IoSlice::new(bytes)], offset).unwrap(), bytes.len());
}

#[test]
fn synced_bytes_under_a_synced_name_survive_every_crash() {
    for seed in 0..200 {
        let (disk, file) = disk_with_file();
        write(&file, 0, &[1; 2000]);
        file.sync().unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        write(&file, 2000, &[2; 2000]);
        let after = disk.crash(seed);
        let bytes = after.read(Path::new("/d/f")).unwrap();
        assert!(bytes.len() >= 2000 && bytes[..2000].iter().all(|byte| *byte == 1), "{seed}");
    }
}

#[test]
fn unsynced_bytes_and_names_may_be_lost_in_any_combination() {
    let (mut names_lost, mut holes, mut whole) = (0, 0, 0);
    for seed in 0..300 {
        let (disk, file) = disk_with_file();
        write(&file, 0, &[1; 4096]);
        match disk.crash(seed).read(Path::new("/d/f")) {
            None => names_lost += 1,
            Some(bytes) if bytes == [1; 4096] => whole += 1,
            Some(bytes) if bytes.starts_with(&[0; 512]) && bytes.contains(&1) => holes += 1,
            Some(_) => {}
        }
    }
    assert!(names_lost > 50 && holes > 10 && whole > 5, "{names_lost} {holes} {whole}");
}

#[test]
fn killing_the_process_loses_nothing() {
    let (disk, file) = disk_with_file();
    write(&file, 0, b"hello");
    assert_eq!(disk.kill(1).read(Path::new("/d/f")).unwrap(), b"hello");
}

#[test]
fn pages_of_a_failed_sync_never_reach_the_disk() {
    let mut lost = 0;
    for seed in 0..100 {
        let (disk, file) = disk_with_file();
        disk.sync_dir(Path::new("/d")).unwrap();
        write(&file, 0, &[1; 4096]);
        disk.plan(disk.steps(), Fault::SyncError { lost: false });
        assert!(file.sync().is_err());
        assert_eq!(disk.read(Path::new("/d/f")).unwrap(), [1; 4096]);
        file.sync().unwrap();
        let bytes = disk.crash(seed).read(Path::new("/d/f")).unwrap();
        lost += usize::from(bytes != [1; 4096]);
    }
    assert!(lost > 50, "{lost}");
}

#[test]
fn a_planned_crash_ends_everything() {
    let (disk, file) = disk_with_file();
    disk.plan(disk.steps(), Fault::Crash);
    assert!(file.write_at(&[IoSlice::new(b"x")], 0).is_err());
    assert!(disk.is_dead() && file.size().is_err());
}

#[test]
fn the_same_seed_gives_the_same_disk() {
    let run = |seed| {
        let (disk, file) = disk_with_file();
        write(&file, 0, &[1; 8192]);
        disk.crash(seed).read(Path::new("/d/f"))
    };
    for seed in 0..20 {
        assert_eq!(run(seed), run(seed));
    }
}

#[test]
fn a_sync_that_lies_loses_what_it_said_was_safe() {
    let mut lost = 0;
    for seed in 0..100 {
        let (disk, file) = disk_with_file();
        disk.sync_dir(Path::new("/d")).unwrap();
        write(&file, 0, &[1; 4096]);
        disk.plan(disk.steps(), Fault::LyingSync);
        file.sync().unwrap();
        assert_eq!(disk.read(Path::new("/d/f")).unwrap(), [1; 4096]);
        lost += usize::from(disk.crash(seed).read(Path::new("/d/f")).unwrap() != [1; 4096]);
    }
    assert!(lost > 50, "{lost}");
}
