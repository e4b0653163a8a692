//! The exhaustive check: tries every order that real time allows.
//!
//! Source: J. Wing, C. Gong, "Testing and verifying concurrent objects", 1993; G. Lowe, "Testing
//! for linearizability", 2017, for remembering what was tried.

use std::collections::HashSet;

use larder_core::consensus::Resolution;
use larder_core::{CaSResult, SeqNo, VersionedData};

use super::{Answer, Call, Event, History};

/// The longest history that is searched.
pub const SEARCH_MAX: usize = 24;

impl History {
    /// Whether any order of all calls explains every answer, counts of truncations included.
    ///
    /// Exponential in the number of calls at the same time; `None` for more than [`SEARCH_MAX`]
    /// events.
    pub fn search(&self) -> Option<bool> {
        if self.events.len() > SEARCH_MAX {
            return None;
        }
        let mut search = Search { events: &self.events, tried: HashSet::new() };
        Some(search.completes(0, &State::default()))
    }
}

/// What the store would hold: indices of the events that committed, those truncated cut off.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct State(Vec<usize>);

struct Search<'a> {
    events: &'a [Event],
    tried: HashSet<(u32, State)>,
}

impl Search<'_> {
    /// Whether the events that are not in `done` can follow.
    fn completes(&mut self, done: u32, state: &State) -> bool {
        let left = |place: usize| done & (1 << place) == 0;
        let told =
            |(place, event): &(usize, &Event)| left(*place) && event.answer != Answer::Unknown;
        let Some(horizon) =
            self.events.iter().enumerate().filter(told).map(|(_, event)| event.ended).min()
        else {
            // What is left was told nothing, so nothing is left to explain.
            return true;
        };
        if !self.tried.insert((done, state.clone())) {
            return false;
        }
        for place in (0..self.events.len()).filter(|place| left(*place)) {
            if self.events[place].began >= horizon {
                continue;
            }
            if let Some(next) = self.after(done, state, place)
                && self.completes(done | 1 << place, &next)
            {
                return true;
            }
        }
        false
    }

    /// The state after the event, when its answer is the one that this state gives.
    fn after(&self, done: u32, state: &State, place: usize) -> Option<State> {
        let event = &self.events[place];
        let head = state.0.last().and_then(|last| self.version(*last)).map(|head| head.seqno);
        let same = |explained: bool| explained.then(|| state.clone());
        match (&event.call, &event.answer) {
            (_, Answer::NotApplied) => Some(state.clone()),
            (Call::CompareAndSet { expected, .. }, answer) => match answer {
                Answer::Swapped(CaSResult::ExpectationMismatch { current }) => {
                    same(head == *current && head != *expected)
                }
                _ if head == *expected => {
                    let mut next = state.clone();
                    next.0.push(place);
                    Some(next)
                }
                _ => None,
            },
            (Call::Truncate { below }, answer) => self.truncated(state, head, *below, answer),
            (Call::Head, Answer::Head(seen)) => {
                let stored = state.0.last().and_then(|last| self.version(*last));
                same(stored == seen.as_ref())
            }
            (Call::Scan { from, limit }, Answer::Scanned(seen)) => {
                let stored = state.0.iter().filter_map(|place| self.version(*place));
                same(stored.filter(|version| version.seqno >= *from).take(*limit).eq(seen))
            }
            (Call::Resolve { expected, new }, Answer::Resolved(resolution)) => {
                same(self.resolves(done, state, (*expected, new), *resolution))
            }
            // A read that was dropped explains itself at any time.
            _ => Some(state.clone()),
        }
    }

    fn truncated(
        &self,
        state: &State,
        head: Option<SeqNo>,
        below: SeqNo,
        answer: &Answer,
    ) -> Option<State> {
        let is_above = head.is_none_or(|head| below > head);
        if let Answer::AboveHead(told) = answer {
            return (is_above && *told == head).then(|| state.clone());
        }
        if is_above {
            return None;
        }
        let stays = |place: &usize| self.version(*place).is_some_and(|kept| kept.seqno >= below);
        let kept: Vec<usize> = state.0.iter().copied().filter(stays).collect();
        let deleted = state.0.len() - kept.len();
        let explained = matches!(answer, Answer::Unknown) || *answer == Answer::Truncated(deleted);
        explained.then_some(State(kept))
    }

    /// Whether what was found out about a write is true at this moment.
    fn resolves(
        &self,
        done: u32,
        state: &State,
        (expected, new): (Option<SeqNo>, &VersionedData),
        resolution: Resolution,
    ) -> bool {
        let seqnos = || state.0.iter().filter_map(|place| self.version(*place)).map(|v| v.seqno);
        let (head, first) = (seqnos().next_back(), expected.unwrap_or(SeqNo::MIN));
        // One that was carried out without anybody knowing has committed: else it would be left out.
        let committed = self.events.iter().enumerate().any(|(place, event)| {
            let told = &event.answer;
            done & (1 << place) != 0
                && matches!(told, Answer::Swapped(CaSResult::Committed) | Answer::Unknown)
                && matches!(&event.call, Call::CompareAndSet { new: tried, .. } if tried == new)
        });
        match resolution {
            Resolution::Committed => committed,
            Resolution::Lost => !committed && head > expected,
            Resolution::Open => head <= expected,
            Resolution::Unknown => {
                head > Some(new.seqno) && !seqnos().any(|live| live >= first && live <= new.seqno)
            }
        }
    }

    /// The version that the event committed; only events that did are ever put into a state.
    fn version(&self, place: usize) -> Option<&VersionedData> {
        match &self.events[place].call {
            Call::CompareAndSet { new, .. } => Some(new),
            _ => None,
        }
    }
}
