//! What the offline checker says of a disk, held against what opening the log says.

use std::path::Path;

use larder_log::sim::SimDisk;
use larder_log::{Damage, Log, OpenError, VerifyReport};

use crate::model::{SLOTS, slot};
use crate::world::DIR;

/// The word of the checker.
pub(crate) struct Verdict(Result<VerifyReport, OpenError>);

impl Verdict {
    pub(crate) fn of(disk: &SimDisk) -> Self {
        Self(larder_log::verify_with(disk, Path::new(DIR)))
    }

    /// Whether a log that was opened right after this shows the same.
    pub(crate) fn agrees_with(&self, log: &Log) -> Result<(), String> {
        // What rots in a sealed segment is found by whoever reads it.
        for n in 0..SLOTS {
            drop(log.get(slot(n)));
        }
        let found = log.recovery();
        let report = match &self.0 {
            Ok(report) => report,
            Err(OpenError::NotFound { .. }) if found.created => return Ok(()),
            Err(error) => return Err(format!("{error}, yet it opens: {found:?}")),
        };
        let told = log.damaged(1);
        // Opening passes over damage that no longer matters to anybody.
        let strange: Vec<&Damage> = told.iter().filter(|d| !report.damage.contains(d)).collect();
        let lost = told.iter().filter(|damage| damage.slot.is_some()).count() as u64;
        let structural = |all: &[Damage]| all.iter().filter(|d| d.what.is_structural()).count();
        let same = report.clean == found.clean
            && report.entries == found.entries
            && report.torn_bytes == found.torn_bytes
            && report.lost_entries == lost
            && structural(&report.damage) == structural(&told)
            && strange.is_empty();
        if same { Ok(()) } else { Err(format!("{report:?}\n{found:?}\n{told:?}")) }
    }
}

/// A log without any damage, and with so many entries.
pub(crate) fn is_sound(disk: &SimDisk, entries: usize) -> Result<(), String> {
    match larder_log::verify_with(disk, Path::new(DIR)) {
        Ok(report) if report.is_sound() && report.entries == entries as u64 => Ok(()),
        other => Err(format!("verify: {other:?}, {entries} entries were expected")),
    }
}

/// For a replay: what lies on the disk.
#[expect(clippy::print_stderr, reason = "it is there to be read")]
pub(crate) fn print_files(disk: &SimDisk) {
    let disk = disk.kill(0);
    for file in disk.files(Path::new(DIR)) {
        eprintln!("{} {}", file.display(), disk.read(&file).map_or(0, |bytes| bytes.len()));
    }
    if let Err(error) = larder_log::dump_with(&disk, Path::new(DIR), |item| eprintln!("{item}")) {
        eprintln!("{error:?}");
    }
}
