//! Pauses that grow.

use std::time::Duration;

use larder_core::clock::random_u64;

/// Pauses between attempts: each up to twice as long as the one before, between half and whole at random, so that
/// those who met once do not meet again.
///
/// Source: M. Brooker, "Exponential Backoff And Jitter", 2015 ("equal jitter").
#[derive(Clone, Debug)]
pub(super) struct Backoff {
    least: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    pub(super) fn new(least: Duration, most: Duration) -> Self {
        Self { least, most: most.max(least), next: least }
    }

    /// The next pause.
    pub(super) fn pause(&mut self) -> Duration {
        let whole = self.next;
        self.next = whole.saturating_mul(2).min(self.most);
        let half = whole / 2;
        let nanos = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX);
        half + Duration::from_nanos(random_u64() % nanos.saturating_add(1).max(1))
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
        let mut backoff = Backoff::new(ms(2), ms(9));
        for whole in [2, 4, 8, 9, 9] {
            let pause = backoff.pause();
            assert!(pause >= ms(whole) / 2 && pause <= ms(whole), "{pause:?} of {whole} ms");
        }
        backoff.reset();
        assert!(backoff.pause() <= ms(2));
    }
}
