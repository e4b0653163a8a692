//! The two checkers of histories against made-up histories and against each other.

use bytes::Bytes;
use larder_core::consensus::Resolution;
use larder_core::{CaSResult, SeqNo, VersionedData};
use larder_testkit::Random;
use larder_testkit::history::{Answer, Call, Event, History};

fn version(seqno: u64, data: &str) -> VersionedData {
    VersionedData { seqno: SeqNo(seqno), data: Bytes::copy_from_slice(data.as_bytes()) }
}

fn swap(expected: Option<u64>, seqno: u64, data: &str) -> Call {
    Call::CompareAndSet { expected: expected.map(SeqNo), new: version(seqno, data) }
}

const COMMITTED: Answer = Answer::Swapped(CaSResult::Committed);

fn mismatch(current: Option<u64>) -> Answer {
    Answer::Swapped(CaSResult::ExpectationMismatch { current: current.map(SeqNo) })
}

fn head(seqno: u64, data: &str) -> Answer {
    Answer::Head(Some(version(seqno, data)))
}

fn history(events: Vec<(Call, Answer, u64, u64)>) -> History {
    let events = events
        .into_iter()
        .map(|(call, answer, began, ended)| Event::new(call, answer, began, ended))
        .collect();
    History { events }
}

#[track_caller]
fn is_fine(events: Vec<(Call, Answer, u64, u64)>) {
    let history = history(events);
    assert!(history.check().is_ok(), "{:?}", history.check());
    assert_eq!(history.search(), Some(true));
}

/// Both checkers have to refuse it, the linear one for the reason that is named.
#[track_caller]
fn is_refused(reason: &str, events: Vec<(Call, Answer, u64, u64)>) {
    let history = history(events);
    let verdict = history.check();
    let told = verdict.as_ref().is_err_and(|violation| violation.message().contains(reason));
    assert!(told, "{verdict:?}");
    assert_eq!(history.search(), Some(false));
}

const LATE: u64 = u64::MAX;

#[test]
fn a_plain_sequence_is_fine() {
    is_fine(vec![
        (Call::Head, Answer::Head(None), 1, 2),
        (swap(None, 5, "a"), COMMITTED, 3, 4),
        (swap(None, 6, "b"), mismatch(Some(5)), 5, 6),
        (swap(Some(5), 9, "c"), COMMITTED, 7, 8),
        (
            Call::Scan { from: SeqNo(0), limit: 9 },
            Answer::Scanned(vec![version(5, "a"), version(9, "c")]),
            9,
            10,
        ),
        (Call::Truncate { below: SeqNo(9) }, Answer::Truncated(1), 11, 12),
        (Call::Scan { from: SeqNo(0), limit: 9 }, Answer::Scanned(vec![version(9, "c")]), 13, 14),
        (Call::Truncate { below: SeqNo(10) }, Answer::AboveHead(Some(SeqNo(9))), 15, 16),
    ]);
}

#[test]
fn an_unknown_outcome_may_have_happened_or_not() {
    is_fine(vec![
        (swap(None, 1, "a"), Answer::Unknown, 1, LATE),
        (Call::Head, Answer::Head(None), 2, 3),
        (Call::Head, head(1, "a"), 4, 5),
    ]);
    is_fine(vec![
        (swap(None, 1, "a"), Answer::Unknown, 1, LATE),
        (swap(None, 1, "b"), COMMITTED, 2, 3),
    ]);
}

#[test]
fn a_version_may_be_known_by_its_number_alone() {
    is_fine(vec![
        (swap(None, 1, "a"), Answer::Unknown, 1, LATE),
        (swap(Some(7), 8, "b"), mismatch(Some(1)), 2, 3),
        (swap(Some(1), 2, "c"), COMMITTED, 4, 5),
    ]);
    is_refused(
        "nobody may have committed it",
        vec![(swap(Some(7), 8, "b"), mismatch(Some(1)), 2, 3)],
    );
}

#[test]
fn a_stale_head_is_refused() {
    is_refused(
        "began later still saw",
        vec![(swap(None, 1, "a"), COMMITTED, 1, 2), (Call::Head, Answer::Head(None), 3, 4)],
    );
    is_refused(
        "began later still saw",
        vec![
            (swap(None, 1, "a"), COMMITTED, 1, 2),
            (swap(Some(1), 2, "b"), COMMITTED, 3, 4),
            (Call::Head, head(1, "a"), 5, 6),
        ],
    );
    // While the commit is under way both heads are fine.
    is_fine(vec![
        (swap(None, 1, "a"), COMMITTED, 1, 6),
        (Call::Head, Answer::Head(None), 2, 3),
        (Call::Head, head(1, "a"), 4, 5),
    ]);
}

