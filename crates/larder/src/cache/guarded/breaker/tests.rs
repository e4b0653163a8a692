use std::sync::Barrier;
use std::sync::atomic::AtomicUsize;
use std::thread;

use larder_core::ManualClock;
use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn breaker(clock: &ManualClock, options: GuardOptions) -> Breaker {
    Breaker::new(options, clock.shared(), 7)
}

/// Options of small numbers and exact pauses.
fn exact() -> GuardOptions {
    GuardOptions::new()
        .window(10 * SECOND)
        .failures_min(3)
        .failure_percent(50)
        .pause(2 * SECOND)
        .pause_max(7 * SECOND)
        .jitter_percent(0)
}

fn opened(clock: &ManualClock) -> Breaker {
    let breaker = breaker(clock, exact());
    for _ in 0..3 {
        breaker.admit(true).unwrap().end(Verdict::Fails);
    }
    assert_eq!(breaker.state(), (BreakerState::Open, Some(2 * SECOND)));
    breaker
}

#[test]
fn failures_open_it_only_when_they_are_enough_and_a_large_enough_part() {
    let clock = ManualClock::default();
    let few = breaker(&clock, exact());
    for _ in 0..2 {
        assert_eq!(few.admit(true).unwrap().end(Verdict::Fails), None);
    }
    clock.advance(10 * SECOND);
    for _ in 0..2 {
        assert_eq!(
            few.admit(true).unwrap().end(Verdict::Fails),
            None,
            "those before are forgotten"
        );
    }
    assert_eq!(few.admit(true).unwrap().end(Verdict::Fails), Some(Turn::Opened));

    let rare = breaker(&clock, exact());
    for _ in 0..50 {
        rare.admit(true).unwrap().end(Verdict::Fails);
        for _ in 0..2 {
            rare.admit(true).unwrap().end(Verdict::Works);
        }
        assert!(rare.admit(true).is_ok(), "a third of the calls is not half of them");
    }
}

#[test]
fn half_open_lets_exactly_one_of_many_callers_through() {
    const CALLERS: usize = 8;
    for _ in 0..200 {
        let clock = ManualClock::default();
        let breaker = opened(&clock);
        clock.advance(2 * SECOND);
        let (probes, start) = (AtomicUsize::new(0), Barrier::new(CALLERS));
        let probe = Mutex::new(None);
        thread::scope(|scope| {
            for _ in 0..CALLERS {
                scope.spawn(|| {
                    start.wait();
                    match breaker.admit(true) {
                        Ok(permit) => {
                            probes.fetch_add(1, Ordering::SeqCst);
                            *probe.lock().unwrap() = Some(permit);
                        }
                        Err(refusal) => assert_eq!(refusal, Refusal::Probing),
                    }
                });
            }
        });
        assert_eq!(probes.into_inner(), 1);
        let probe = probe.into_inner().unwrap().unwrap();
        assert_eq!(probe.end(Verdict::Works), Some(Turn::Closed));
        assert!(breaker.admit(true).is_ok() && breaker.admit(true).is_ok());
    }
}

#[test]
fn a_probe_that_tells_nothing_leaves_its_place_to_the_next_call() {
    let clock = ManualClock::default();
    let breaker = opened(&clock);
    clock.advance(2 * SECOND);
    drop(breaker.admit(true).unwrap());
    breaker.admit(true).unwrap().end(Verdict::Silent);
    let probe = breaker.admit(true).unwrap();
    assert_eq!(breaker.admit(true).unwrap_err(), Refusal::Probing);
    assert_eq!(probe.end(Verdict::Fails), Some(Turn::StaysOpen));
}

#[test]
fn calls_that_began_before_it_opened_tell_nothing_after_it_has_closed() {
    let clock = ManualClock::default();
    let breaker = breaker(&clock, exact());
    let [failing, working] = [3, 10].map(|calls| {
        let permits: Vec<_> = (0..calls).map(|_| breaker.admit(true).unwrap()).collect();
        permits
    });
    let fail = || breaker.admit(true).unwrap().end(Verdict::Fails);
    assert_eq!([fail(), fail(), fail()], [None, None, Some(Turn::Opened)]);
    clock.advance(2 * SECOND);
    breaker.admit(true).unwrap().end(Verdict::Works);
    for permit in failing {
        assert_eq!(permit.end(Verdict::Fails), None);
    }
    assert_eq!(fail(), None);
    for permit in working {
        permit.end(Verdict::Works);
    }
    assert_eq!([fail(), fail()], [None, Some(Turn::Opened)]);
}

#[test]
fn pauses_double_up_to_their_bound_and_jitter_only_shortens_them() {
    let clock = ManualClock::default();
    let breaker = opened(&clock);
    for seconds in [4, 7, 7] {
        clock.advance(breaker.state().1.unwrap());
        assert_eq!(breaker.admit(true).unwrap().end(Verdict::Fails), Some(Turn::StaysOpen));
        assert_eq!(breaker.state().1, Some(seconds * SECOND));
    }

    let pauses: Vec<_> = (0..100)
        .map(|seed| {
            let options = exact().failures_min(1).jitter_percent(25);
            let breaker = Breaker::new(options, clock.shared(), seed);
            breaker.admit(true).unwrap().end(Verdict::Fails);
            breaker.state().1.unwrap()
        })
        .collect();
    assert!(pauses.iter().all(|pause| (SECOND * 3 / 2..=SECOND * 2).contains(pause)));
    assert!(pauses.iter().any(|pause| *pause < SECOND * 7 / 4));
}

