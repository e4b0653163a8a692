//! Structural damage: reporting it, and accepting it.

use std::io;

use crate::Error;
use crate::damage::{Damage, DamageKind};
use crate::recover::QUARANTINE;
use crate::segment::{self, FRAMES_START};
use crate::shared::Shared;

impl Shared {
    /// Notes damage of a whole file and closes the gate.
    pub(crate) fn report_structural(&self, segment: u64, what: DamageKind) {
        let new = self.damage.add(Damage { slot: None, segment, offset: 0, bytes: 0, what });
        if new {
            self.counters.corrupt.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            tracing::error!(segment, %what, "structural damage: no more puts");
        }
        self.health.report_structural();
    }

    /// Accepts all structural damage that is known, and says what that was.
    pub(crate) fn acknowledge(&self) -> Result<Vec<Damage>, Error> {
        let _guard = self.await_compaction();
        self.check_writable()?;
        let damage = self.damage.structural();
        let strange = |damage: &&Damage| {
            use DamageKind::{Foreign, Misplaced, Unlisted};
            matches!(damage.what, Foreign | Misplaced | Unlisted)
        };
        for damage in damage.iter().filter(strange) {
            self.move_aside(damage.segment)
                .map_err(|error| Error::io("move a file aside in", &self.dir, error))?;
        }
        let lost: Vec<u64> = damage
            .iter()
            .filter(|damage| self.is_lost(damage))
            .map(|damage| damage.segment)
            .collect();
        let kept_short: Vec<(u64, u64)> = damage
            .iter()
            .filter(|damage| damage.what == DamageKind::CutShort && !lost.contains(&damage.segment))
            .filter_map(|damage| {
                let open = self.segment(u32::try_from(damage.segment).ok()?)?;
                Some((damage.segment, open.file.size().ok()?.max(FRAMES_START)))
            })
            .collect();
        let unread = damage.iter().filter(|damage| damage.what == DamageKind::Unidentified);
        let unread: Vec<(u64, u64)> =
            unread.map(|damage| (damage.segment, damage.offset)).collect();
        let rebuilt = damage.iter().any(|damage| damage.what == DamageKind::Manifest);
        if rebuilt || !lost.is_empty() || !kept_short.is_empty() || !unread.is_empty() {
            let stored = self.manifest().replace(&*self.io, &self.dir, |manifest| {
                manifest.segments.retain(|listed| !lost.contains(&listed.id));
                manifest.void.extend(&lost);
                manifest.accepted.extend(&unread);
                manifest.rebuilt = false;
                manifest.forget_accepted();
                for listed in &mut manifest.segments {
                    if let Some((_, len)) = kept_short.iter().find(|(id, _)| *id == listed.id)
                        && listed.end != 0
                    {
                        listed.end = listed.end.min(*len);
                    }
                }
            });
            stored.map_err(|fault| {
                Error::io("list the segments of", &self.dir, fault.into_error())
            })?;
        }
        self.damage.accept();
        self.health.acknowledge_structural();
        Ok(damage)
    }

    /// Whether nothing of the segment is in use: its file is gone, empty or not ours. One that
    /// vanished under a running log is still read through its open file, so it stays listed, and
    /// the next open reports it again.
    fn is_lost(&self, damage: &Damage) -> bool {
        let open = u32::try_from(damage.segment).ok().and_then(|id| self.segment(id));
        open.is_none() && damage.segment != 0
    }

    fn move_aside(&self, id: u64) -> io::Result<()> {
        let aside = self.dir.join(QUARANTINE);
        self.io.create_dir(&aside)?;
        match self.io.rename(&segment::path(&self.dir, id), &segment::path(&aside, id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.io.sync_dir(&aside)?;
        self.io.sync_dir(&self.dir)
    }
}
