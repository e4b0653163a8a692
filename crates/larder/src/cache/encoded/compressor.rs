//! Compressors: the payload of a record, smaller.

use std::fmt;

use bytes::Bytes;
use larder_core::BoxError;

mod any;
#[cfg(feature = "lz4")]
mod lz4;
#[cfg(feature = "zstd")]
mod zstd;

pub use any::{AnyCompressor, UnknownCompressor};
#[cfg(feature = "lz4")]
pub use lz4::Lz4Compressor;
#[cfg(feature = "zstd")]
pub use zstd::ZstdCompressor;

/// Makes the payload of a record smaller. Records name their compressor by number.
///
/// Short payloads are compressed and decompressed where the cache is used; from 256 KiB on it is done on
/// the blocking pool of the runtime, so that no other task is held up.
pub trait Compressor: fmt::Debug + Send + Sync + 'static {
    /// The number in the record. Below 256 is larder's; yours is 256 or more.
    fn id(&self) -> u16;

    /// Appends the compressed form of `plain` to `into`, which is not empty and stays as it is
    /// otherwise. What is not smaller in the end is not used.
    ///
    /// # Errors
    /// Any error: nothing is written to the cache.
    fn compress(&self, plain: &[u8], into: &mut Vec<u8>) -> Result<(), BoxError>;

    /// How many bytes [`Compressor::decompress`] would make of `packed`, as far as that says itself: it
    /// decides where that is done, and nothing else. `None`: it does not say, which counts as many.
    fn plain_bytes(&self, packed: &[u8]) -> Option<u64>;

    /// The bytes that [`Compressor::compress`] was given, at most `bytes_max` of them.
    ///
    /// The bytes passed a checksum, yet trust no length in them: whoever can write to the store can
    /// make one up.
    ///
    /// # Errors
    /// Any error, such as more than `bytes_max` bytes: the record counts as a miss.
    fn decompress(&self, packed: Bytes, bytes_max: usize) -> Result<Bytes, BoxError>;
}

/// Leaves the payload as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "has nothing to set")]
pub struct NoCompression;

impl NoCompression {
    /// The number in a record whose payload is as it is.
    pub(super) const ID: u16 = 0;
}

impl Compressor for NoCompression {
    fn id(&self) -> u16 {
        Self::ID
    }

    fn compress(&self, plain: &[u8], into: &mut Vec<u8>) -> Result<(), BoxError> {
        into.extend_from_slice(plain);
        Ok(())
    }

    /// Nothing is done to them, so they are never many.
    fn plain_bytes(&self, _packed: &[u8]) -> Option<u64> {
        Some(0)
    }

    fn decompress(&self, packed: Bytes, _bytes_max: usize) -> Result<Bytes, BoxError> {
        Ok(packed)
    }
}

/// The compressor of larder's own with the number `id`, if it is one that this build has: whatever
/// a cache writes, it reads them all.
pub(super) fn built_in(id: u16) -> Option<&'static dyn Compressor> {
    #[cfg(feature = "zstd")]
    const ZSTD: ZstdCompressor = ZstdCompressor::new();
    match id {
        NoCompression::ID => Some(&NoCompression),
        #[cfg(feature = "zstd")]
        ZstdCompressor::ID => Some(&ZSTD),
        #[cfg(feature = "lz4")]
        Lz4Compressor::ID => Some(&Lz4Compressor),
        _ => None,
    }
}

/// The bytes claim to be more than are allowed.
#[cfg(any(feature = "zstd", feature = "lz4"))]
#[derive(Debug, thiserror::Error)]
#[error("larger than allowed: bytes={bytes} bytes_max={bytes_max}")]
struct TooLarge {
    bytes: u64,
    bytes_max: usize,
}
