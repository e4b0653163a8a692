//! The linear-time check: the sequence numbers give the order of the versions away, so no order
//! has to be searched; only the moments have to fit.

use std::collections::btree_map::{BTreeMap, Entry};
use std::collections::{BTreeSet, HashSet};

use larder_core::consensus::Resolution;
use larder_core::{CaSResult, SeqNo, VersionedData};

use super::resolved::{self, Resolved};
use super::{Answer, Call, Event, History};
use crate::{Verdict, Violation, ensure};

impl History {
    /// Checks that one order of all calls explains every answer.
    ///
    /// Takes `O(n log n)`, more only when clients of unknown outcome competed for a version that nobody
    /// saw the data of. Exact for histories in which the data of every compare-and-set is
    /// unique, except that of truncations only the moments are checked and not the counts.
    ///
    /// # Errors
    /// A violation that says which answer no order explains.
    pub fn check(&self) -> Verdict {
        let mut guesses = Guesses::default();
        let mut first = None;
        for _ in 0..GUESSES_MAX {
            let Err(violation) = self.check_with(&mut guesses) else { return Ok(()) };
            first.get_or_insert(violation);
            if !guesses.advance() {
                return first.map_or(Ok(()), Err);
            }
        }
        // Too many writers of unknown outcome to tell: no alarm without proof.
        Ok(())
    }

    fn check_with(&self, guesses: &mut Guesses) -> Verdict {
        let chain = Chain::of(self, guesses)?;
        chain.links()?;
        let moments = chain.moments(self)?;
        for event in &self.events {
            chain.explains(event, &moments, self)?;
        }
        Ok(())
    }
}

/// How many combinations of guesses are tried before the check gives up.
const GUESSES_MAX: usize = 4_096;

/// Which of several attempts of unknown outcome committed a version that nobody saw the data of.
///
/// The first run takes the first option everywhere; each further one counts up like an odometer.
#[derive(Default)]
struct Guesses {
    digits: Vec<(usize, usize)>,
    next: usize,
}

impl Guesses {
    /// One of so many options.
    fn pick(&mut self, options: usize) -> usize {
        if self.next == self.digits.len() {
            self.digits.push((0, options));
        }
        self.next += 1;
        self.digits[self.next - 1].0
    }

    /// Goes on to the next combination; `false` when all were tried.
    fn advance(&mut self) -> bool {
        self.next = 0;
        while let Some((digit, options)) = self.digits.pop() {
            if digit + 1 < options {
                self.digits.push((digit + 1, options));
                return true;
            }
        }
        false
    }
}

/// One attempt to commit a version.
#[derive(Clone, Copy)]
pub(super) struct Attempt<'a> {
    expected: Option<SeqNo>,
    pub(super) data: &'a [u8],
    began: u64,
    ended: u64,
    acknowledged: bool,
    /// Somebody found out that it did not commit and never will.
    lost: bool,
}

/// The versions that were ever committed, in order.
pub(super) struct Chain<'a> {
    pub(super) members: BTreeMap<SeqNo, Attempt<'a>>,
}

impl<'a> Chain<'a> {
    /// Finds every version that was committed: acknowledged, seen, or needed by another one.
    fn of(history: &'a History, guesses: &mut Guesses) -> Result<Self, Violation> {
        let attempts = attempts(history);
        let mut chain = Self { members: BTreeMap::new() };
        for (seqno, tries) in &attempts {
            for attempt in tries.iter().filter(|attempt| attempt.acknowledged) {
                let before = chain.members.insert(*seqno, *attempt);
                ensure!(before.is_none(), "version {seqno} was acknowledged to two writers");
            }
        }
        for seen in history.events.iter().flat_map(seen) {
            chain.admit(seen, &attempts)?;
        }
        let mut wanted: BTreeSet<SeqNo> = history.events.iter().filter_map(named).collect();
        wanted.extend(chain.members.values().filter_map(|member| member.expected));
        while let Some(seqno) = wanted.pop_first() {
            if let Entry::Vacant(vacant) = chain.members.entry(seqno) {
                let attempt = guess(seqno, &attempts, guesses)?;
                wanted.extend(attempt.expected);
                vacant.insert(attempt);
            }
        }
        Ok(chain)
    }

    /// A version that a client saw has to be one that somebody may have committed.
    fn admit(
        &mut self,
        seen: &VersionedData,
        attempts: &BTreeMap<SeqNo, Vec<Attempt<'a>>>,
    ) -> Verdict {
        let tries = attempts.get(&seen.seqno).map_or(&[][..], Vec::as_slice);
        let Some(attempt) = tries.iter().find(|attempt| attempt.data == &*seen.data) else {
            return Err(Violation::new(format!(
                "version {} was seen with data that nobody may have committed: either nobody tried \
                 to, or the one who did was told that it did not happen",
                seen.seqno
            )));
        };
        match self.members.insert(seen.seqno, *attempt) {
            Some(before) if before.data != attempt.data => Err(Violation::new(format!(
                "version {} was committed twice, with different data",
                seen.seqno
            ))),
            _ => Ok(()),
        }
    }

