//! What a cache on disk has to know about itself: its layout, the seed of its hash, and which run of the
//! machine wrote to it.

use bytes::Bytes;
use larder_core::BoxError;
use larder_core::clock::random_u64;
use larder_log::{Batch, Durability, Log, Outcome, Slot};

use crate::driver::log as driver;

/// The magic, and the number of the layout of titles, records and slots.
const MAGIC: [u8; 8] = *b"LRDRDSK\x01";
const LEN: usize = 8 + 16 + 16;
/// A run of the machine that nobody knows.
const UNKNOWN: [u8; 16] = [0; 16];

const SLOT: Slot = Slot { namespace: driver::CACHE_TITLE, id: [0; 16] };

/// The title of a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Title {
    /// Keeps strangers from choosing keys that share a slot.
    pub(super) seeds: [u64; 2],
    boot: [u8; 16],
}

impl Title {
    /// A title with seeds of its own.
    pub(super) fn new(boot: Option<[u8; 16]>) -> Self {
        Self { seeds: [random_u64(), random_u64()], boot: boot.unwrap_or(UNKNOWN) }
    }

    /// The title of an open log; `None` without one that is understood.
    pub(super) fn read(log: &Log) -> Option<Self> {
        let bytes = log.get(SLOT).ok().flatten()?;
        let bytes: &[u8; LEN] = (&*bytes).try_into().ok()?;
        if bytes[..8] != MAGIC {
            return None;
        }
        let seed =
            |at: usize| bytes[at..].first_chunk().map_or(0, |seed| u64::from_be_bytes(*seed));
        let boot = bytes[24..].first_chunk().copied().unwrap_or(UNKNOWN);
        Some(Self { seeds: [seed(8), seed(16)], boot })
    }

    /// Whether it was written in the run of the machine that is called `boot`.
    pub(super) fn is_of(&self, boot: Option<[u8; 16]>) -> bool {
        self.boot != UNKNOWN && boot == Some(self.boot)
    }

    /// The same title in another run of the machine.
    pub(super) fn in_run(self, boot: Option<[u8; 16]>) -> Self {
        Self { boot: boot.unwrap_or(UNKNOWN), ..self }
    }

    /// Whether the log has no title, as when the segment that it was in has been forgotten.
    pub(super) fn is_missing(log: &Log) -> bool {
        !log.contains(SLOT)
    }

    /// Writes it; an error says what the log answered.
    pub(super) fn write(&self, log: &Log) -> Result<(), BoxError> {
        let mut bytes = Vec::with_capacity(LEN);
        bytes.extend_from_slice(&MAGIC);
        for seed in self.seeds {
            bytes.extend_from_slice(&seed.to_be_bytes());
        }
        bytes.extend_from_slice(&self.boot);
        let mut batch = Batch::new();
        batch.put(SLOT, Bytes::from(bytes));
        let ticket = log.submit(batch, Durability::Process)?;
        match ticket.wait(None) {
            Some(Outcome::Failed(error)) => Err(error.to_string().into()),
            _ => Ok(()),
        }
    }
}