#[test]
fn a_head_that_goes_back_is_refused() {
    is_refused(
        "before it can have been the head",
        vec![
            (swap(None, 1, "a"), COMMITTED, 1, 8),
            (Call::Head, head(1, "a"), 2, 3),
            (Call::Head, Answer::Head(None), 4, 5),
        ],
    );
}

#[test]
fn two_winners_are_refused() {
    is_refused(
        "follows",
        vec![
            (swap(None, 5, "a"), COMMITTED, 1, 2),
            (swap(Some(5), 10, "b"), COMMITTED, 3, 6),
            (swap(Some(5), 11, "c"), COMMITTED, 4, 5),
        ],
    );
    is_refused(
        "two writers",
        vec![(swap(None, 5, "a"), COMMITTED, 1, 3), (swap(None, 5, "b"), COMMITTED, 2, 4)],
    );
    is_refused(
        "follows",
        vec![(swap(None, 5, "a"), COMMITTED, 1, 3), (swap(None, 7, "b"), COMMITTED, 2, 4)],
    );
}

#[test]
fn a_version_of_a_call_that_did_not_happen_is_refused() {
    for answer in [Answer::NotApplied, mismatch(None)] {
        let history =
            history(vec![(swap(Some(3), 5, "a"), answer, 1, 2), (Call::Head, head(5, "a"), 3, 4)]);
        assert!(history.check().unwrap_err().message().contains("nobody may have committed"));
        assert_eq!(history.search(), Some(false));
    }
}

#[test]
fn a_lost_commit_is_refused() {
    is_refused(
        "began later still saw",
        vec![
            (swap(None, 1, "a"), COMMITTED, 1, 2),
            (Call::Scan { from: SeqNo(0), limit: 9 }, Answer::Scanned(vec![]), 3, 4),
        ],
    );
}

#[test]
fn a_scan_with_a_hole_is_refused() {
    let versions = vec![version(1, "a"), version(3, "c")];
    is_refused(
        "no slice",
        vec![
            (swap(None, 1, "a"), COMMITTED, 1, 2),
            (swap(Some(1), 2, "b"), COMMITTED, 3, 4),
            (swap(Some(2), 3, "c"), COMMITTED, 5, 6),
            (Call::Scan { from: SeqNo(0), limit: 9 }, Answer::Scanned(versions), 7, 8),
        ],
    );
}

#[test]
fn a_scan_that_starts_too_late_is_refused() {
    is_refused(
        "was not truncated",
        vec![
            (swap(None, 1, "a"), COMMITTED, 1, 2),
            (swap(Some(1), 2, "b"), COMMITTED, 3, 4),
            (Call::Scan { from: SeqNo(0), limit: 9 }, Answer::Scanned(vec![version(2, "b")]), 5, 6),
        ],
    );
}

fn look(expected: Option<u64>, seqno: u64, data: &str) -> Call {
    Call::Resolve { expected: expected.map(SeqNo), new: version(seqno, data) }
}

const FOUND_COMMITTED: Answer = Answer::Resolved(Resolution::Committed);
const FOUND_LOST: Answer = Answer::Resolved(Resolution::Lost);
const FOUND_OPEN: Answer = Answer::Resolved(Resolution::Open);
const FOUND_NOTHING: Answer = Answer::Resolved(Resolution::Unknown);

fn scan_of(versions: &[(u64, &str)]) -> Answer {
    Answer::Scanned(versions.iter().map(|(seqno, data)| version(*seqno, data)).collect())
}

/// All that is there in the end.
const ALL: Call = Call::Scan { from: SeqNo(0), limit: 99 };

/// A write of unknown outcome after a first version: what was found out, what came next, and what is there in the end.
fn looked_into(
    found: Answer,
    then: Vec<(Call, Answer, u64, u64)>,
    left: &[(u64, &str)],
) -> Vec<(Call, Answer, u64, u64)> {
    let mut events = vec![
        (swap(None, 4, "a"), COMMITTED, 1, 2),
        (swap(Some(4), 5, "mine"), Answer::Unknown, 3, LATE),
        (look(Some(4), 5, "mine"), found, 11, 12),
        (ALL, scan_of(left), 30, 31),
    ];
    events.extend(then);
    events
}