    /// Each version has to follow the one that its writer expected.
    fn links(&self) -> Verdict {
        let mut head = None;
        for (seqno, member) in &self.members {
            ensure!(
                member.expected == head,
                "version {seqno} was committed by a writer that expected {:?}, but it follows \
                 {head:?}",
                member.expected
            );
            head = Some(*seqno);
        }
        Ok(())
    }

    /// The earliest moment at which each version can have become the head.
    fn moments(&self, history: &History) -> Result<BTreeMap<SeqNo, u64>, Violation> {
        // The latest beginning of a call that saw a certain head.
        let mut last_seen = BTreeMap::<Option<SeqNo>, u64>::new();
        for event in &history.events {
            if let Some(head) = head_seen(event) {
                let latest = last_seen.entry(head).or_default();
                *latest = event.began.max(*latest);
            }
        }
        // The latest beginning of a call that found the head below a version.
        let mut last_below = BTreeMap::<SeqNo, u64>::new();
        for event in &history.events {
            let bound = found_below(event).and_then(|bound| self.members.range(bound..).next());
            if let Some((seqno, _)) = bound {
                let latest = last_below.entry(*seqno).or_default();
                *latest = event.began.max(*latest);
            }
        }
        let mut moments = BTreeMap::new();
        let (mut head, mut now) = (None, 0);
        for (seqno, member) in &self.members {
            let seen = last_seen.get(&head).copied().unwrap_or(0);
            let below = last_below.get(seqno).copied().unwrap_or(0);
            now = now.max(member.began).max(seen).max(below);
            ensure!(
                now <= member.ended,
                "version {seqno} was acknowledged before it can have become the head: a call that \
                 began later still saw {head:?} or less, or it follows a version that came later"
            );
            moments.insert(*seqno, now);
            head = Some(*seqno);
        }
        Ok(moments)
    }

    /// The moments have to leave room for the answer of `event`.
    fn explains(
        &self,
        event: &Event,
        moments: &BTreeMap<SeqNo, u64>,
        history: &History,
    ) -> Verdict {
        let since = |head: Option<SeqNo>| head.and_then(|head| moments.get(&head)).copied();
        if let Some(head) = head_seen(event) {
            ensure!(
                since(head).unwrap_or(0) <= event.ended,
                "a call saw the head {head:?} before it can have been the head"
            );
        }
        match (&event.call, &event.answer) {
            (
                Call::CompareAndSet { expected, .. },
                Answer::Swapped(CaSResult::ExpectationMismatch { current }),
            ) => {
                ensure!(
                    current != expected,
                    "a mismatch names {current:?}, which the caller had expected"
                );
            }
            (Call::Scan { from, limit }, Answer::Scanned(versions)) => {
                ensure!(versions.len() <= *limit, "a scan gave more than {limit} versions");
                self.is_a_slice(*from, versions, event, history)?;
                let last = versions.last().map(|last| last.seqno);
                ensure!(
                    since(last).unwrap_or(0) <= event.ended,
                    "a scan gave {last:?} before it can have been committed"
                );
            }
            (Call::Truncate { below }, Answer::Truncated(_)) => {
                ensure!(
                    was_reached(*below, event, moments, history),
                    "a truncation at {below} was accepted before the head was there"
                );
            }
            (Call::Truncate { below }, Answer::AboveHead(Some(head))) => {
                ensure!(below > head, "a truncation at {below} was refused with the head {head}");
            }
            (Call::Resolve { expected, new }, Answer::Resolved(resolution)) => {
                let resolved = Resolved { expected: *expected, new, event };
                self.agrees_with(&resolved, *resolution, moments, history)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// A scan gives neighbours of the chain, from the first one that it may start with.
    fn is_a_slice(
        &self,
        from: SeqNo,
        versions: &[VersionedData],
        event: &Event,
        history: &History,
    ) -> Verdict {
        let Some(first) = versions.first() else { return Ok(()) };
        ensure!(first.seqno >= from, "a scan from {from} gave {}", first.seqno);
        let neighbours = self.members.range(first.seqno..).map(|(seqno, _)| *seqno);
        let given = versions.iter().map(|version| version.seqno);
        ensure!(
            given.clone().eq(neighbours.take(versions.len())),
            "a scan is no slice of the chain: {:?}",
            given.collect::<Vec<_>>()
        );
        let left = self.left_between(from, first.seqno, event, history);
        ensure!(
            left.is_none(),
            "a scan from {from} starts at {}, but {} was not truncated",
            first.seqno,
            left.unwrap_or_default()
        );
        Ok(())
    }

    /// The last version from `from` to below `end`, when no truncation can have taken it by the end of `event`.
    pub(super) fn left_between(
        &self,
        from: SeqNo,
        end: SeqNo,
        event: &Event,
        history: &History,
    ) -> Option<SeqNo> {
        let cut = history.events.iter().filter(|other| other.began < event.ended);
        let cut = cut.filter_map(|other| match (&other.call, &other.answer) {
            (Call::Truncate { below }, Answer::Truncated(_) | Answer::Unknown) => Some(*below),
            _ => None,
        });
        let last = self.members.range(from..end).next_back().map(|(seqno, _)| *seqno);
        let cut = cut.max();
        last.filter(|last| cut.is_none_or(|cut| *last >= cut))
    }
}

/// Every attempt that may have committed a version.
fn attempts(history: &History) -> BTreeMap<SeqNo, Vec<Attempt<'_>>> {
    let lost: HashSet<_> = history.events.iter().filter_map(resolved::lost).collect();
    let mut attempts = BTreeMap::<SeqNo, Vec<Attempt<'_>>>::new();
    for event in &history.events {
        let Call::CompareAndSet { expected, new } = &event.call else { continue };
        let acknowledged = match event.answer {
            Answer::Swapped(CaSResult::Committed) => true,
            Answer::Unknown => false,
            _ => continue,
        };
        attempts.entry(new.seqno).or_default().push(Attempt {
            expected: *expected,
            data: &new.data,
            began: event.began,
            ended: event.ended,
            acknowledged,
            lost: lost.contains(&(new.seqno, &*new.data)),
        });
    }
    attempts
}

/// The attempt of unknown outcome that must have committed a version nobody saw the data of.
fn guess<'a>(
    seqno: SeqNo,
    attempts: &BTreeMap<SeqNo, Vec<Attempt<'a>>>,
    guesses: &mut Guesses,
) -> Result<Attempt<'a>, Violation> {
    let mut options: Vec<Attempt<'a>> = Vec::new();
    let tries = attempts.get(&seqno).map_or(&[][..], Vec::as_slice);
    for attempt in tries.iter().filter(|attempt| !attempt.lost) {
        // Of two that expected the same the earlier one explains whatever the later one does.
        match options.iter_mut().find(|option| option.expected == attempt.expected) {
            Some(option) if option.began <= attempt.began => {}
            Some(option) => *option = *attempt,
            None => options.push(*attempt),
        }
    }
    match options.len() {
        0 => Err(Violation::new(format!(
            "version {seqno} was named as the head, but nobody may have committed it"
        ))),
        1 => Ok(options[0]),
        several => Ok(options[guesses.pick(several)]),
    }
}

