//! Who else speaks on the bus, and whether all of it was heard.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How many others are listened to. With more of them there is no trust.
const PEERS_MAX: usize = 4096;

/// The other processes, by the origin of their versions.
///
/// Frames of one origin are numbered, so what was left out shows with the next one; and everybody
/// says something every now and then, so that a silence shows as well.
#[derive(Debug)]
pub(super) struct Peers {
    /// Who is silent for so long is not heard any more.
    silence_max: Duration,
    /// Who is silent for so long is gone.
    forget_after: Duration,
    /// Until when unknown ones may turn up in the middle of their numbers: they spoke before we
    /// listened.
    newcomers_until: Option<Instant>,
    known: HashMap<u64, Peer>,
    crowded: bool,
}

#[derive(Debug)]
struct Peer {
    /// The number of its next frame; `None`: we have not listened for a while.
    next: Option<u64>,
    /// When it last said that it is well.
    well: Instant,
    /// When it last said anything.
    heard: Instant,
}

/// What a frame of another process means for what was heard of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// It is the next one.
    InOrder,
    /// It was there before.
    Repeated,
    /// Something before it was missed.
    Gap,
}

impl Peers {
    pub(super) fn new(silence_max: Duration, forget_after: Duration) -> Self {
        Self {
            silence_max,
            forget_after,
            newcomers_until: None,
            known: HashMap::new(),
            crowded: false,
        }
    }

    /// Notes that a new subscription begins: what was said before is not known.
    pub(super) fn listen(&mut self, now: Instant) {
        self.newcomers_until = Some(now + self.silence_max);
        for peer in self.known.values_mut() {
            peer.next = None;
        }
    }

    /// Notes a frame of another process.
    pub(super) fn hear(&mut self, origin: u64, number: u64, well: bool, now: Instant) -> Heard {
        let following = Some(number.saturating_add(1));
        if let Some(peer) = self.known.get_mut(&origin) {
            peer.heard = now;
            if peer.next.is_some_and(|next| number < next) {
                return Heard::Repeated;
            }
            if well {
                peer.well = now;
            }
            let expected = peer.next.is_none_or(|next| number == next);
            peer.next = following;
            return if expected { Heard::InOrder } else { Heard::Gap };
        }
        if self.known.len() >= PEERS_MAX {
            self.crowded = true;
            return Heard::Gap;
        }
        // Its first frames cannot say that it is well; it gets the time to become so.
        self.known.insert(origin, Peer { next: following, well: now, heard: now });
        let early = self.newcomers_until.is_some_and(|until| now < until);
        if number <= 1 || early { Heard::InOrder } else { Heard::Gap }
    }

    /// Notes that a process has said goodbye.
    pub(super) fn leave(&mut self, origin: u64) {
        self.known.remove(&origin);
    }

    /// Since when somebody has not said that it is well; `now` when there is nobody else, `None`
    /// when there are too many to tell.
    pub(super) fn heard_since(&mut self, now: Instant) -> Option<Instant> {
        let forget_after = self.forget_after;
        self.known.retain(|_, peer| now.saturating_duration_since(peer.heard) < forget_after);
        if self.crowded && self.known.len() < PEERS_MAX {
            self.crowded = false;
        }
        if self.crowded {
            return None;
        }
        Some(self.known.values().map(|peer| peer.well).min().unwrap_or(now))
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }
}

#[cfg(test)]
mod tests {
    use larder_core::{Clock as _, ManualClock};

    use super::Heard::{Gap, InOrder, Repeated};
    use super::*;

    const SILENCE: Duration = Duration::from_secs(2);
    const FORGET: Duration = Duration::from_mins(10);

    fn second(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_hole_in_the_numbers_is_a_gap_and_a_repetition_is_none() {
        let now = ManualClock::default().instant();
        let mut peers = Peers::new(SILENCE, FORGET);
        peers.listen(now);
        let heard = [5, 6, 6, 5, 8, 9].map(|number| peers.hear(1, number, true, now));
        assert_eq!(heard, [InOrder, InOrder, Repeated, Repeated, Gap, InOrder]);
        assert_eq!(peers.hear(2, 1, true, now), InOrder, "everybody has numbers of their own");
    }

    #[test]
    fn a_newcomer_begins_with_one_unless_we_are_new_ourselves() {
        let start = ManualClock::default().instant();
        let mut peers = Peers::new(SILENCE, FORGET);
        peers.listen(start);
        assert_eq!(peers.hear(1, 9, true, start + second(1)), InOrder);
        assert_eq!(peers.hear(2, 9, true, start + second(2)), Gap);
        assert_eq!(peers.hear(3, 1, true, start + second(2)), InOrder);
        // A new subscription: nobody knows what was said in between.
        peers.listen(start + second(9));
        assert_eq!(peers.hear(1, 40, true, start + second(9)), InOrder);
        assert_eq!(peers.hear(1, 42, true, start + second(9)), Gap);
    }

    #[test]
    fn who_is_silent_or_unwell_is_not_heard_until_it_is_forgotten_or_leaves() {
        let start = ManualClock::default().instant();
        let mut peers = Peers::new(SILENCE, FORGET);
        assert_eq!(peers.heard_since(start), Some(start), "nobody else");
        peers.hear(1, 1, false, start);
        peers.hear(2, 1, true, start);
        let later = start + second(5);
        peers.hear(1, 2, false, later);
        peers.hear(2, 2, true, later);
        assert_eq!(peers.heard_since(later), Some(start), "one of them is not well");
        peers.hear(1, 3, true, later);
        assert_eq!(peers.heard_since(later), Some(later));
        peers.leave(1);
        let much_later = later + FORGET;
        assert_eq!(peers.heard_since(much_later), Some(much_later));
        assert_eq!(peers.len(), 0);
    }

    #[test]
    fn too_many_to_listen_to_are_never_trusted() {
        let start = ManualClock::default().instant();
        let mut peers = Peers::new(SILENCE, FORGET);
        for origin in 0..5000 {
            peers.hear(origin, 1, true, start);
        }
        assert_eq!((peers.len(), peers.heard_since(start)), (PEERS_MAX, None));
        assert_eq!(peers.heard_since(start + FORGET), Some(start + FORGET));
    }
}