#[test]
fn what_was_found_committed_is_there_until_it_is_truncated() {
    is_fine(looked_into(FOUND_COMMITTED, vec![], &[(4, "a"), (5, "mine")]));
    let cut = (Call::Truncate { below: SeqNo(9) }, Answer::Truncated(2), 15, 16);
    let next = (swap(Some(5), 9, "b"), COMMITTED, 13, 14);
    is_fine(looked_into(FOUND_COMMITTED, vec![next.clone(), cut], &[(9, "b")]));
    is_refused("was not truncated", looked_into(FOUND_COMMITTED, vec![next], &[(9, "b")]));
    is_refused("found committed before", looked_into(FOUND_COMMITTED, vec![], &[(4, "a")]));
    // Another writer has its place.
    let other = (swap(Some(4), 5, "other"), COMMITTED, 5, 6);
    is_refused(
        "committed twice",
        looked_into(FOUND_COMMITTED, vec![other], &[(4, "a"), (5, "other")]),
    );
    // It came about, but only after that was said.
    let still = (Call::Head, head(4, "a"), 13, 14);
    is_refused(
        "found committed before",
        looked_into(FOUND_COMMITTED, vec![still], &[(4, "a"), (5, "mine")]),
    );
}

#[test]
fn what_was_found_lost_is_never_there() {
    let other = (swap(Some(4), 7, "other"), COMMITTED, 5, 6);
    is_fine(looked_into(FOUND_LOST, vec![other.clone()], &[(4, "a"), (7, "other")]));
    is_refused("but it was committed", looked_into(FOUND_LOST, vec![], &[(4, "a"), (5, "mine")]));
    // It was seen for a moment, by somebody else.
    let seen = (Call::Head, head(5, "mine"), 5, 6);
    let next = (swap(Some(5), 7, "b"), COMMITTED, 7, 8);
    let cut = (Call::Truncate { below: SeqNo(7) }, Answer::Truncated(2), 15, 16);
    is_refused(
        "but it was committed",
        looked_into(FOUND_LOST, vec![seen, next.clone(), cut.clone()], &[(7, "b")]),
    );
    // Others have built upon it, whether anybody saw it or not.
    is_refused("may have committed it", looked_into(FOUND_LOST, vec![next, cut], &[(7, "b")]));
}

#[test]
fn what_was_found_lost_cannot_land_any_more() {
    is_refused("could still land", looked_into(FOUND_LOST, vec![], &[(4, "a")]));
    let later = (swap(Some(4), 7, "other"), COMMITTED, 13, 14);
    is_refused("could still land", looked_into(FOUND_LOST, vec![later], &[(4, "a"), (7, "other")]));
    let other = (swap(Some(4), 7, "other"), COMMITTED, 9, 14);
    is_fine(looked_into(FOUND_LOST, vec![other], &[(4, "a"), (7, "other")]));
    // That of an empty key: any version shuts the door.
    is_refused(
        "could still land",
        vec![
            (swap(None, 5, "mine"), Answer::Unknown, 1, LATE),
            (look(None, 5, "mine"), FOUND_LOST, 3, 4),
        ],
    );
}

#[test]
fn what_was_found_open_may_land_or_not() {
    is_fine(looked_into(FOUND_OPEN, vec![], &[(4, "a")]));
    is_fine(looked_into(FOUND_OPEN, vec![], &[(4, "a"), (5, "mine")]));
    let later = (swap(Some(4), 7, "other"), COMMITTED, 13, 14);
    is_fine(looked_into(FOUND_OPEN, vec![later], &[(4, "a"), (7, "other")]));
    is_fine(vec![
        (swap(None, 5, "mine"), Answer::Unknown, 1, LATE),
        (look(None, 5, "mine"), FOUND_OPEN, 3, 4),
        (swap(None, 7, "other"), COMMITTED, 5, 6),
    ]);
}

#[test]
fn what_was_found_open_was_not_decided_before() {
    let other = (swap(Some(4), 7, "other"), COMMITTED, 5, 6);
    is_refused(
        "began later still saw",
        looked_into(FOUND_OPEN, vec![other], &[(4, "a"), (7, "other")]),
    );
    let seen = (Call::Head, head(5, "mine"), 5, 6);
    is_refused(
        "before it can have been the head",
        looked_into(FOUND_OPEN, vec![seen], &[(4, "a"), (5, "mine")]),
    );
    is_refused(
        "began later still saw",
        vec![
            (swap(None, 5, "mine"), Answer::Unknown, 1, LATE),
            (swap(None, 7, "other"), COMMITTED, 2, 3),
            (look(None, 5, "mine"), FOUND_OPEN, 4, 5),
        ],
    );
}

