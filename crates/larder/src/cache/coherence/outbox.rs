//! What was changed here and not yet told.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::frame::{Change, Frame};

/// A bounded queue of changes, and the numbers of the frames that tell them.
///
/// Whoever makes a change never waits. What does not fit is left out, and the next frame says so
/// by its number: others then forget what they cannot know to be current.
#[derive(Debug)]
pub(super) struct Outbox {
    state: Mutex<State>,
    filled: Notify,
    changes_max: usize,
}

#[derive(Debug)]
struct State {
    changes: VecDeque<Change>,
    number: u64,
    left_out: bool,
}

impl Outbox {
    pub(super) fn new(changes_max: usize) -> Self {
        let state = State { changes: VecDeque::new(), number: 0, left_out: false };
        Self { state: Mutex::new(state), filled: Notify::new(), changes_max }
    }

    /// Takes a change to be told, and says whether there was room.
    pub(super) fn push(&self, change: Change) -> bool {
        let mut state = self.lock();
        let fits = state.changes.len() < self.changes_max;
        if fits {
            state.changes.push_back(change);
        } else {
            // Nobody needs the rest any more: they forget all of it.
            state.changes.clear();
            state.left_out = true;
        }
        drop(state);
        self.filled.notify_one();
        fits
    }

    /// Waits until there may be something to tell.
    pub(super) async fn filled(&self) {
        if self.lock().changes.is_empty() {
            self.filled.notified().await;
        }
    }

    /// The next frame, which may have no changes.
    pub(super) fn next(&self, origin: u64, well: bool) -> Frame {
        let mut state = self.lock();
        state.number += if std::mem::take(&mut state.left_out) { 2 } else { 1 };
        let fitting = Frame::fitting(&state.changes);
        let changes = state.changes.drain(..fitting).collect();
        Frame { origin, number: state.number, well, goodbye: false, changes }
    }

    pub(super) fn is_empty(&self) -> bool {
        let state = self.lock();
        state.changes.is_empty() && !state.left_out
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use larder_core::{Key, Version};

    use super::*;

    fn change(n: usize) -> Change {
        Change::Put(Key::new(format!("k{n}")).unwrap(), Version::from_parts(1, 1))
    }

    #[test]
    fn frames_are_numbered_and_hold_what_was_pushed_in_order() {
        let outbox = Outbox::new(1000);
        for n in 0..300 {
            assert!(outbox.push(change(n)));
        }
        let mut told = Vec::new();
        for number in 1.. {
            let frame = outbox.next(7, true);
            assert_eq!((frame.number, frame.origin), (number, 7));
            if frame.changes.is_empty() {
                break;
            }
            told.extend(frame.changes);
        }
        assert_eq!(told, (0..300).map(change).collect::<Vec<_>>());
    }

    #[test]
    fn what_does_not_fit_leaves_a_hole_in_the_numbers() {
        let outbox = Outbox::new(2);
        assert_eq!(outbox.next(7, true).number, 1);
        assert!(outbox.push(change(1)) && outbox.push(change(2)) && !outbox.push(change(3)));
        assert!(!outbox.is_empty() && outbox.push(change(4)));
        let frame = outbox.next(7, true);
        assert_eq!((frame.number, frame.changes), (3, vec![change(4)]));
        assert_eq!(outbox.next(7, true).number, 4);
        assert!(outbox.is_empty());
    }
}
