use proptest::prelude::*;

use super::*;
use HealthState::{Degraded, Healthy, Shedding};

const NOTHING: Signs = Signs {
    low_space: false,
    low_inodes: false,
    no_space: false,
    wrote: false,
    read_errors: false,
    backlog: false,
};
const FULL: Signs = Signs { no_space: true, ..NOTHING };
const WROTE: Signs = Signs { wrote: true, ..NOTHING };
const LATE: Signs = Signs { backlog: true, ..NOTHING };
const LOW: Signs = Signs { low_space: true, ..NOTHING };
const FEW: Signs = Signs { low_inodes: true, ..NOTHING };
const UNREADABLE: Signs = Signs { read_errors: true, ..NOTHING };

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Shows the signs at the given seconds and compares the state after each.
fn goes(steps: &[(u64, Signs, HealthState)]) -> Machine {
    let mut machine = Machine::default();
    for (at, signs, state) in steps {
        machine.observe(seconds(*at), *signs);
        assert_eq!(machine.state(), *state, "at {at} s: {machine:?}");
        assert_eq!(machine.shedding().is_some(), *state == Shedding, "at {at} s");
    }
    machine
}

#[test]
fn a_lasting_backlog_closes_the_gate_and_opens_it_by_stages() {
    let machine = goes(&[
        (100, NOTHING, Healthy),
        (101, LATE, Degraded),
        (115, LATE, Degraded),
        (116, LATE, Shedding),
        (120, LATE, Shedding),
        (121, NOTHING, Shedding),
        (125, NOTHING, Shedding),
        (126, NOTHING, Degraded),
        (140, NOTHING, Degraded),
        (141, NOTHING, Healthy),
    ]);
    assert_eq!(machine.closings(), 1);
}

#[test]
fn a_backlog_that_ends_in_time_closes_nothing_however_often() {
    for round in 0..20 {
        goes(&[
            (round, LATE, Degraded),
            (round + 14, LATE, Degraded),
            (round + 15, NOTHING, Healthy),
        ]);
    }
    let mut machine = Machine::default();
    for at in 0..10_000 {
        machine.observe(seconds(at), if at % 10 == 9 { NOTHING } else { LATE });
    }
    assert_eq!(machine.closings(), 0);
}

#[test]
fn what_comes_back_on_trial_closes_the_gate_at_once() {
    let machine = goes(&[
        (0, LATE, Degraded),
        (15, LATE, Shedding),
        (16, NOTHING, Shedding),
        (21, NOTHING, Degraded),
        (22, LATE, Shedding),
        (23, NOTHING, Shedding),
        (28, NOTHING, Degraded),
        (43, NOTHING, Healthy),
        (44, LATE, Degraded),
    ]);
    assert_eq!(machine.closings(), 2);
}

#[test]
fn what_flickers_while_the_gate_is_closed_keeps_it_closed() {
    goes(&[
        (0, LATE, Degraded),
        (15, LATE, Shedding),
        (16, NOTHING, Shedding),
        (20, LATE, Shedding),
        (21, NOTHING, Shedding),
        (25, NOTHING, Shedding),
        (26, NOTHING, Degraded),
    ]);
}

#[test]
fn a_full_disk_closes_the_gate_only_while_puts_keep_failing() {
    // One refusal is a condition for five seconds.
    goes(&[(0, FULL, Degraded), (4, NOTHING, Degraded), (5, NOTHING, Healthy)]);
    // A put that finds room ends it at once.
    goes(&[(0, FULL, Degraded), (4, FULL, Degraded), (5, WROTE, Healthy), (6, FULL, Degraded)]);
    goes(&[
        (0, FULL, Degraded),
        (4, FULL, Degraded),
        (8, FULL, Degraded),
        (12, FULL, Degraded),
        (15, NOTHING, Shedding),
        // A closed gate lets no put try: the condition lingers out, and then the gate opens.
        (17, NOTHING, Shedding),
        (26, NOTHING, Shedding),
        (27, NOTHING, Degraded),
        // The disk is still full: the first put that tries closes it again.
        (28, FULL, Shedding),
        (33, NOTHING, Shedding),
        (43, NOTHING, Degraded),
        (44, WROTE, Degraded),
        (58, WROTE, Healthy),
    ]);
}

#[test]
fn low_space_closes_the_gate_at_the_look_that_finds_it() {
    for low in [LOW, FEW, UNREADABLE] {
        let machine = goes(&[
            (10, low, Shedding),
            (12, low, Shedding),
            (14, NOTHING, Shedding),
            (18, NOTHING, Shedding),
            (19, NOTHING, Healthy),
        ]);
        assert_eq!(machine.closings(), 1);
    }
}