#[test]
fn nothing_is_said_only_where_nothing_is_left() {
    let next = (swap(Some(5), 7, "b"), COMMITTED, 5, 6);
    let cut = |began| (Call::Truncate { below: SeqNo(7) }, Answer::Truncated(2), began, began + 1);
    is_fine(looked_into(FOUND_NOTHING, vec![next.clone(), cut(7)], &[(7, "b")]));
    // Whether it was there before does not matter, as long as it is not seen.
    let other = (swap(Some(4), 7, "b"), COMMITTED, 5, 6);
    let one = (Call::Truncate { below: SeqNo(7) }, Answer::Truncated(1), 7, 8);
    is_fine(looked_into(FOUND_NOTHING, vec![other.clone(), one], &[(7, "b")]));
    is_refused(
        "was not truncated",
        looked_into(FOUND_NOTHING, vec![next.clone(), cut(13)], &[(7, "b")]),
    );
    is_refused("was not truncated", looked_into(FOUND_NOTHING, vec![other], &[(4, "a"), (7, "b")]));
    // Nothing is beyond it yet.
    is_refused("before the head was beyond", looked_into(FOUND_NOTHING, vec![], &[(4, "a")]));
    is_refused(
        "before the head was beyond",
        looked_into(FOUND_NOTHING, vec![], &[(4, "a"), (5, "mine")]),
    );
    // Of an empty key nobody can tell whether a first version was there before the one that is left.
    is_fine(vec![
        (swap(None, 5, "mine"), Answer::Unknown, 1, LATE),
        (swap(None, 7, "other"), COMMITTED, 2, 3),
        (look(None, 5, "mine"), FOUND_NOTHING, 4, 5),
    ]);
}

/// Plays a correct store with overlapping calls, so that the history has an order by construction.
fn play(random: &mut Random, calls: usize, truncations: bool, looks: bool) -> History {
    let mut stored: Vec<VersionedData> = Vec::new();
    let mut last: Option<SeqNo> = None;
    let mut events = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    let mut now = 0;
    while events.len() < calls || !open.is_empty() {
        now += 1_000_000;
        if events.len() < calls && (open.len() < 2 || (open.len() < 4 && random.happens(50))) {
            let number = events.len();
            let tried = random.below(number.max(1));
            let tried = events.get(tried).map(|event: &Event| event.call.clone());
            let call = match (random.below(if truncations { 8 } else { 7 }), tried) {
                (0, Some(Call::CompareAndSet { expected, new })) if looks => {
                    Call::Resolve { expected, new }
                }
                (choice, _) => match choice {
                    0 | 1 => Call::Head,
                    2 => Call::Scan { from: SeqNo(random.word() % 6), limit: random.below(4) },
                    7 => Call::Truncate { below: SeqNo(random.word() % 6) },
                    _ => {
                        let expected = if random.happens(80) { last } else { None };
                        let seqno = expected.map_or(0, |SeqNo(last)| last + 1) + random.word() % 2;
                        swap(expected.map(|SeqNo(last)| last), seqno, &format!("data {number}"))
                    }
                },
            };
            // The answer is fixed here or at the end: the moment lies anywhere in between.
            events.push(Event::new(call, Answer::Unknown, now, LATE));
            if random.happens(50) {
                decide(&mut events[number], &mut stored, &mut last);
            }
            open.push(number);
        } else {
            let number = open.swap_remove(random.below(open.len()));
            let event = &mut events[number];
            if event.answer == Answer::Unknown {
                decide(event, &mut stored, &mut last);
            }
            if random.happens(15) {
                event.answer = Answer::Unknown;
            } else {
                event.ended = now;
            }
        }
    }
    History { events }
}

fn decide(event: &mut Event, stored: &mut Vec<VersionedData>, last: &mut Option<SeqNo>) {
    event.answer = match &event.call {
        Call::Head => Answer::Head(stored.last().cloned()),
        Call::Scan { from, limit } => Answer::Scanned(
            stored.iter().filter(|found| found.seqno >= *from).take(*limit).cloned().collect(),
        ),
        Call::CompareAndSet { expected, new } if *last == *expected => {
            stored.push(new.clone());
            *last = Some(new.seqno);
            COMMITTED
        }
        Call::CompareAndSet { .. } => {
            Answer::Swapped(CaSResult::ExpectationMismatch { current: *last })
        }
        Call::Truncate { below } if last.is_some_and(|last| *below <= last) => {
            let before = stored.len();
            stored.retain(|found| found.seqno >= *below);
            Answer::Truncated(before - stored.len())
        }
        Call::Truncate { .. } => Answer::AboveHead(*last),
        Call::Resolve { expected, new } => Answer::Resolved(found(stored, *expected, new)),
    };
}

