//! Crash schedules on the simulated disk: every I/O step of random histories is a place to die.
//!
//! The tests here are a sample; `cargo xtask soak` runs a million and more. A schedule that fails is
//! printed as `fair:17:93`, and `LARDER_CRASH_REPLAY=fair:17:93` makes `soak` play that one alone.

#![expect(clippy::unwrap_used, reason = "this is a test")]

mod control;
mod explore;
mod model;
mod orphan;
mod rot;
mod schedule;
mod verdict;
mod world;

use std::sync::atomic::Ordering;
use std::time::Duration;

use control::Breakage;
use explore::{Budget, explore, now};
use rot::Rot;
use schedule::{Kind, Schedule};
use world::{RECYCLED, Weather};

#[test]
fn no_acknowledged_write_is_lost_at_any_step_of_any_history() {
    let done = explore(Kind::Crash(Weather::Fair), 1, &Budget::sample(12_000)).unwrap();
    let recycled = RECYCLED.load(Ordering::Relaxed);
    assert!(recycled > done / 2, "files are written again all the time: {recycled} in {done}");
}

#[test]
fn failing_syncs_full_disks_and_short_writes_lose_nothing_that_was_acknowledged() {
    explore(Kind::Crash(Weather::Failing), 1_000_000, &Budget::sample(8_000)).unwrap();
}

#[test]
fn syncs_that_lie_never_make_it_show_what_nobody_stored() {
    explore(Kind::Crash(Weather::Lying), 2_000_000, &Budget::sample(4_000)).unwrap();
}

#[test]
fn manifest_that_is_lost_after_an_unclean_recovery_takes_nothing_along() {
    explore(Kind::Orphan, 3_000_010, &Budget::sample(3_000)).unwrap();
}

#[test]
fn one_rotten_bit_costs_one_entry_at_most_and_is_reported() {
    let mut gone = 0;
    for seed in 0..2_000 {
        gone += rot::run(seed, Rot::Bit).unwrap_or_else(|error| panic!("bit:{seed}: {error}"));
    }
    assert!(gone > 100, "{gone}");
}

#[test]
fn rotten_stretches_never_make_it_show_what_nobody_stored() {
    explore(Kind::Rot(Rot::Stretches), 1, &Budget::sample(1_500)).unwrap();
}

#[test]
fn schedules_that_once_failed_hold() {
    let failed = ["orphan:88:114", "orphan:3000012:385", "orphan:9000162:248"];
    for text in failed.into_iter().chain(["stretches:55", "stretches:527647"]) {
        text.parse::<Schedule>().unwrap().run().unwrap();
    }
}

/// What a broken log is told by.
fn caught(breakage: Breakage) -> String {
    explore(Kind::Control(breakage), 1, &Budget::sample(4_000))
        .err()
        .unwrap_or_else(|| panic!("4000 schedules did not notice: {breakage:?}"))
}

#[test]
fn negative_control_a_committer_that_answers_before_it_syncs_is_caught() {
    // For the right reason: something that was promised is not there.
    let error = caught(Breakage::AnswersBeforeSync);
    assert!(error.contains("promised"), "{error}");
}

#[test]
fn negative_control_a_recovery_that_trusts_the_page_cache_is_caught() {
    let error = caught(Breakage::TrustsPageCache);
    assert!(error.contains("right after the recovery"), "{error}");
}

#[test]
fn negative_control_a_log_that_never_syncs_its_folder_is_caught() {
    caught(Breakage::ForgetsNames);
}

/// One number of the environment.
fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text:?} is not a number")))
}

/// All kinds of schedules, for as long as `LARDER_SOAK_SECONDS` or as many as
/// `LARDER_SOAK_SCHEDULES` say, from `LARDER_SOAK_SEED` on.
#[test]
#[ignore = "a long suite: cargo xtask soak"]
#[expect(clippy::print_stderr, reason = "somebody waits at the terminal")]
fn soak() {
    if let Ok(text) = std::env::var("LARDER_CRASH_REPLAY") {
        let schedule: Schedule = text.parse().unwrap();
        let steps = schedule.run().unwrap_or_else(|error| panic!("{error}"));
        eprintln!("{schedule} holds, in {steps} steps");
        return;
    }
    let schedules = setting("LARDER_SOAK_SCHEDULES").unwrap_or(1_000_000);
    let seconds = setting("LARDER_SOAK_SECONDS");
    let seed = setting("LARDER_SOAK_SEED").unwrap_or(1);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let begun = now();
    let mut all = 0;
    for (index, (name, kind)) in Kind::ALL.iter().enumerate() {
        // The first kind is half of it; what it leaves of the time goes to the others.
        let share = |whole: u64| if index == 0 { whole / 2 } else { whole / 10 };
        let until = seconds.map(|seconds| now() + Duration::from_secs(share(seconds).max(1)));
        let budget = Budget { schedules: share(schedules), until, threads, talks: true };
        let done = explore(*kind, seed, &budget).unwrap_or_else(|error| panic!("{error}"));
        eprintln!("{name}: {done} schedules hold, seeds from {seed} on");
        all += done;
    }
    let recycled = RECYCLED.load(Ordering::Relaxed);
    eprintln!("{recycled} segments were begun in files that were written before");
    eprintln!("{all} schedules hold, in {} s, on {threads} threads", begun.elapsed().as_secs());
}
