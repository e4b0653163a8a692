//! Zstandard: much smaller, at a moderate cost.

use std::cell::RefCell;
use std::io;

use ::zstd::{bulk, zstd_safe};
use bytes::Bytes;
use larder_core::BoxError;

use super::{Compressor, TooLarge};

/// Zstandard frames (feature `zstd`): for stores behind a network, or that are short of room.
///
/// The reference implementation in C, which is built along; a C compiler has to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZstdCompressor {
    level: i32,
}

impl ZstdCompressor {
    pub(super) const ID: u16 = 1;

    /// The level unless another one is asked for.
    pub const LEVEL: i32 = 1;

    /// Compresses at [`ZstdCompressor::LEVEL`].
    pub const fn new() -> Self {
        Self { level: Self::LEVEL }
    }

    /// Compresses at `level`, from 1, the fastest, to 19; beyond that it is the nearest of them.
    /// Every level reads what all others wrote.
    #[must_use]
    pub fn level(mut self, level: i32) -> Self {
        self.level = level.clamp(1, 19);
        self
    }
}

/// A context costs more than a small payload (10 of 13 us for 1 KiB), so threads keep theirs; but only
/// for payloads up to so many bytes, because a context grows with what it has seen.
const KEPT_FOR: usize = 256 << 10;

thread_local! {
    static PACKING: RefCell<Option<bulk::Compressor<'static>>> = const { RefCell::new(None) };
    static UNPACKING: RefCell<Option<bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

impl ZstdCompressor {
    fn pack(self, plain: &[u8], into: &mut [u8]) -> io::Result<usize> {
        if plain.len() > KEPT_FOR {
            return bulk::compress_to_buffer(plain, into, self.level);
        }
        PACKING.with_borrow_mut(|kept| {
            let context = match kept {
                Some(context) => context,
                None => kept.insert(bulk::Compressor::new(self.level)?),
            };
            context.set_compression_level(self.level)?;
            context.compress_to_buffer(plain, into)
        })
    }

    fn unpack(packed: &[u8], len: usize) -> io::Result<Vec<u8>> {
        UNPACKING.with_borrow_mut(|kept| {
            let context = match kept {
                Some(context) => context,
                None => kept.insert(bulk::Decompressor::new()?),
            };
            context.decompress(packed, len)
        })
    }
}

impl Default for ZstdCompressor {
    fn default() -> Self {
        Self::new()
    }
}

/// The length of what is in a frame is not in front of it.
#[derive(Debug, thiserror::Error)]
#[error("not a frame that states its length")]
struct NoLength;

impl Compressor for ZstdCompressor {
    fn id(&self) -> u16 {
        Self::ID
    }

    fn compress(&self, plain: &[u8], into: &mut Vec<u8>) -> Result<(), BoxError> {
        let from = into.len();
        into.resize(from + zstd_safe::compress_bound(plain.len()), 0);
        let packed = self.pack(plain, &mut into[from..])?;
        into.truncate(from + packed);
        Ok(())
    }

    fn plain_bytes(&self, packed: &[u8]) -> Option<u64> {
        zstd_safe::get_frame_content_size(packed).ok().flatten()
    }

    fn decompress(&self, packed: Bytes, bytes_max: usize) -> Result<Bytes, BoxError> {
        let bytes = self.plain_bytes(&packed).ok_or(NoLength)?;
        let len = usize::try_from(bytes).ok().filter(|len| *len <= bytes_max);
        let len = len.ok_or(TooLarge { bytes, bytes_max })?;
        Ok(Bytes::from(Self::unpack(&packed, len)?))
    }
}
