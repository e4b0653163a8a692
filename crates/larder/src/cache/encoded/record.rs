//! The bytes of a cache record. The layout is written down in `docs/format/cache-record-v1.md`.

use bytes::Bytes;
use larder_core::{CacheValue, Timestamp, Version};

/// The length of the header, in bytes.
pub(super) const HEADER_LEN: usize = 56;

const MAGIC: [u8; 4] = *b"LRDC";
const WIRE_VERSION: u8 = 1;

const HAS_EXPIRE: u8 = 1;
const HAS_STALE: u8 = 2;
const HAS_VERSION: u8 = 4;
const HAS_KEY: u8 = 8;
const FLAGS_KNOWN: u8 = HAS_EXPIRE | HAS_STALE | HAS_VERSION | HAS_KEY;

/// Where the number of the compressor is.
const COMPRESSION: std::ops::Range<usize> = 10..12;

/// Where the checksum is; it covers everything else.
const CHECKSUM: std::ops::Range<usize> = 12..16;

/// What a record says about how to read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) codec: u16,
    pub(super) compression: u16,
    pub(super) fingerprint: u64,
}

/// A record taken apart: its payload with its life, and the key it names.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) form: Form,
    pub(super) value: CacheValue<Bytes>,
    /// The key, in a record that is stored under a digest.
    pub(super) key: Option<Bytes>,
}

/// Why bytes are not a record that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// Written by something else, or in a layout that is not known here: leave it alone.
    Foreign,
    /// Ours, and not as it was written: it helps nobody.
    Damaged,
}

/// Begins a record: a header with an open checksum, then the key if the record has to name it.
///
/// The payload is appended by the caller, and [`seal`] closes the record.
pub(super) fn begin<T>(form: Form, life: &CacheValue<T>, key: Option<&str>) -> Vec<u8> {
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    let flags = flag(life.expire.is_some(), HAS_EXPIRE)
        | flag(life.stale.is_some(), HAS_STALE)
        | flag(life.version.is_some(), HAS_VERSION)
        | flag(key.is_some(), HAS_KEY);
    let nanos = |time: Option<Timestamp>| time.map_or(0, Timestamp::as_nanos).to_le_bytes();

    let mut record = Vec::with_capacity(HEADER_LEN + 2 + key.map_or(0, str::len));
    record.extend_from_slice(&MAGIC);
    record.extend_from_slice(&[WIRE_VERSION, flags, 0, 0]);
    record.extend_from_slice(&form.codec.to_le_bytes());
    record.extend_from_slice(&form.compression.to_le_bytes());
    record.extend_from_slice(&[0; 4]);
    record.extend_from_slice(&form.fingerprint.to_le_bytes());
    record.extend_from_slice(&nanos(life.expire));
    record.extend_from_slice(&nanos(life.stale));
    record.extend_from_slice(&life.version.map_or([0; Version::LEN], Version::to_bytes));
    if let Some(key) = key {
        // A key is at most 1,024 bytes long.
        record.extend_from_slice(&u16::try_from(key.len()).unwrap_or(u16::MAX).to_le_bytes());
        record.extend_from_slice(key.as_bytes());
    }
    record
}

/// Notes in a record that is open that its payload is packed by the compressor with that number.
pub(super) fn compressed_by(record: &mut [u8], compression: u16) {
    if let Some(place) = record.get_mut(COMPRESSION) {
        place.copy_from_slice(&compression.to_le_bytes());
    }
}

/// Closes a record: writes its checksum.
pub(super) fn seal(record: &mut [u8]) {
    let checksum = checksum(record).to_le_bytes();
    if let Some(place) = record.get_mut(CHECKSUM) {
        place.copy_from_slice(&checksum);
    }
}

/// Takes a record apart.
///
/// Nothing in it is trusted before the checksum holds, and no length even then.
pub(super) fn parse(record: &Bytes) -> Result<Record, Unreadable> {
    if record.get(..4) != Some(&MAGIC) || record.get(4).is_some_and(|wire| *wire != WIRE_VERSION) {
        return Err(Unreadable::Foreign);
    }
    let header = record.first_chunk::<HEADER_LEN>().ok_or(Unreadable::Damaged)?;
    if u32::from_le_bytes(field(header, CHECKSUM.start)) != checksum(record) {
        return Err(Unreadable::Damaged);
    }
    let (flags, reserved) = (header[5], [header[6], header[7]]);
    if flags & !FLAGS_KNOWN != 0 || reserved != [0, 0] {
        // The checksum holds, so a later version of this layout wrote it.
        return Err(Unreadable::Foreign);
    }
    let has = |flag: u8| flags & flag != 0;
    let time = |at: usize| Timestamp::from_nanos(u64::from_le_bytes(field(header, at)));
    let version = if has(HAS_VERSION) {
        Some(Version::from_bytes(field(header, 40)).ok_or(Unreadable::Foreign)?)
    } else {
        None
    };
    let (key, payload) = if has(HAS_KEY) { split_key(record)? } else { (None, HEADER_LEN) };
    Ok(Record {
        form: Form {
            codec: u16::from_le_bytes(field(header, 8)),
            compression: u16::from_le_bytes(field(header, COMPRESSION.start)),
            fingerprint: u64::from_le_bytes(field(header, 16)),
        },
        value: CacheValue {
            data: record.slice(payload..),
            expire: has(HAS_EXPIRE).then(|| time(24)),
            stale: has(HAS_STALE).then(|| time(32)),
            version,
        },
        key,
    })
}

/// The key behind the header, and where the payload begins.
fn split_key(record: &Bytes) -> Result<(Option<Bytes>, usize), Unreadable> {
    let len = record.get(HEADER_LEN..).and_then(<[u8]>::first_chunk::<2>);
    let len = usize::from(u16::from_le_bytes(*len.ok_or(Unreadable::Damaged)?));
    let (from, to) = (HEADER_LEN + 2, HEADER_LEN + 2 + len);
    if record.len() < to {
        return Err(Unreadable::Damaged);
    }
    Ok((Some(record.slice(from..to)), to))
}

/// `N` bytes of the header from `at` on; every caller stays inside of it.
fn field<const N: usize>(header: &[u8; HEADER_LEN], at: usize) -> [u8; N] {
    header.get(at..).and_then(<[u8]>::first_chunk::<N>).copied().unwrap_or([0; N])
}

/// The checksum of a record: everything but the checksum itself.
fn checksum(record: &[u8]) -> u32 {
    let before = record.get(..CHECKSUM.start).unwrap_or_default();
    let after = record.get(CHECKSUM.end..).unwrap_or_default();
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    digest.update(before);
    digest.update(after);
    // A checksum of 32 bits: the other half is zero.
    u32::try_from(digest.finalize()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
