//! Payloads that cannot be compressed, and the ids they get; made at next to no cost.

use bytes::Bytes;
use larder::clock::{fill_random, random_u64};
use larder::{Clock, SpoolId, SystemClock};

/// Random bytes that every payload is a window of.
const POOL_BYTES: usize = 16 << 20;
/// Windows begin at multiples of this.
const STEP: usize = 64;

/// Random bytes to cut payloads from.
#[derive(Clone)]
pub(crate) struct Payloads {
    pool: Bytes,
}

/// One client's sequence of fresh ids and payloads.
pub(crate) struct Source {
    pool: Bytes,
    size: usize,
    random: Random,
}

/// Numbers of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new() -> Self {
        Self(random_u64())
    }

    pub(crate) const fn from_seed(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).unwrap_or_default()
    }

    /// A number from zero to one.
    #[expect(clippy::cast_precision_loss, reason = "32 bits fit")]
    pub(crate) fn fraction(&mut self) -> f64 {
        (self.next() >> 32) as f64 / (1_u64 << 32) as f64
    }
}

impl Payloads {
    pub(crate) fn new() -> Self {
        let mut pool = vec![0; POOL_BYTES];
        fill_random(&mut pool);
        Self { pool: pool.into() }
    }

    /// A sequence of payloads of `size` bytes.
    pub(crate) fn source(&self, size: usize) -> Source {
        Source { pool: self.pool.clone(), size: size.min(POOL_BYTES / 2), random: Random::new() }
    }
}

impl Source {
    /// A new id, a UUID of version 7 as the spool makes them, without asking the system for
    /// randomness each time.
    pub(crate) fn id(&mut self) -> SpoolId {
        let (high, low) = (self.random.next(), self.random.next());
        let mut bytes = [0; 16];
        let (time, rest) = bytes.split_at_mut(6);
        time.copy_from_slice(&SystemClock.now().as_millis().to_be_bytes()[2..]);
        rest[..2].copy_from_slice(&(0x7000_u64 | (high >> 52)).to_be_bytes()[6..]);
        rest[2..].copy_from_slice(&(1 << 63 | low >> 2).to_be_bytes());
        SpoolId::from_bytes(bytes)
    }

    /// The next payload.
    pub(crate) fn payload(&mut self) -> Bytes {
        let windows = (POOL_BYTES - self.size) / STEP;
        let at = self.below(windows) * STEP;
        self.pool.slice(at..at + self.size)
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.random.below(limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_of_the_kind_that_the_spool_makes() {
        let mut source = Payloads::new().source(10);
        let before = SystemClock.now().as_millis();
        let (one, two) = (source.id(), source.id());
        assert_ne!(one, two);
        assert!(one.created().unwrap().as_millis() >= before);
    }

    #[test]
    fn payloads_have_their_size_and_differ() {
        let mut source = Payloads::new().source(1024);
        let (one, two) = (source.payload(), source.payload());
        assert_eq!((one.len(), two.len()), (1024, 1024));
        assert_ne!(one, two);
    }
}
