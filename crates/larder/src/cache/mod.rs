//! Caches: tiers in memory and behind, two of them as one, and the face that a service uses.

mod encoded;
mod memory;
mod weight;

#[cfg(feature = "json")]
pub use encoded::JsonCodec;
pub use encoded::{
    Codec, Compressor, Encoded, NAMESPACE_BYTES_MAX, NoCompression, RawCodec, Schema, SchemaError,
};
pub use larder_core::cache::*;
pub use memory::{MemoryCache, MemoryCacheBuilder};
pub use weight::Weight;
