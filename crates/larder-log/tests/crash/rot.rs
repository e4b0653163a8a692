//! Bits that change while nobody looks: in segments, in the manifest, in whatever lies there.

use std::path::{Path, PathBuf};

use larder_log::sim::{SimDisk, SimRandom};
use larder_log::{DamageKind, ReadError};

use crate::model::{SLOTS, State, observe, slot};
use crate::verdict::Verdict;
use crate::world::{DIR, Weather, World, look};

/// How many bits change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rot {
    /// One: it may cost one entry at most, and never unnoticed.
    Bit,
    /// Several stretches: nothing wrong may be shown.
    Stretches,
}

/// Runs a history to its rest, lets the disk rot, and looks at what is left. Returns the number of
/// entries that are gone.
pub(crate) fn run(seed: u64, rot: Rot) -> Result<u64, String> {
    let mut random = SimRandom::new(seed ^ 0x0707);
    let mut world = World::create(SimDisk::new(seed), seed, Weather::Fair, None);
    for _ in 0..10 + random.below(20) {
        world.act(&mut random)?;
    }
    // Without a later mark, rot in the last batch cannot be told from a torn write.
    world.rest();
    let wanted = observe(world.log.as_ref().ok_or("not open")?)?;
    let clean = random.chance(2);
    if clean {
        world.reopen()?;
    }
    let disk = world.kill(seed);
    let times = if rot == Rot::Bit { 1 } else { 1 + random.below(4) };
    let mut spoilt = Vec::new();
    for _ in 0..times {
        spoilt.push(spoil(&disk, rot, &mut random));
    }
    // Where the end of an open segment rots together with its marks, nothing is left that says that
    // it was more than a torn write; a manifest that tells of a clean end does say so.
    let known = rot == Rot::Bit || clean && !spoilt.iter().any(|file| file.ends_with("MANIFEST"));
    let verdict = Verdict::of(&disk);
    let (log, mut committer, left) = match look(&disk, seed) {
        Ok(opened) => opened,
        Err(_) if rot == Rot::Stretches => return Ok(0),
        Err(error) => return Err(format!("does not open: {error}")),
    };
    verdict.agrees_with(&log)?;
    let shown = world.history.is_plausible(&log)?;
    if shown != left {
        return Err(format!("shows {shown:?} after {left:?}"));
    }
    let gone = differences(&wanted, &left);
    let damaged = log.damaged(1);
    if gone > 0 && damaged.is_empty() && known {
        return Err(format!("shows {left:?} instead of {wanted:?} and reports nothing"));
    }
    // One rotten byte of a header is put right.
    let unread = damaged.iter().find(|damage| damage.what == DamageKind::Unidentified);
    if let Some(unread) = unread.filter(|_| rot == Rot::Bit && !world.history.annulled) {
        return Err(format!("one bit made a stretch unreadable: {unread}"));
    }
    // A cancelling record may stand for several batches.
    if gone > 1 && rot == Rot::Bit && !world.history.annulled {
        return Err(format!("one bit changed {wanted:?} to {left:?}"));
    }
    for n in 0..SLOTS {
        let told = damaged.iter().any(|damage| damage.slot == Some(slot(n)));
        if matches!(log.get(slot(n)), Err(ReadError::Corrupt { .. })) && !told {
            return Err(format!("slot {n} is corrupt and not reported"));
        }
    }
    // The operator accepts it: then it is a working log again, with the same entries.
    log.acknowledge().map_err(|error| format!("acknowledge: {error}"))?;
    let mut now = std::time::Duration::ZERO;
    drop(log.shutdown());
    while committer.step(now) != larder_log::Next::Closed {
        now += std::time::Duration::from_secs(1);
    }
    drop((committer, log));
    let (log, _committer, again) = look(&disk, seed).map_err(|error| error.to_string())?;
    if again != left || log.unhealthy_reason().is_some() {
        let (accepted, reason) = (damaged, log.unhealthy_reason());
        let damaged = log.damaged(1);
        return Err(format!(
            "acknowledged {accepted:?}, then {reason:?}, {damaged:?}, {again:?} of {left:?}"
        ));
    }
    Ok(gone)
}

/// In how many slots two states differ.
fn differences(a: &State, b: &State) -> u64 {
    (0..SLOTS).filter(|n| a.get(n) != b.get(n)).count() as u64
}

/// Changes some file. Zeros are the larger part of it, so what is not zero is hit half of the time.
fn spoil(disk: &SimDisk, rot: Rot, random: &mut SimRandom) -> PathBuf {
    let files: Vec<PathBuf> = disk.files(Path::new(DIR));
    let file = &files[usize::try_from(random.below(files.len() as u64)).unwrap()];
    disk.tamper(file, |bytes| {
        let used: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
        let anywhere = random.chance(2) || used.is_empty();
        let len = if anywhere { bytes.len() } else { used.len() };
        if len == 0 {
            return;
        }
        let pick = usize::try_from(random.below(len as u64)).unwrap();
        let at = if anywhere { pick } else { used[pick] };
        let to = at + usize::try_from(1 + random.below(600)).unwrap().min(bytes.len() - at);
        match random.below(if rot == Rot::Bit { 1 } else { 4 }) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at..to].fill(0),
            2 => bytes[at..to].iter_mut().for_each(|byte| *byte = random.next().to_le_bytes()[0]),
            _ => bytes.truncate(at),
        }
    });
    file.clone()
}
