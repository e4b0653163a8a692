//! Codecs: a value to bytes and back.

use std::fmt;

use bytes::Bytes;
use larder_core::BoxError;

/// Turns values into bytes and back.
///
/// Records name their codec by number. A codec whose bytes change incompatibly needs a new number;
/// a type whose meaning changes needs a new version in its [`Schema`](super::Schema).
///
/// | | for | records survive |
/// |---|---|---|
/// | [`RawCodec`] | `Bytes` | |
/// | `JsonCodec` (feature `json`) | any serde type | fields that come and go, with serde's defaults |
/// | `PostcardCodec` (feature `postcard`) | any serde type, small and fast | nothing: count up the schema |
pub trait Codec<V>: fmt::Debug + Send + Sync + 'static {
    /// The number in the record. Below 256 is larder's; yours is 256 to 32,767.
    fn id(&self) -> u16;

    /// Appends the bytes of `value` to `into`, which is not empty and stays as it is otherwise.
    ///
    /// # Errors
    /// Any error: the value cannot be encoded and nothing is written to the cache.
    fn encode(&self, value: &V, into: &mut Vec<u8>) -> Result<(), BoxError>;

    /// The value that [`Codec::encode`] wrote.
    ///
    /// The bytes passed a checksum, yet may have been written by another version of the program:
    /// trust no length in them.
    ///
    /// # Errors
    /// Any error: the record counts as a miss.
    fn decode(&self, encoded: Bytes) -> Result<V, BoxError>;
}

/// Bytes as they are; decoding shares the memory of the record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "has nothing to set")]
pub struct RawCodec;

impl Codec<Bytes> for RawCodec {
    fn id(&self) -> u16 {
        1
    }

    fn encode(&self, value: &Bytes, into: &mut Vec<u8>) -> Result<(), BoxError> {
        into.extend_from_slice(value);
        Ok(())
    }

    fn decode(&self, encoded: Bytes) -> Result<Bytes, BoxError> {
        Ok(encoded)
    }
}

/// Any serde type as JSON (feature `json`).
///
/// Not the smallest format, but the one that survives a rolling deploy best: a field that one
/// version lacks is skipped or defaulted by the other, where a compact format would misread it. And
/// an operator can read a record with any tool.
#[cfg(feature = "json")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "has nothing to set")]
pub struct JsonCodec;

#[cfg(feature = "json")]
impl<V: serde::Serialize + serde::de::DeserializeOwned> Codec<V> for JsonCodec {
    fn id(&self) -> u16 {
        2
    }

    fn encode(&self, value: &V, into: &mut Vec<u8>) -> Result<(), BoxError> {
        Ok(serde_json::to_writer(into, value)?)
    }

    fn decode(&self, encoded: Bytes) -> Result<V, BoxError> {
        Ok(serde_json::from_slice(&encoded)?)
    }
}

/// Any serde type in the compact format of `postcard` (feature `postcard`).
///
/// A fraction of the size and of the time of JSON, and [stable](https://postcard.jamesmunns.com). It
/// names no fields: whatever changes the shape of a type (a field more or less, another order) needs
/// a new version in its [`Schema`](super::Schema). A value that is read has to use all of its bytes.
#[cfg(feature = "postcard")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "has nothing to set")]
pub struct PostcardCodec;

/// There are bytes behind the value, so another type was written.
#[cfg(feature = "postcard")]
#[derive(Debug, thiserror::Error)]
#[error("bytes are left over: bytes={0}")]
struct LeftOver(usize);

#[cfg(feature = "postcard")]
impl<V: serde::Serialize + serde::de::DeserializeOwned> Codec<V> for PostcardCodec {
    fn id(&self) -> u16 {
        3
    }

    fn encode(&self, value: &V, into: &mut Vec<u8>) -> Result<(), BoxError> {
        postcard::to_io(value, into)?;
        Ok(())
    }

    fn decode(&self, encoded: Bytes) -> Result<V, BoxError> {
        match postcard::take_from_bytes(&encoded)? {
            (value, []) => Ok(value),
            (_, rest) => Err(LeftOver(rest.len()).into()),
        }
    }
}
