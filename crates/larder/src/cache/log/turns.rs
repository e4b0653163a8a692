//! Turns: who changes a slot waits for who changed it before.

use larder_log::{Slot, Ticket};
use tokio::sync::{Mutex, MutexGuard};

/// How many locks slots spread over.
const TURNS: usize = 1024;

/// One lock for many slots each. What was changed last may still be on its way to the log.
pub(super) struct Turns(Box<[Mutex<Option<Ticket>>]>);

/// The right to change a slot.
pub(super) struct Turn<'a>(MutexGuard<'a, Option<Ticket>>);

impl Turns {
    pub(super) fn new() -> Self {
        Self((0..TURNS).map(|_| Mutex::new(None)).collect())
    }

    /// Waits until nobody changes the slot, and until its last change is visible or has failed: that
    /// may be one whose caller has gone away.
    pub(super) async fn take(&self, slot: Slot) -> Turn<'_> {
        let mut turn = self.of(slot).lock().await;
        if let Some(ticket) = &mut *turn {
            ticket.await;
        }
        *turn = None;
        Turn(turn)
    }

    /// [`Self::take`] if that needs no waiting.
    pub(super) fn try_take(&self, slot: Slot) -> Option<Turn<'_>> {
        let mut turn = self.of(slot).try_lock().ok()?;
        if turn.as_ref().is_some_and(|ticket| ticket.outcome().is_none()) {
            return None;
        }
        *turn = None;
        Some(Turn(turn))
    }

    /// [`Self::take`] for a thread that may block; never on one of a runtime.
    pub(super) fn take_blocking(&self, slot: Slot) -> Turn<'_> {
        let mut turn = self.of(slot).blocking_lock();
        if let Some(ticket) = turn.take() {
            ticket.wait(None);
        }
        Turn(turn)
    }

    fn of(&self, slot: Slot) -> &Mutex<Option<Ticket>> {
        let [low, high, ..] = slot.id;
        &self.0[usize::from(u16::from_be_bytes([low, high])) % TURNS]
    }
}

impl Turn<'_> {
    /// Notes a change that is on its way: the next turn waits for it, whether its caller does or not.
    pub(super) fn begin(&mut self, ticket: Ticket) {
        *self.0 = Some(ticket);
    }
}
