//! What was read lately, roughly and in little memory.

use std::sync::atomic::{AtomicU64, Ordering};

use larder_log::Slot;

/// Marks for each entry that is expected, so that few share one.
const MARKS_PER_ENTRY: u64 = 4;
const WORDS_MIN: u64 = 1 << 10;
/// 8 MiB.
const WORDS_MAX: u64 = 1 << 20;

/// A bit for each slot, shared by some: an entry that nobody has read may pass for one that was.
pub(super) struct Marks(Box<[AtomicU64]>);

impl Marks {
    /// Marks for about so many entries.
    pub(super) fn new(entries: u64) -> Self {
        let words = entries.saturating_mul(MARKS_PER_ENTRY) / u64::from(u64::BITS);
        let words = words.clamp(WORDS_MIN, WORDS_MAX);
        Self((0..words).map(|_| AtomicU64::new(0)).collect())
    }

    /// Notes that the slot was read.
    pub(super) fn set(&self, slot: Slot) {
        let (word, bit) = self.of(slot);
        // Mostly it is set already, and then nobody else's cache is disturbed.
        if word.load(Ordering::Relaxed) & bit == 0 {
            word.fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// Whether the slot was read since this was last asked.
    pub(super) fn take(&self, slot: Slot) -> bool {
        let (word, bit) = self.of(slot);
        word.fetch_and(!bit, Ordering::Relaxed) & bit != 0
    }

    fn of(&self, slot: Slot) -> (&AtomicU64, u64) {
        let hash = slot.id.last_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        let words = u64::try_from(self.0.len()).unwrap_or(1);
        let word = usize::try_from(hash / u64::from(u64::BITS) % words).unwrap_or(0);
        (&self.0[word], 1 << (hash % u64::from(u64::BITS)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_taken_once() {
        let marks = Marks::new(0);
        let slot = |n: u8| Slot { namespace: 3, id: [n; 16] };
        marks.set(slot(1));
        marks.set(slot(1));
        assert!(!marks.take(slot(2)) && marks.take(slot(1)) && !marks.take(slot(1)));
    }
}
