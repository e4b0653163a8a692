//! Crash schedules on the simulated disk: every I/O step of random histories is a place to die.
//!
//! `LARDER_CRASH_SCHEDULES` sets how many schedules are run, `LARDER_CRASH_SEED` replays the history
//! with that seed alone.

#![expect(clippy::unwrap_used, reason = "this is a test")]

mod world;

use larder_log::sim::{Fault, SimDisk, SimRandom};
use world::{Death, Kind, World};

const SCHEDULES: u64 = 20_000;

/// Runs the history `seed` and lets it die at step `at`; then opens it again and again.
fn run(seed: u64, at: Option<u64>, kind: Kind) -> Result<u64, String> {
    let disk = SimDisk::new(seed);
    if let Some(at) = at {
        disk.plan(at, Fault::Crash);
    }
    kind.plan(&disk, seed);
    let mut world = World::create(disk.clone(), kind);
    let mut random = SimRandom::new(seed ^ 0xabcd);
    let ops = 8 + random.below(24);
    for _ in 0..ops {
        if disk.is_dead() {
            break;
        }
        world.act(&mut random)?;
    }
    let steps = disk.steps();
    let crash_seed = seed ^ (at.unwrap_or(0) << 32);
    // A process that dies leaves the page cache; with the power everything unsynced is in doubt.
    let death = if SimRandom::new(crash_seed).chance(5) { Death::Process } else { Death::Power };
    world.die_and_check(death, crash_seed)?;
    Ok(steps)
}

fn schedules() -> u64 {
    let set = std::env::var("LARDER_CRASH_SCHEDULES").ok();
    set.and_then(|text| text.parse().ok()).unwrap_or(SCHEDULES)
}

/// Runs histories from `first` on until `schedules` deaths were died; returns the first failure.
fn explore(first: u64, schedules: u64, kind: Kind) -> Result<(), String> {
    let replay: Option<u64> =
        std::env::var("LARDER_CRASH_SEED").ok().and_then(|text| text.parse().ok());
    let mut done = 0;
    let mut seed = replay.unwrap_or(first);
    while done < schedules {
        let steps = run(seed, None, kind).map_err(|error| format!("seed {seed}: {error}"))?;
        done += 1;
        for at in 0..steps {
            run(seed, Some(at), kind)
                .map_err(|error| format!("LARDER_CRASH_SEED={seed} step {at}: {error}"))?;
            done += 1;
        }
        if replay.is_some() {
            break;
        }
        seed += 1;
    }
    Ok(())
}

#[test]
fn no_acknowledged_write_is_lost_at_any_step_of_any_history() {
    explore(1, schedules() * 7 / 10, Kind::Sound).unwrap();
}

#[test]
fn failing_syncs_full_disks_and_short_writes_lose_nothing_that_was_acknowledged() {
    explore(1_000_000, schedules() * 3 / 10, Kind::Faulty).unwrap();
}

#[test]
fn negative_control_a_committer_that_answers_before_it_syncs_is_caught() {
    let caught = explore(1, 2000, Kind::AnswersTooEarly);
    // For the right reason: something that was promised is not there.
    assert!(caught.is_err_and(|error| error.contains("promised")), "2000 schedules did not notice");
}

#[test]
fn rot_below_the_durable_mark_is_reported_for_exactly_that_entry() {
    let mut hit = 0;
    for seed in 0..400 {
        hit += u64::from(world::rot(seed).unwrap_or_else(|error| panic!("seed {seed}: {error}")));
    }
    assert!(hit > 200, "{hit}");
}
