//! Lives of unequal length.

use std::time::Duration;

use larder_core::clock::Words;

/// Shortens lives at random, so that what was loaded together does not expire together.
#[derive(Debug)]
pub(in crate::cache) struct Jitter(Words);

/// A hundred percent in the unit of the shares.
const WHOLE: u64 = 1_000_000;

impl Jitter {
    /// The same seed gives the same sequence.
    pub(in crate::cache) const fn seeded(seed: u64) -> Self {
        Self(Words::seeded(seed))
    }

    /// A share to cut off from every time of one value, at most `percent` of it.
    pub(in crate::cache) fn share(&self, percent: u8) -> Share {
        if percent == 0 {
            return Share(0);
        }
        let most = u64::from(percent.min(100)) * (WHOLE / 100);
        Share(self.0.next() % (most + 1))
    }
}

/// How much of a time is cut off.
#[derive(Clone, Copy, Debug)]
pub(in crate::cache) struct Share(u64);

impl Share {
    /// What is left of `life`.
    pub(in crate::cache) fn shorten(self, life: Duration) -> Duration {
        let off = life.as_nanos() * u128::from(self.0) / u128::from(WHOLE);
        life.saturating_sub(Duration::from_nanos(u64::try_from(off).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortened_life_stays_within_the_percentage_and_uses_all_of_it() {
        let jitter = Jitter::seeded(7);
        let life = Duration::from_secs(100);
        let lives: Vec<_> = (0..1_000).map(|_| jitter.share(20).shorten(life)).collect();
        assert!(lives.iter().all(|left| (80..=100).contains(&left.as_secs()) && *left <= life));
        assert!(lives.iter().any(|left| left.as_secs() < 82));
        assert!(lives.iter().any(|left| left.as_secs() >= 98));
    }

    #[test]
    fn the_same_seed_gives_the_same_lives() {
        let lives = |seed| {
            let jitter = Jitter::seeded(seed);
            [(); 8].map(|()| jitter.share(50).shorten(Duration::from_hours(1)))
        };
        assert_eq!(lives(1), lives(1));
        assert_ne!(lives(1), lives(2));
    }

    #[test]
    fn no_jitter_changes_nothing_and_too_much_is_all() {
        let jitter = Jitter::seeded(7);
        let life = Duration::from_nanos(u64::MAX);
        assert_eq!(jitter.share(0).shorten(life), life);
        assert!(jitter.share(255).shorten(life) <= life);
    }
}
