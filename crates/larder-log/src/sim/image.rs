//! One simulated file: what is there, and what would survive.

use std::collections::BTreeMap;

use super::SimRandom;

const SECTOR: usize = 512;

/// A file: its bytes now, and for every sector that was written since the last sync what it was.
#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    now: Vec<u8>,
    /// Versions of sectors that may be on the disk, the synced one first.
    volatile: BTreeMap<usize, Vec<[u8; SECTOR]>>,
    /// Sectors whose pages are clean in name only: a sync of them failed, this is what the disk has.
    forgotten: BTreeMap<usize, [u8; SECTOR]>,
    /// The length at the last sync.
    synced_len: usize,
}

impl Image {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.now
    }

    /// How far writes need no further room.
    pub(super) fn reserved(&self) -> u64 {
        self.now.len() as u64
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        let Ok(from) = usize::try_from(offset) else { return };
        let to = from + bytes.len();
        if bytes.is_empty() {
            return;
        }
        for sector in from / SECTOR..=(to - 1) / SECTOR {
            self.remember(sector);
        }
        if self.now.len() < to {
            self.now.resize(to, 0);
        }
        self.now[from..to].copy_from_slice(bytes);
    }

    pub(super) fn grow(&mut self, len: u64) {
        let len = usize::try_from(len).unwrap_or(0).max(self.now.len());
        self.now.resize(len, 0);
    }

    pub(super) fn truncate(&mut self, len: u64) {
        let len = usize::try_from(len).unwrap_or(usize::MAX).min(self.now.len());
        for sector in len / SECTOR..self.now.len().div_ceil(SECTOR) {
            self.remember(sector);
        }
        self.now.truncate(len);
    }

    pub(super) fn sync(&mut self) {
        self.volatile.clear();
        self.synced_len = self.now.len();
    }

    /// The sync failed: some sectors are on the disk, and the rest will never be, though nothing
    /// says so. With `lost` the cache shows what the disk has.
    pub(super) fn fail_sync(&mut self, lost: bool, random: &mut SimRandom) {
        let survived = self.survive(random);
        if lost {
            *self = survived;
            return;
        }
        // Readers go on to see the cache, and no later sync writes these pages.
        for sector in std::mem::take(&mut self.volatile).into_keys() {
            self.forgotten.insert(sector, survived.sector(sector));
        }
    }

    /// What is left after power failed: each volatile sector in any of its versions, and any length
    /// that the file had meanwhile, within reason.
    pub(super) fn survive(&self, random: &mut SimRandom) -> Self {
        let mut now = self.now.clone();
        let (short, long) =
            (self.synced_len.min(self.now.len()), self.synced_len.max(self.now.len()));
        now.resize(long, 0);
        // One in four crashes keeps everything, or nothing: the extremes deserve their share.
        let mood = random.below(8);
        for (sector, version) in &self.forgotten {
            put_sector(&mut now, *sector, version);
        }
        for (sector, versions) in &self.volatile {
            let choice = match mood {
                0 => versions.len(),
                1 => 0,
                _ => usize::try_from(random.below(versions.len() as u64 + 1)).unwrap_or(0),
            };
            let Some(version) = versions.get(choice) else { continue };
            put_sector(&mut now, *sector, version);
        }
        let len = match random.below(3) {
            0 => self.synced_len,
            1 => self.now.len(),
            _ => short + usize::try_from(random.below((long - short) as u64 + 1)).unwrap_or(0),
        };
        now.truncate(len);
        Self { synced_len: now.len(), now, ..Self::default() }
    }

    pub(super) fn tamper(&mut self, change: impl FnOnce(&mut Vec<u8>)) {
        change(&mut self.now);
        self.forgotten.clear();
        self.sync();
    }

    /// Keeps what the disk may still have of a sector that is about to change.
    fn remember(&mut self, sector: usize) {
        let before = self.forgotten.remove(&sector).unwrap_or_else(|| self.sector(sector));
        self.volatile.entry(sector).or_default().push(before);
    }

    fn sector(&self, sector: usize) -> [u8; SECTOR] {
        let mut bytes = [0; SECTOR];
        let from = (sector * SECTOR).min(self.now.len());
        let to = (from + SECTOR).min(self.now.len());
        bytes[..to - from].copy_from_slice(&self.now[from..to]);
        bytes
    }
}

fn put_sector(bytes: &mut [u8], sector: usize, version: &[u8; SECTOR]) {
    let from = (sector * SECTOR).min(bytes.len());
    let to = (from + SECTOR).min(bytes.len());
    bytes[from..to].copy_from_slice(&version[..to - from]);
}