#[test]
fn times_beyond_all_bounds_are_cut() {
    let clock = ManualClock::default();
    let endless = exact().window(Duration::MAX).pause_max(Duration::MAX).pause(Duration::MAX);
    let breaker = breaker(&clock, endless.failures_min(0));
    assert_eq!(breaker.admit(true).unwrap().end(Verdict::Fails), Some(Turn::Opened));
    assert_eq!(breaker.state().1, Some(TIME_MAX));
}

/// The same promises, told over everything that has happened.
struct Reference {
    options: GuardOptions,
    /// When calls of this closing went well (`true`) or failed.
    heard: Vec<(u64, bool)>,
    /// How often it has opened and closed.
    turns: usize,
    /// Milliseconds: until when it is open, and the pause.
    open: Option<(u64, u64)>,
    probing: bool,
}

impl Reference {
    fn admit(&mut self, now: u64) -> Result<(usize, bool), Refusal> {
        match self.open {
            None => Ok((self.turns, false)),
            Some((until, _)) if now < until => {
                Err(Refusal::Open { retry_in: Duration::from_millis(until - now) })
            }
            Some(_) if self.probing => Err(Refusal::Probing),
            Some(_) => {
                self.probing = true;
                Ok((self.turns, true))
            }
        }
    }

    fn end(&mut self, now: u64, (turns, probe): (usize, bool), verdict: Verdict) {
        if probe {
            self.probing = false;
            let (_, pause) = self.open.unwrap();
            match verdict {
                Verdict::Works => {
                    (self.open, self.turns) = (None, self.turns + 1);
                    self.heard.clear();
                }
                Verdict::Fails => {
                    let pause = (pause * 2).min(millis(self.options.pause_max));
                    self.open = Some((now + pause, pause));
                }
                Verdict::Silent => {}
            }
        } else if turns == self.turns && verdict != Verdict::Silent {
            self.heard.push((now, verdict == Verdict::Works));
            if verdict == Verdict::Fails && self.is_too_much() {
                let pause = millis(self.options.pause);
                (self.open, self.turns) = (Some((now + pause, pause)), self.turns + 1);
            }
        }
    }

    /// Whether what failed in the last window is enough. A window begins with the first failure
    /// after the one before.
    fn is_too_much(&self) -> bool {
        let mut window: Option<(usize, u64)> = None;
        for (at, (when, works)) in self.heard.iter().enumerate() {
            let over = window.is_none_or(|(_, began)| began + millis(self.options.window) <= *when);
            if !works && over {
                window = Some((at, *when));
            }
        }
        let heard = window.map_or(&[][..], |(at, _)| &self.heard[at..]);
        let failures = heard.iter().filter(|(_, works)| !works).count();
        failures >= usize::try_from(self.options.failures_min).unwrap()
            && failures * 100 >= heard.len() * usize::from(self.options.failure_percent)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap()
}

#[derive(Clone, Debug)]
enum Step {
    Begin,
    End { which: usize, verdict: Verdict },
    Leave { which: usize },
    Pass { millis: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let verdict = prop_oneof![
        3 => Just(Verdict::Fails),
        2 => Just(Verdict::Works),
        1 => Just(Verdict::Silent),
    ];
    prop_oneof![
        5 => Just(Step::Begin),
        5 => (any::<usize>(), verdict).prop_map(|(which, verdict)| Step::End { which, verdict }),
        1 => any::<usize>().prop_map(|which| Step::Leave { which }),
        2 => (0_u64..6_000).prop_map(|millis| Step::Pass { millis }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn it_does_what_a_simple_reference_does(
        steps in prop::collection::vec(step(), 1..120),
        failures_min in 1_u32..4,
        failure_percent in prop::sample::select(vec![0_u8, 30, 50, 100, 101]),
    ) {
        let options = exact().failures_min(failures_min).failure_percent(failure_percent);
        let clock = ManualClock::default();
        let real = breaker(&clock, options.clone());
        let mut reference =
            Reference { options, heard: Vec::new(), turns: 0, open: None, probing: false };
        let (mut now, mut under_way) = (0, Vec::new());
        for step in steps {
            match step {
                Step::Begin => match (real.admit(true), reference.admit(now)) {
                    (Ok(permit), Ok(call)) => {
                        prop_assert_eq!(permit.probe, call.1);
                        under_way.push((permit, call));
                    }
                    (Err(real), Err(reference)) => prop_assert_eq!(real, reference),
                    (real, reference) => prop_assert!(false, "{:?}, not {:?}", real, reference),
                },
                Step::End { .. } | Step::Leave { .. } if under_way.is_empty() => {}
                Step::End { which, verdict } => {
                    let (permit, call) = under_way.remove(which % under_way.len());
                    permit.end(verdict);
                    reference.end(now, call, verdict);
                }
                Step::Leave { which } => {
                    let (permit, call) = under_way.remove(which % under_way.len());
                    drop(permit);
                    reference.end(now, call, Verdict::Silent);
                }
                Step::Pass { millis } => {
                    clock.advance(Duration::from_millis(millis));
                    now += millis;
                }
            }
            let state = match reference.open {
                None => BreakerState::Closed,
                Some((until, _)) if now < until => BreakerState::Open,
                Some(_) => BreakerState::HalfOpen,
            };
            prop_assert_eq!(real.state().0, state);
        }
    }
}