#[test]
fn the_gravest_reason_is_told_and_each_has_its_own_time() {
    let mut machine = goes(&[(0, LOW, Shedding), (30, LOW, Shedding)]);
    machine.raise(Reason::Structural);
    machine.observe(seconds(40), Signs { low_inodes: true, ..LOW });
    assert_eq!(machine.shedding(), Some(Reason::Structural));
    let lasting: Vec<_> = machine
        .conditions()
        .into_iter()
        .filter(|condition| condition.state == Shedding)
        .map(|condition| (condition.reason, condition.lasting))
        .collect();
    let expected = [
        (Reason::Structural, seconds(10)),
        (Reason::LowSpace, seconds(40)),
        (Reason::LowInodes, seconds(0)),
    ];
    assert_eq!(lasting, expected);
    assert_eq!(machine.closings(), 1, "it closed once");
    machine.acknowledge(Reason::Structural);
    assert_eq!(machine.shedding(), Some(Reason::LowSpace));
}

/// A known gate never opens again when only one class of error was ever seen: it compares the ages
/// of both classes, and one that never happened counts as having happened just now.
#[test]
fn one_class_of_trouble_alone_ends_by_itself() {
    for alone in [FULL, LATE, LOW, FEW, UNREADABLE] {
        let mut machine = Machine::default();
        for at in 0..60 {
            machine.observe(seconds(at), alone);
        }
        assert_eq!(machine.state(), Shedding, "{alone:?}");
        for at in 60..120 {
            machine.observe(seconds(at), NOTHING);
        }
        assert_eq!(machine.state(), Healthy, "{alone:?}");
    }
}

/// A known gate counts timeouts and never forgets one, so that a single slow write closes it some
/// seconds later, for ever.
#[test]
fn one_slow_moment_closes_nothing_ever() {
    for once in [FULL, LATE] {
        let mut machine = Machine::default();
        machine.observe(seconds(1), once);
        for at in 2..1000 {
            machine.observe(seconds(at), NOTHING);
            assert_ne!(machine.state(), Shedding, "{once:?} at {at} s");
        }
        assert_eq!((machine.state(), machine.closings()), (Healthy, 0));
    }
}

#[test]
fn what_does_not_pass_stays_until_it_is_cured() {
    for reason in Reason::ALL {
        let mut machine = Machine::default();
        machine.raise(reason);
        machine.raise(reason);
        for at in 0..100_000 {
            machine.observe(seconds(at), NOTHING);
        }
        let stays = (!reason.passes()).then_some(reason);
        assert_eq!(machine.shedding(), stays);
        assert_eq!(machine.closings(), u64::from(!reason.passes()));
    }
}

#[test]
fn a_clock_that_steps_back_stands_still() {
    goes(&[
        (100, LATE, Degraded),
        (50, LATE, Degraded),
        (114, LATE, Degraded),
        (115, LATE, Shedding),
        (0, NOTHING, Shedding),
        (119, NOTHING, Shedding),
        (120, NOTHING, Degraded),
    ]);
}

#[test]
fn codes_tell_reasons_apart_and_zero_is_none() {
    assert_eq!(Reason::from_code(0), None);
    assert_eq!(Reason::from_code(9), None);
    for reason in Reason::ALL {
        assert_eq!(Reason::from_code(reason.code()), Some(reason));
        assert!(!reason.text().contains('/') && reason.text().is_ascii());
    }
}

fn signs() -> impl Strategy<Value = Signs> {
    any::<[bool; 6]>().prop_map(|[low_space, low_inodes, no_space, wrote, read_errors, backlog]| {
        Signs { low_space, low_inodes, no_space, wrote, read_errors, backlog }
    })
}

/// Longer than any chain of waits in the rules.
const CALM: u64 = 60;

proptest! {
    #[test]
    fn whatever_passes_ends_healthy_and_whatever_does_not_stays(
        history in prop::collection::vec((0u64..40, signs(), 0usize..20), 0..200),
    ) {
        let mut machine = Machine::default();
        let mut at = 0;
        let mut latched: Option<Reason> = None;
        for (pause, signs, event) in history {
            at += pause;
            machine.observe(seconds(at), signs);
            match Reason::ALL.get(event).filter(|reason| !reason.passes()) {
                Some(reason) => {
                    machine.raise(*reason);
                    latched = Some(latched.map_or(*reason, |other| other.min(*reason)));
                }
                None if event == 19 => {
                    machine.acknowledge(Reason::Structural);
                    latched = latched.filter(|reason| *reason != Reason::Structural);
                }
                None => {}
            }
            if let Some(reason) = latched {
                prop_assert_eq!(machine.shedding(), Some(reason));
            }
        }
        for second in 0..=CALM {
            machine.observe(seconds(at + second), NOTHING);
        }
        prop_assert_eq!(machine.shedding(), latched);
        if latched.is_none() {
            prop_assert_eq!(machine.state(), Healthy);
        }
    }

    #[test]
    fn nothing_windowed_closes_before_its_window(
        first in 0u64..1000,
        pauses in prop::collection::vec(0u64..20, 1..60),
    ) {
        let mut machine = Machine::default();
        machine.observe(seconds(first), LATE);
        let mut at = first;
        for pause in pauses {
            at += pause;
            machine.observe(seconds(at), LATE);
            prop_assert_eq!(machine.shedding().is_some(), at - first >= 15);
        }
    }
}
