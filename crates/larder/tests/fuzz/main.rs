//! The fuzz targets on inputs that are made here, by mutation of sound ones: a sample of what
//! `cargo xtask soak --fuzz` does with libFuzzer.
#![cfg(feature = "log")]
#![expect(clippy::expect_used, reason = "a set-up that fails is a failed test")]

mod bodies;
#[cfg(feature = "s3")]
mod object;

use larder_log::sim::SimRandom;

const INPUTS: u64 = 1_500;

/// Runs a target on many inputs.
fn sample(name: &str) {
    let (_, body) = bodies::TARGETS.iter().find(|(known, _)| *known == name).expect("a target");
    sample_of(name, INPUTS, &bodies::seeds(), *body);
}

/// Runs a target on so many inputs that are made of seeds.
fn sample_of(name: &str, inputs: u64, seeds: &[Vec<u8>], body: bodies::Target) {
    let len = |bytes: &[u8]| u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let at = |random: &mut SimRandom, len: u64| usize::try_from(random.below(len)).unwrap_or(0);
    for seed in 0..inputs {
        let mut random = SimRandom::new(seed);
        let mut input = seeds[at(&mut random, seeds.len() as u64)].clone();
        for _ in 0..random.below(6) {
            if input.is_empty() {
                break;
            }
            let from = at(&mut random, len(&input));
            match random.below(5) {
                0 | 1 => input[from] ^= 1 << random.below(8),
                2 => input[from] = random.next().to_le_bytes()[0],
                3 => input.truncate(from),
                _ => {
                    let noise: Vec<u8> =
                        (0..random.below(64)).map(|_| random.next().to_le_bytes()[0]).collect();
                    input.splice(from..from, noise);
                }
            }
        }
        // What fails is worth keeping: it says its number.
        let run = std::panic::AssertUnwindSafe(|| body(&input));
        assert!(std::panic::catch_unwind(run).is_ok(), "{name}: input {seed} of the sample");
    }
}

#[test]
fn records_with_sound_checksums() {
    sample("record");
}

#[test]
fn segments_of_arbitrary_bytes() {
    sample("segment");
}

#[test]
fn manifests_of_arbitrary_bytes() {
    sample("manifest");
}

#[test]
fn folders_with_an_arbitrary_file() {
    sample("folder");
}

#[test]
fn records_of_a_cache() {
    sample("cache_record");
}

#[cfg(feature = "s3")]
#[test]
fn objects_of_a_key() {
    // Each is some requests.
    sample_of("object_record", 300, &object::seeds(), object::object_record);
}

#[test]
fn records_of_debts() {
    sample("debt_record");
}

#[test]
fn addresses() {
    sample("address");
}
