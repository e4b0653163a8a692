//! A compressor that is chosen at run time.

use std::str::FromStr;

use bytes::Bytes;
use larder_core::{BoxError, Effect, Failure, Retry};

use super::{Compressor, NoCompression};

/// Any of larder's own compressors, as from a config.
///
/// ```
/// use larder::cache::AnyCompressor;
///
/// assert_eq!("none".parse(), Ok(AnyCompressor::None));
/// assert!("gzip".parse::<AnyCompressor>().is_err());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AnyCompressor {
    /// See [`NoCompression`].
    #[default]
    None,
    /// See [`ZstdCompressor`](super::ZstdCompressor).
    #[cfg(feature = "zstd")]
    Zstd(super::ZstdCompressor),
    /// See [`Lz4Compressor`](super::Lz4Compressor).
    #[cfg(feature = "lz4")]
    Lz4(super::Lz4Compressor),
}

/// A word that names no compressor of this build: config is wrong. Nothing was done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no compression {0:?} in this build: use one of {known}", known = known())]
pub struct UnknownCompressor(String);

fn known() -> String {
    let words: Vec<&str> = AnyCompressor::ALL.iter().map(|known| known.as_str()).collect();
    words.join(", ")
}

impl AnyCompressor {
    /// The word used in config.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            #[cfg(feature = "zstd")]
            Self::Zstd(_) => "zstd",
            #[cfg(feature = "lz4")]
            Self::Lz4(_) => "lz4",
        }
    }

    /// All that this build has, each as it is by default.
    const ALL: &[Self] = &[
        Self::None,
        #[cfg(feature = "zstd")]
        Self::Zstd(super::ZstdCompressor::new()),
        #[cfg(feature = "lz4")]
        Self::Lz4(super::Lz4Compressor),
    ];

    fn inner(&self) -> &dyn Compressor {
        match self {
            Self::None => &NoCompression,
            #[cfg(feature = "zstd")]
            Self::Zstd(compressor) => compressor,
            #[cfg(feature = "lz4")]
            Self::Lz4(compressor) => compressor,
        }
    }
}

impl FromStr for AnyCompressor {
    type Err = UnknownCompressor;

    fn from_str(text: &str) -> Result<Self, UnknownCompressor> {
        let found = Self::ALL.iter().find(|compressor| compressor.as_str() == text);
        found.copied().ok_or_else(|| UnknownCompressor(text.to_owned()))
    }
}

impl Failure for UnknownCompressor {
    fn effect(&self) -> Effect {
        Effect::NotApplied
    }

    fn retry(&self) -> Retry {
        Retry::Never
    }
}

impl Compressor for AnyCompressor {
    fn id(&self) -> u16 {
        self.inner().id()
    }

    fn compress(&self, plain: &[u8], into: &mut Vec<u8>) -> Result<(), BoxError> {
        self.inner().compress(plain, into)
    }

    fn plain_bytes(&self, packed: &[u8]) -> Option<u64> {
        self.inner().plain_bytes(packed)
    }

    fn decompress(&self, packed: Bytes, bytes_max: usize) -> Result<Bytes, BoxError> {
        self.inner().decompress(packed, bytes_max)
    }
}
