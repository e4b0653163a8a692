//! How a log is opened.

use std::time::Duration;

use crate::FreeLimit;

/// Settings of [`Log::open`](crate::Log::open). Every field has a default; none is stored on disk,
/// so they may differ from one open to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent settings, each with a name")]
pub struct LogOptions {
    /// Bytes after which a segment file is sealed and the next one begun. Default 64 MiB, at least
    /// 4 KiB. A batch that is larger gets a segment of its own.
    pub segment_bytes: u64,
    /// Largest payload of one record, inclusive. Default 1 GiB, at most 4 GiB - 64 KiB.
    pub max_payload_bytes: u64,
    /// Bytes that may be on their way to the disk at once (record headers included). Default
    /// 64 MiB. A batch larger than the budget is admitted when nothing else is on its way.
    pub budget_bytes: u64,
    /// Longest time that data written with [`Durability::Process`](crate::Durability::Process)
    /// stays out of reach of power-loss safety. Default 100 ms.
    pub sync_interval: Duration,
    /// Largest number of entries; puts beyond it are refused. `None`: no limit but memory: 45 to 56
    /// bytes an entry while the log grows, at most 75 whatever is deleted, plus 100 KiB.
    pub max_entries: Option<u64>,
    /// Largest sum of the bytes of live records; puts beyond it are refused. `None`: no limit.
    pub max_bytes: Option<u64>,
    /// Space of the file system that has to stay free: while less is, puts are refused with
    /// [`SubmitError::NoSpace`](crate::SubmitError::NoSpace). Default off: the log keeps by itself
    /// what deletes and compaction need, so this is for whoever else uses the file system, and only
    /// its owner knows how much that is. Looked at every two seconds, so up to two seconds' worth of
    /// puts may go beyond it.
    pub min_free_space: FreeLimit,
    /// The same for inodes. Default off. A file system that does not count them has no limit.
    pub min_free_inodes: FreeLimit,
    /// Reclaim space in the background. Whenever that has caught up, the files take at most twice the
    /// live bytes, and three segments (two of dead bytes, and the one that is written), and 4.2 KiB for
    /// each file, and `recycle_bytes`; with the defaults that is twice the live bytes and 512 MiB. Damaged
    /// segments are kept besides.
    ///
    /// A writer that overwrites faster than that can be reclaimed waits for it: from five segments on
    /// (instead of three) each group is delayed, up to a second, by the more the more there is, so that
    /// the files take at most twice the live bytes and ten segments, besides what is said above. Deletes
    /// lower the bound itself, so after many of them it holds as soon as compaction has caught up.
    /// Nobody waits where compaction cannot go on. What is copied is less than what is given to the log,
    /// unless the disk is short of room: then also what gives little back is copied. Default true. When
    /// false, only [`Log::compact`](crate::Log::compact) reclaims.
    pub auto_compact: bool,
    /// Bytes of dead segment files that are kept to be written again instead of being removed:
    /// syncing blocks that were written before is the cheapest sync there is. They come on top of
    /// everything else on the disk; once that was found full they are given back, and no more are kept
    /// until a new file could be made. Default 320 MiB, which is
    /// four files of the default size; 0 turns it off.
    pub recycle_bytes: u64,
    /// How many bytes a second the background may read and write to reclaim space. Default 64 MiB; 0
    /// is no limit. The further the dead bytes exceed their bound, the faster it goes: from two segments on
    /// as fast as it can, whatever this says, and while the disk is short of room. [`Log::compact`](crate::Log::compact) is not limited, and the
    /// background hurries while somebody waits for it there.
    pub compact_bytes_per_second: u64,
    /// How many bytes a second the background reads to find rot in sealed segments before a reader
    /// does. Default 4 MiB; 0 is never. What the system has in its page cache is checked there, so rot
    /// on the disk below it is found in a later pass.
    pub scrub_bytes_per_second: u64,
    /// How long after the beginning of one such pass the next one begins, at the soonest. Default 7
    /// days, at least 10 ms. The first begins a minute after the log was opened, or sooner if this is shorter.
    pub scrub_interval: Duration,
    /// Reserve disk blocks ahead of the writes, so that a full disk refuses a batch before any of
    /// it is written. Default true; a file system that cannot is not an error.
    pub preallocate: bool,
    /// Read every byte of every segment while opening, instead of their footers, so that all damage
    /// to entries is known once the log is open. Default false: it is found when an entry is read or
    /// copied, and opening takes a time that depends on the number of entries only.
    pub verify_on_open: bool,
    /// Create the folder and an empty log when there is none. Default true.
    pub create_missing: bool,
}

impl LogOptions {
    /// The hard limit of a payload: what the 32-bit length of a record can hold, with room to spare.
    pub const PAYLOAD_BYTES_MAX: u64 = u32::MAX as u64 - 64 * 1024;
    /// The smallest segment that makes sense: its header block and as much again.
    pub const SEGMENT_BYTES_MIN: u64 = 4096;
    /// Offsets in the index count 8-byte units in 32 bits, so a segment begins every record below
    /// this.
    pub const SEGMENT_BYTES_MAX: u64 = 16 << 30;

    /// The settings with every field brought into its range.
    pub(crate) fn clamped(mut self) -> Self {
        self.segment_bytes =
            self.segment_bytes.clamp(Self::SEGMENT_BYTES_MIN, Self::SEGMENT_BYTES_MAX);
        self.max_payload_bytes = self.max_payload_bytes.min(Self::PAYLOAD_BYTES_MAX);
        self.budget_bytes = self.budget_bytes.max(4096);
        self.scrub_interval = self.scrub_interval.max(Duration::from_millis(10));
        self
    }
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            max_payload_bytes: 1 << 30,
            budget_bytes: 64 << 20,
            sync_interval: Duration::from_millis(100),
            max_entries: None,
            max_bytes: None,
            min_free_space: FreeLimit::Off,
            min_free_inodes: FreeLimit::Off,
            auto_compact: true,
            recycle_bytes: 320 << 20,
            compact_bytes_per_second: 64 << 20,
            scrub_bytes_per_second: 4 << 20,
            scrub_interval: Duration::from_hours(7 * 24),
            preallocate: true,
            verify_on_open: false,
            create_missing: true,
        }
    }
}
