//! Compressors: the payload of a record, smaller.

use std::fmt;

use bytes::Bytes;
use larder_core::BoxError;

/// Makes the payload of a record smaller. Records name their compressor by number.
pub trait Compressor: fmt::Debug + Send + Sync + 'static {
    /// The number in the record. Below 256 is larder's; yours is 256 or more.
    fn id(&self) -> u16;

    /// Replaces what `record` holds from the byte `from` on by its compressed form.
    ///
    /// # Errors
    /// Any error: nothing is written to the cache.
    fn compress(&self, record: &mut Vec<u8>, from: usize) -> Result<(), BoxError>;

    /// The bytes that [`Compressor::compress`] was given, at most `bytes_max` of them.
    ///
    /// # Errors
    /// Any error, such as more than `bytes_max` bytes: the record counts as a miss.
    fn decompress(&self, packed: Bytes, bytes_max: usize) -> Result<Bytes, BoxError>;
}

/// Leaves the payload as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "has nothing to set")]
pub struct NoCompression;

impl Compressor for NoCompression {
    fn id(&self) -> u16 {
        0
    }

    fn compress(&self, _record: &mut Vec<u8>, _from: usize) -> Result<(), BoxError> {
        Ok(())
    }

    fn decompress(&self, packed: Bytes, _bytes_max: usize) -> Result<Bytes, BoxError> {
        Ok(packed)
    }
}
