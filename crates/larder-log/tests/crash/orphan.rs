//! The double fault: the manifest is lost right after an unclean recovery, again and again.

use larder_log::sim::{Fault, SimRandom};

use crate::world::{Death, World};

/// Recovers from a death with the manifest at hand; then works a little and dies without it, several
/// times over. What was promised has to be there each time, and nothing that was cut or given up.
pub(crate) fn check(world: &mut World, death: Death, seed: u64) -> Result<(), String> {
    let mut random = SimRandom::new(seed ^ 0x0a11);
    world.die_and_recover(death, seed, false)?;
    for round in 1..=1 + random.below(3) {
        work(world, &mut random);
        let process = random.chance(3);
        let death = if process { Death::Process } else { Death::Power };
        world
            .die_and_recover(death, seed ^ (round << 16), true)
            .map_err(|error| format!("without a manifest, round {round}: {error}"))?;
    }
    world.check_after()
}

/// Appends, and sometimes rolls, but removes no file: a compaction that is interrupted leaves files
/// that only the manifest tells from those that count.
fn work(world: &mut World, random: &mut SimRandom) {
    let Some(log) = world.log.clone() else { return };
    if random.chance(4) {
        world.disk.plan(world.disk.steps() + random.below(12), Fault::Crash);
    }
    for _ in 0..random.below(14) {
        if world.disk.is_dead() {
            return;
        }
        world.submit(&log, random);
        if random.chance(2) {
            world.step(random);
        }
    }
}
