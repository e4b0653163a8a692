//! What an object holds: all live versions of a key, and who wrote last (docs/format/s3-object-v1.md).

use bytes::{BufMut as _, Bytes, BytesMut};
use larder_core::{SeqNo, VersionedData, key};

/// The layout of this release.
pub(crate) const FORMAT: u8 = 1;
const MAGIC: &[u8; 4] = b"LRDO";
/// What comes before the key.
const HEADER: usize = 4 + 1 + 3 + 4 + 8 + 2 + 2 + 4;
const CHECKSUM: std::ops::Range<usize> = 8..12;
/// What a version takes besides its data.
const VERSION: usize = 8 + 4;
/// So many writers are remembered.
pub(super) const WRITERS: usize = 64;

/// A random number that names one write.
pub(super) type Nonce = u64;

/// The state of a key that has data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(super) key: String,
    /// How many writes made it, this one included.
    pub(super) writes: u64,
    /// The nonces of the last of them, the newest at the end.
    pub(super) writers: Vec<Nonce>,
    /// Ascending; never empty.
    pub(super) versions: Vec<VersionedData>,
}

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// They are of another release.
    Newer(u8),
    /// They are damaged, or something else.
    Damaged(&'static str),
}

impl Record {
    /// That of a key with its first version.
    pub(super) fn new(key: &str, first: VersionedData) -> Self {
        Self { key: key.to_owned(), writes: 0, writers: Vec::new(), versions: vec![first] }
    }

    /// The same with a new head.
    pub(super) fn with(&self, new: VersionedData) -> Self {
        let mut record = self.clone();
        record.versions.push(new);
        record
    }

    /// The same without older versions, and how many those were.
    pub(super) fn without_those_below(&self, seqno: SeqNo) -> (Self, usize) {
        let mut record = self.clone();
        record.versions.retain(|version| version.seqno >= seqno);
        let deleted = self.versions.len() - record.versions.len();
        (record, deleted)
    }

    /// The newest version's number.
    pub(super) fn head(&self) -> Option<SeqNo> {
        self.versions.last().map(|version| version.seqno)
    }

    /// How many bytes it takes at most, when one more has written.
    pub(super) fn bytes(&self) -> u64 {
        let data: usize = self.versions.iter().map(|version| VERSION + version.data.len()).sum();
        // Before it is signed there is one writer less.
        let writers = (self.writers.len() + 1).min(WRITERS);
        let bytes = HEADER + self.key.len() + 8 * writers + data;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }

    /// Writes down who wrote.
    pub(super) fn sign(&mut self, nonce: Nonce) {
        self.writes += 1;
        self.writers.push(nonce);
        let surplus = self.writers.len().saturating_sub(WRITERS);
        self.writers.drain(..surplus);
    }

    /// The nonce of the write with a number, if it is remembered.
    pub(super) fn writer(&self, number: u64) -> Option<Nonce> {
        let back = usize::try_from(self.writes.checked_sub(number)?).ok()?;
        let at = self.writers.len().checked_sub(back + 1)?;
        self.writers.get(at).copied()
    }

