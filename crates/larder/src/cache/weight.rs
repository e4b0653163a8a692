//! What a value weighs in a cache that is bounded in bytes.

use std::sync::Arc;

use bytes::Bytes;

/// How much memory a value keeps alive, in bytes.
///
/// An estimate is enough. Asked once, when the value is written, so it may change later without
/// harm. The cache adds what the key and the entry itself take.
pub trait Weight {
    /// The heap memory behind the value, in bytes.
    fn weight(&self) -> u64;
}

/// The length of something in memory, as a weight.
fn bytes(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

impl Weight for Bytes {
    fn weight(&self) -> u64 {
        bytes(self.len())
    }
}

impl Weight for String {
    fn weight(&self) -> u64 {
        bytes(self.capacity())
    }
}

impl Weight for Vec<u8> {
    fn weight(&self) -> u64 {
        bytes(self.capacity())
    }
}

impl<T: Weight + ?Sized> Weight for Arc<T> {
    fn weight(&self) -> u64 {
        T::weight(self).saturating_add(bytes(size_of_val::<T>(self)))
    }
}

/// Types that keep no memory alive beyond themselves; behind an `Arc` that adds their own size.
macro_rules! weightless {
    ($($plain:ty),*) => { $(
        impl Weight for $plain {
            fn weight(&self) -> u64 {
                0
            }
        }
    )* };
}

weightless!(
    str,
    [u8],
    (),
    bool,
    char,
    u8,
    u16,
    u32,
    u64,
    u128,
    usize,
    i8,
    i16,
    i32,
    i64,
    i128,
    isize,
    f32,
    f64
);
