//! What callers read.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::Log;
use crate::damage::Damage;
use crate::reader::{Entries, Entry, Now};
use crate::sweep::Sweep;
use crate::{ReadError, Slot};

impl Log {
    /// The payload of `slot`. Reads the disk (often the page cache) and checks every byte.
    ///
    /// # Errors
    /// [`ReadError::Corrupt`] when the bytes are damaged, [`ReadError::Io`] when they could not be
    /// read, [`ReadError::Closed`] after the shut-down.
    pub fn get(&self, slot: Slot) -> Result<Option<Bytes>, ReadError> {
        self.shared().read_slot(slot)
    }

    /// [`Log::get`] without waiting for the disk: for callers that must not block. Answers from the
    /// page cache, with the same checks.
    ///
    /// ```
    /// # use larder_log::{Log, LogOptions, Now, Slot};
    /// # let dir = tempfile::tempdir()?;
    /// # let log = Log::open(&dir.path().join("log"), LogOptions::default())?;
    /// # let slot = Slot { namespace: 1, id: [7; 16] };
    /// let payload = match log.get_now(slot)? {
    ///     Now::Ready(payload) => payload,
    ///     Now::WouldBlock => log.get(slot)?, // on a thread that may wait
    /// };
    /// # assert_eq!(payload, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Log::get`].
    pub fn get_now(&self, slot: Slot) -> Result<Now, ReadError> {
        self.shared().read_slot_now(slot)
    }

    /// The length of the payload of `slot`, from memory.
    pub fn payload_len(&self, slot: Slot) -> Option<u32> {
        self.shared().index.get(&slot).map(|location| location.len())
    }

    /// Whether `slot` holds something, from memory.
    pub fn contains(&self, slot: Slot) -> bool {
        self.shared().index.contains(&slot)
    }

    /// All entries of a namespace, in the order of their places on disk. Takes 56 bytes of memory an
    /// entry; [`Log::entries`] and [`Log::sweep`] do with less.
    pub fn snapshot(&self, namespace: u16) -> Vec<Entry> {
        self.shared().snapshot(namespace)
    }

    /// The entries of a namespace that [`Log::forget_oldest`] would take with it now, in the order of
    /// their places on disk, from memory. Looks at every entry of the log.
    pub fn oldest_entries(&self, namespace: u16) -> Vec<Entry> {
        self.shared().oldest_entries(namespace)
    }

    /// What the index knows of `slot`, from memory.
    pub fn entry(&self, slot: Slot) -> Option<Entry> {
        self.shared().index.get(&slot).map(|location| Entry::new(&slot, &location))
    }

    /// Whether the slot of `entry` still holds that very record.
    pub fn holds(&self, entry: &Entry) -> bool {
        self.shared().index.get(&entry.slot).is_some_and(|now| entry.lies_at(&now))
    }

    /// The namespaces in which something is stored, in ascending order. Looks at every entry.
    pub fn namespaces(&self) -> Vec<u16> {
        let mut found: Vec<u16> = Vec::new();
        self.shared().index.for_each(|slot, _| {
            if !found.contains(&slot.namespace) {
                found.push(slot.namespace);
            }
        });
        found.sort_unstable();
        found
    }

    /// [`Stats::disk_bytes`](crate::Stats::disk_bytes) alone, for those who ask often.
    pub fn disk_bytes(&self) -> u64 {
        let segments = &self.shared().segments;
        let segments = segments.read().unwrap_or_else(PoisonError::into_inner);
        segments.values().map(|segment| segment.end.load(Ordering::Relaxed)).sum()
    }

    /// [`Stats::entries`](crate::Stats::entries) alone.
    pub fn entry_count(&self) -> u64 {
        self.shared().index.len()
    }

    /// All entries of a namespace, in no order, from memory. Each slot that holds something
    /// throughout comes exactly once; those put or deleted meanwhile may or may not come. Blocks
    /// nobody, and takes memory for one part in 256 of the entries at a time.
    pub fn entries(&self, namespace: u16) -> Entries<'_> {
        Entries::new(self.shared(), namespace)
    }

    /// Reads the wanted entries of a namespace in the order of the disk, in large pieces. `wanted` is
    /// asked once an entry, before anything is read.
    ///
    /// Each slot that holds something throughout comes exactly once, also when compaction moves it
    /// meanwhile: with what it holds when it is its turn. One deleted before its turn does not come.
    /// Takes 8 bytes of memory an entry, at most 128 MiB (more entries are read in several passes),
    /// besides a block of 256 KiB, and keeps the files that it reads in being. A small payload keeps
    /// up to 16 KiB in memory while it is kept: see [`Swept`](crate::Swept). Blocks on the disk;
    /// blocks no other caller.
    pub fn sweep<F: Fn(&Entry) -> bool>(&self, namespace: u16, wanted: F) -> Sweep<'_, F> {
        Sweep::new(self.shared(), namespace, wanted)
    }

    /// The damage that is known: entries of the namespace, and what belongs to nobody in particular.
    pub fn damaged(&self, namespace: u16) -> Vec<Damage> {
        let mut all = self.shared().damage.all();
        all.retain(|damage| damage.slot.is_none_or(|slot| slot.namespace == namespace));
        all
    }

    /// Gives spare memory back and says how many bytes of this process that were: the index becomes as
    /// small as its entries let it. The page cache is told that sealed segments may go; these bytes
    /// are the system's and are not counted. Writers wait for a millisecond at most.
    pub fn advise_low_memory(&self) -> i64 {
        self.shared().give_memory_back()
    }
}