    /// The bytes of an object.
    pub(crate) fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(usize::try_from(self.bytes()).unwrap_or(0));
        bytes.put_slice(MAGIC);
        bytes.put_u8(FORMAT);
        bytes.put_bytes(0, 3);
        bytes.put_u32_le(0);
        bytes.put_u64_le(self.writes);
        // All three are bounded: by the contract, by `sign` and by the largest object.
        bytes.put_u16_le(u16::try_from(self.key.len()).unwrap_or(u16::MAX));
        bytes.put_u16_le(u16::try_from(self.writers.len()).unwrap_or(u16::MAX));
        bytes.put_u32_le(u32::try_from(self.versions.len()).unwrap_or(u32::MAX));
        bytes.put_slice(self.key.as_bytes());
        for nonce in &self.writers {
            bytes.put_u64_le(*nonce);
        }
        for version in &self.versions {
            bytes.put_u64_le(version.seqno.0);
            bytes.put_u32_le(u32::try_from(version.data.len()).unwrap_or(u32::MAX));
            bytes.put_slice(&version.data);
        }
        let sum = checksum(&bytes).to_le_bytes();
        bytes[CHECKSUM].copy_from_slice(&sum);
        bytes.freeze()
    }

    /// The record in the bytes of an object; data are slices of them.
    pub(crate) fn decode(bytes: &Bytes) -> Result<Self, Unreadable> {
        use Unreadable::{Damaged, Newer};
        let mut rest = Rest(bytes.clone());
        if rest.take(4).as_deref() != Some(MAGIC) {
            return Err(Damaged("it does not begin as one"));
        }
        let short = Damaged("it is too short");
        match rest.u8().ok_or(short)? {
            FORMAT => {}
            other => return Err(Newer(other)),
        }
        let reserved = rest.take(3).ok_or(short)?;
        let sum = rest.u32().ok_or(short)?;
        if bytes.len() < HEADER || sum != checksum(bytes) {
            return Err(Damaged("its checksum is wrong"));
        }
        if *reserved != [0; 3] {
            return Err(Damaged("a reserved byte is set"));
        }
        let number = rest.u64().ok_or(short)?;
        let key_len = rest.u16().ok_or(short)?;
        let writer_count = rest.u16().ok_or(short)?;
        let version_count = rest.u32().ok_or(short)?;
        let key = rest.take(usize::from(key_len)).ok_or(short)?;
        let key = std::str::from_utf8(&key).ok().filter(|key| key::check_key(key).is_ok());
        let key = key.ok_or(Damaged("it names no key"))?.to_owned();
        let writer_count = usize::from(writer_count);
        if number == u64::MAX {
            return Err(Damaged("it counts more writes than there can have been"));
        }
        let is_bounded = (1..=WRITERS).contains(&writer_count);
        if !is_bounded || u64::try_from(writer_count).is_ok_and(|count| count > number) {
            return Err(Damaged("it names too many writers, or none"));
        }
        let writers = (0..writer_count).map(|_| rest.u64()).collect::<Option<_>>().ok_or(short)?;
        let versions = rest.versions(version_count)?;
        Ok(Self { key, writes: number, writers, versions })
    }
}

/// What is left of an object.
struct Rest(Bytes);

impl Rest {
    fn take(&mut self, len: usize) -> Option<Bytes> {
        (len <= self.0.len()).then(|| self.0.split_to(len))
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.as_ref().try_into().ok()
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// So many versions, and nothing behind them.
    fn versions(mut self, count: u32) -> Result<Vec<VersionedData>, Unreadable> {
        use Unreadable::Damaged;
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        // No memory is taken for what cannot be there.
        if count == 0 || count > self.0.len() / VERSION {
            return Err(Damaged("it has no versions, or fewer than it says"));
        }
        let mut versions: Vec<VersionedData> = Vec::with_capacity(count);
        for _ in 0..count {
            let short = Damaged("a version is cut off");
            let seqno = SeqNo(self.u64().ok_or(short)?);
            let len = self.u32().ok_or(short)?;
            let data = self.take(usize::try_from(len).unwrap_or(usize::MAX)).ok_or(short)?;
            let rises = versions.last().is_none_or(|last| last.seqno < seqno);
            if !rises || !seqno.is_valid() {
                return Err(Damaged("its versions are in no order"));
            }
            versions.push(VersionedData { seqno, data });
        }
        if self.0.is_empty() { Ok(versions) } else { Err(Damaged("something is behind it")) }
    }
}

/// CRC-32C of all bytes but the checksum's own.
fn checksum(bytes: &[u8]) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    digest.update(&bytes[..CHECKSUM.start.min(bytes.len())]);
    digest.update(bytes.get(CHECKSUM.end..).unwrap_or_default());
    u32::try_from(digest.finalize()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
