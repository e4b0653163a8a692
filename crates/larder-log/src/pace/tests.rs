use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Moves `pieces` of `bytes` as fast as it is allowed; returns when that was done.
fn run(pace: &Pace, mut now: Duration, pieces: u64, bytes: u64) -> Duration {
    for _ in 0..pieces {
        now += pace.book(bytes, now);
    }
    now
}

#[test]
fn no_more_than_the_rate_over_any_time() {
    let pace = Pace::new(1000);
    let begun = 50 * SECOND;
    // The first piece goes at once, each later one when those before it are paid for.
    assert_eq!(run(&pace, begun, 1, 100), begun);
    let ended = run(&pace, begun, 100, 100);
    assert_eq!(ended + BURST, begun + 10 * SECOND);
}

#[test]
fn what_was_not_used_is_not_saved_up() {
    let pace = Pace::new(1000);
    run(&pace, SECOND, 5, 100);
    let later = 1000 * SECOND;
    assert!(run(&pace, later, 51, 100) + BURST >= later + 5 * SECOND);
}

#[test]
fn forgiven_bytes_are_not_waited_for() {
    let pace = Pace::new(1000);
    run(&pace, SECOND, 1, 1_000_000);
    assert!(pace.book(1, SECOND) > 100 * SECOND);
    pace.forgive(2 * SECOND);
    assert_eq!(pace.book(1, 2 * SECOND), Duration::ZERO);
}

#[test]
fn no_rate_is_no_wait() {
    let pace = Pace::new(0);
    assert_eq!(run(&pace, SECOND, 1000, u64::MAX / 2), SECOND);
}
