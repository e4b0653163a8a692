//! LZ4: a little smaller, at nearly no cost.

use bytes::Bytes;
use larder_core::BoxError;
use lz4_flex::block;

use super::{Compressor, TooLarge};

/// LZ4 blocks (feature `lz4`): for stores whose network is not the bottleneck.
///
/// A length of four little-endian bytes, then one block. Pure Rust, without `unsafe`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "has nothing to set")]
pub struct Lz4Compressor;

/// No block unpacks to more than this times its own length.
const RATIO_MAX: u64 = 255;

impl Lz4Compressor {
    pub(super) const ID: u16 = 2;
}

/// There is not even a length, or less than it says.
#[derive(Debug, thiserror::Error)]
#[error("something is missing at the end")]
struct Cut;

impl Compressor for Lz4Compressor {
    fn id(&self) -> u16 {
        Self::ID
    }

    fn compress(&self, plain: &[u8], into: &mut Vec<u8>) -> Result<(), BoxError> {
        into.extend_from_slice(&u32::try_from(plain.len())?.to_le_bytes());
        let from = into.len();
        into.resize(from + block::get_maximum_output_size(plain.len()), 0);
        let packed = block::compress_into(plain, &mut into[from..])?;
        into.truncate(from + packed);
        Ok(())
    }

    fn plain_bytes(&self, packed: &[u8]) -> Option<u64> {
        packed.first_chunk().map(|bytes| u32::from_le_bytes(*bytes).into())
    }

    fn decompress(&self, packed: Bytes, bytes_max: usize) -> Result<Bytes, BoxError> {
        let (bytes, packed) = packed.split_first_chunk::<4>().ok_or(Cut)?;
        let bytes = u32::from_le_bytes(*bytes);
        let possible = u64::try_from(packed.len())?.saturating_mul(RATIO_MAX);
        let len = usize::try_from(bytes)?;
        if len > bytes_max || u64::from(bytes) > possible {
            return Err(TooLarge { bytes: bytes.into(), bytes_max }.into());
        }
        let plain = block::decompress(packed, len)?;
        if plain.len() == len { Ok(Bytes::from(plain)) } else { Err(Cut.into()) }
    }
}