/// The versions whose data a client saw.
fn seen(event: &Event) -> impl Iterator<Item = &VersionedData> {
    let (head, scanned): (_, &[_]) = match &event.answer {
        Answer::Head(head) => (head.as_ref(), &[]),
        Answer::Scanned(versions) => (None, versions),
        Answer::Resolved(Resolution::Committed) => (resolved::of(event), &[]),
        _ => (None, &[]),
    };
    head.into_iter().chain(scanned)
}

/// Whether the head can have been `bound` or above by the end of `event`.
pub(super) fn was_reached(
    bound: SeqNo,
    event: &Event,
    moments: &BTreeMap<SeqNo, u64>,
    history: &History,
) -> bool {
    let reached = moments.range(bound..).next().map(|(_, moment)| *moment);
    // A version that nobody ever saw may have been the head as well.
    let unseen = reached.is_none().then(|| began_unseen(bound, history)).flatten();
    reached.or(unseen).is_some_and(|moment| moment <= event.ended)
}

/// The earliest beginning of an attempt of unknown outcome at `bound` or above.
fn began_unseen(bound: SeqNo, history: &History) -> Option<u64> {
    let tries = attempts(history);
    let above = tries.range(bound..).flat_map(|(_, tries)| tries);
    above
        .filter(|attempt| !attempt.acknowledged && !attempt.lost)
        .map(|attempt| attempt.began)
        .min()
}

/// A version that a client learned of by its number alone.
fn named(event: &Event) -> Option<SeqNo> {
    match &event.answer {
        Answer::Swapped(CaSResult::ExpectationMismatch { current }) => *current,
        Answer::AboveHead(head) => *head,
        _ => None,
    }
}

/// The head that the answer shows; `None` when it shows no head.
///
/// A scan shows the head when its limit left room, unless it found nothing at all.
#[expect(clippy::option_option, reason = "no answer, and the answer that there is no head")]
fn head_seen(event: &Event) -> Option<Option<SeqNo>> {
    match (&event.call, &event.answer) {
        (_, Answer::Head(head)) => Some(head.as_ref().map(|head| head.seqno)),
        (_, Answer::Swapped(CaSResult::ExpectationMismatch { current })) => Some(*current),
        (_, Answer::AboveHead(head)) => Some(*head),
        (Call::Scan { limit, .. }, Answer::Scanned(versions)) if versions.len() < *limit => {
            versions.last().map(|last| Some(last.seqno))
        }
        _ => None,
    }
}

/// The number that the head was still below during the call.
fn found_below(event: &Event) -> Option<SeqNo> {
    match (&event.call, &event.answer) {
        (Call::Scan { from, limit: 1.. }, Answer::Scanned(versions)) if versions.is_empty() => {
            Some(*from)
        }
        (Call::Truncate { below }, Answer::AboveHead(_)) => Some(*below),
        (Call::Resolve { expected, .. }, Answer::Resolved(Resolution::Open)) => {
            Some(resolved::beyond(*expected))
        }
        _ => None,
    }
}
