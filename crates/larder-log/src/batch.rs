//! What a caller hands in: puts and deletes that happen together or not at all.

use bytes::Bytes;
use smallvec::SmallVec;

use crate::crc32c;
use crate::record::{Header, Kind, frame_len};

/// What a record is stored under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot {
    /// Keeps the entries of different users of one log apart.
    pub namespace: u16,
    /// The id within the namespace.
    pub id: [u8; 16],
}

impl std::fmt::Display for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{:032x}", self.namespace, u128::from_be_bytes(self.id))
    }
}

/// When a batch counts as done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Durability {
    /// Once it is written: it survives the death of the process, and power loss after
    /// [`LogOptions::sync_interval`](crate::LogOptions::sync_interval) at the latest.
    Process,
    /// Once it is synced: it survives power loss.
    Power,
}

/// Puts and deletes that are applied in order, all or none, also across a crash.
///
/// The checksums of the payloads are computed here, in the caller's task. Payloads are shared, not
/// copied.
///
/// ```
/// # use larder_log::{Batch, Slot};
/// let mut batch = Batch::new();
/// batch.put(Slot { namespace: 1, id: [1; 16] }, "hello".into());
/// batch.delete(Slot { namespace: 1, id: [2; 16] });
/// assert_eq!(batch.len(), 2);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub(crate) ops: Ops,
    bytes: u64,
    payload_max: u64,
    puts: u64,
}

/// Most batches hold one operation: that costs no allocation, which the committer would have to free.
pub(crate) type Ops = SmallVec<[Op; 1]>;

/// One operation of a batch.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Put { slot: Slot, payload: Bytes, crc: u32 },
    Delete { slot: Slot },
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds: `slot` holds `payload`, whatever it held before. An empty payload is a payload.
    pub fn put(&mut self, slot: Slot, payload: Bytes) -> &mut Self {
        let crc = crc32c::of(&payload);
        self.bytes += Self::put_bytes(payload.len());
        self.payload_max = self.payload_max.max(payload.len() as u64);
        self.puts += 1;
        self.ops.push(Op::Put { slot, payload, crc });
        self
    }

    /// Adds: `slot` holds nothing. If it held nothing anyway, nothing is written.
    pub fn delete(&mut self, slot: Slot) -> &mut Self {
        self.bytes += Self::delete_bytes();
        self.ops.push(Op::Delete { slot });
        self
    }

    /// What a put of a payload of `len` bytes adds to [`Batch::bytes`].
    pub fn put_bytes(len: usize) -> u64 {
        frame_len(len as u64)
    }

    /// What a delete adds to [`Batch::bytes`].
    pub fn delete_bytes() -> u64 {
        frame_len(8)
    }

    /// Operations in the batch.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether there are no operations.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Bytes that the batch takes on disk and from the byte budget.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn payload_max(&self) -> u64 {
        self.payload_max
    }

    pub(crate) fn puts(&self) -> u64 {
        self.puts
    }
}

impl Op {
    pub(crate) fn slot(&self) -> Slot {
        match self {
            Self::Put { slot, .. } | Self::Delete { slot } => *slot,
        }
    }

    pub(crate) fn is_put(&self) -> bool {
        matches!(self, Self::Put { .. })
    }

    /// The header of a put, still without its position.
    pub(crate) fn put_header(slot: Slot, len: usize, crc: u32, flags: u8, lsn: u64) -> Header {
        Header {
            kind: Kind::Put,
            flags,
            slot,
            payload_len: u32::try_from(len).unwrap_or(u32::MAX),
            payload_crc: crc,
            lsn,
        }
    }
}
