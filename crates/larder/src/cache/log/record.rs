//! The bytes of an entry on disk. The layout is written down in `docs/format/log-cache-v1.md`.

use bytes::{BufMut, Bytes, BytesMut};
use larder_core::{CacheValue, KeyRef};

use crate::cache::head;

/// The length of a key, in bytes.
const LEN_LEN: usize = 2;

/// What a record takes besides its key and its data.
pub(super) const OVERHEAD: usize = head::HEAD_LEN + LEN_LEN;

/// The record of an entry: its life and version, its key, its data.
pub(super) fn encode(key: KeyRef<'_>, value: &CacheValue<Bytes>) -> Bytes {
    let mut record = BytesMut::with_capacity(OVERHEAD + key.as_str().len() + value.data.len());
    record.put_slice(&head::head(value));
    record.put_u16(u16::try_from(key.as_str().len()).unwrap_or(u16::MAX));
    record.put_slice(key.as_str().as_bytes());
    record.put_slice(&value.data);
    record.freeze()
}

/// What a record says.
pub(super) struct Record {
    pub(super) key: Bytes,
    /// Shares the memory of the record.
    pub(super) value: CacheValue<Bytes>,
}

/// Takes a record apart; `None` when it is none.
pub(super) fn decode(record: &Bytes) -> Option<Record> {
    let life = head::parse(record)?;
    let rest = record.slice(head::HEAD_LEN..);
    let len = usize::from(u16::from_be_bytes(*rest.first_chunk::<LEN_LEN>()?));
    let rest = rest.slice(LEN_LEN..);
    if rest.len() < len {
        return None;
    }
    Some(Record { key: rest.slice(..len), value: life.map(|()| rest.slice(len..)) })
}

#[cfg(test)]
mod tests {
    use larder_core::{Timestamp, Version};

    use super::*;

    #[test]
    fn a_record_is_what_was_written() {
        for key in ["k", &"ü".repeat(512)] {
            for data in [&b""[..], b"data"] {
                let mut value = CacheValue::new(Bytes::from_static(data));
                value.expire = Some(Timestamp::from_nanos(7));
                value.version = Some(Version::from_parts(1, 2));
                let key = KeyRef::new(key).unwrap();
                let bytes = encode(key, &value);
                let before = OVERHEAD + key.as_str().len();
                assert_eq!(bytes.len(), before + data.len());
                let record = decode(&bytes).unwrap();
                assert_eq!((&record.key[..], &record.value), (key.as_str().as_bytes(), &value));
                for cut in 0..before {
                    assert!(decode(&bytes.slice(..cut)).is_none(), "{cut} bytes");
                }
            }
        }
    }
}