/// What can be found out about a write from what is there.
fn found(stored: &[VersionedData], expected: Option<SeqNo>, new: &VersionedData) -> Resolution {
    let head = stored.last().map(|head| head.seqno);
    let beyond = |live: &&VersionedData| Some(live.seqno) > expected;
    let is_whole = expected.is_some_and(|from| stored.iter().any(|live| live.seqno == from));
    match stored.iter().find(beyond) {
        _ if stored.contains(new) => Resolution::Committed,
        _ if head <= expected => Resolution::Open,
        Some(next) if next.seqno <= new.seqno || is_whole => Resolution::Lost,
        _ => Resolution::Unknown,
    }
}

/// Spoils one thing: a time, or the answer of another call.
fn spoil(history: &mut History, random: &mut Random) {
    let count = history.events.len();
    let (one, other) = (random.below(count), random.below(count));
    let answer = history.events[other].answer.clone();
    let event = &mut history.events[one];
    match (random.below(4), &event.call) {
        (0, _) => event.began = (random.word() % 40_000_000) | 1,
        (1, _) if event.ended != LATE => {
            event.ended = event.began + 2 * (random.word() % 5_000_000 + 1);
        }
        (_, Call::CompareAndSet { .. }) => {
            if matches!(answer, Answer::Swapped(_)) {
                event.answer = answer;
            }
        }
        (_, Call::Head) => {
            if matches!(answer, Answer::Head(_)) {
                event.answer = answer;
            }
        }
        (_, Call::Resolve { .. }) if matches!(event.answer, Answer::Resolved(_)) => {
            let all = [FOUND_COMMITTED, FOUND_LOST, FOUND_OPEN, FOUND_NOTHING];
            event.answer = all[random.below(4)].clone();
        }
        (_, Call::Scan { .. }) => {
            if let Answer::Scanned(versions) = &mut event.answer
                && !versions.is_empty()
            {
                versions.remove(random.below(versions.len()));
            }
        }
        _ => {}
    }
    event.ended = event.ended.max(event.began.saturating_add(1));
}

#[test]
fn both_checkers_accept_what_a_correct_store_answers() {
    for seed in 0..3_000 {
        let mut random = Random::seeded(seed);
        let history = play(&mut random, 14, seed % 2 == 0, seed % 3 > 0);
        if let Err(violation) = history.check() {
            panic!("seed={seed}: {violation}\n{history:#?}");
        }
        assert_eq!(history.search(), Some(true), "seed={seed}\n{history:#?}");
    }
}

#[test]
fn both_checkers_agree_on_spoiled_histories() {
    let (mut refused, mut accepted) = (0, 0);
    for seed in 0..20_000 {
        let mut random = Random::seeded(seed);
        let mut history = play(&mut random, 10, false, false);
        for _ in 0..=random.below(2) {
            spoil(&mut history, &mut random);
        }
        let by_chain = history.check();
        let by_search = history.search() == Some(true);
        assert_eq!(by_chain.is_ok(), by_search, "seed={seed} {by_chain:?}\n{history:#?}");
        *(if by_search { &mut accepted } else { &mut refused }) += 1;
    }
    assert!(refused > 2_000 && accepted > 2_000, "refused={refused} accepted={accepted}");
}

#[test]
fn the_linear_checker_never_cries_wolf_beside_truncations_and_looks() {
    let (mut refused, mut looks) = (0, 0);
    for seed in 0..10_000 {
        let mut random = Random::seeded(seed);
        let mut history = play(&mut random, 10, true, seed % 2 == 0);
        spoil(&mut history, &mut random);
        if let Err(violation) = history.check() {
            assert_eq!(history.search(), Some(false), "seed={seed} {violation}\n{history:#?}");
            refused += 1;
            looks += usize::from(violation.message().contains("was found"));
            looks += usize::from(violation.message().contains("nothing was said"));
        }
    }
    assert!(refused > 1_000, "refused={refused}");
    assert!(looks > 50, "looks={looks}");
}
