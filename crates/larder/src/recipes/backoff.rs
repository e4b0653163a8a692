//! Pauses that grow.

use std::time::Duration;

use larder_core::clock::Words;

/// Pauses between attempts: each up to twice as long as the one before, between half and whole at random, so that
/// those who met once do not meet again.
///
/// Source: M. Brooker, "Exponential Backoff And Jitter", 2015 ("equal jitter").
#[derive(Debug)]
pub(super) struct Backoff {
    least: Duration,
    most: Duration,
    next: Duration,
    words: Words,
}

impl Backoff {
    /// Pauses of these lengths, as the words decide.
    pub(super) fn new(least: Duration, most: Duration, words: Words) -> Self {
        Self { least, most: most.max(least), next: least, words }
    }

    /// The same words for pauses of other lengths.
    pub(super) fn between(self, least: Duration, most: Duration) -> Self {
        Self::new(least, most, self.words)
    }

    /// Pauses of the same lengths, as a seed decides.
    pub(super) fn seeded(self, seed: u64) -> Self {
        Self { words: Words::seeded(seed), ..self }
    }

    /// The next pause.
    pub(super) fn pause(&mut self) -> Duration {
        let whole = self.next;
        self.next = whole.saturating_mul(2).min(self.most);
        let half = whole / 2;
        let nanos = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX);
        half + Duration::from_nanos(self.words.next() % nanos.saturating_add(1).max(1))
    }

    /// Begins anew with the shortest one.
    pub(super) fn reset(&mut self) {
        self.next = self.least;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_the_longest_and_begin_anew() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(2), ms(9), Words::random());
        for whole in [2, 4, 8, 9, 9] {
            let pause = backoff.pause();
            assert!(pause >= ms(whole) / 2 && pause <= ms(whole), "{pause:?} of {whole} ms");
        }
        backoff.reset();
        assert!(backoff.pause() <= ms(2));
    }

    #[test]
    fn the_same_seed_gives_the_same_pauses() {
        let ms = Duration::from_millis;
        let pauses = |seed| {
            let backoff = Backoff::new(ms(2), ms(900), Words::random()).seeded(seed);
            let mut backoff = backoff.between(ms(1), ms(900));
            [(); 8].map(|()| backoff.pause())
        };
        assert_eq!(pauses(1), pauses(1));
        assert_ne!(pauses(1), pauses(2));
    }
}
