//! How often a memory that is too small for all keys has the one that is asked for.

use super::cache_extent;
use crate::args::CacheArgs;
use crate::bench::say;
use crate::error::Result;
use crate::near;
use crate::payload::Random;
use crate::row::{Row, float};
use crate::zipf::Zipf;

/// How many points less than the best one.
pub(crate) const BEHIND: &str = "behind_the_best";

const KEYS: usize = 100_000;
/// How much more popular the popular keys are.
const SKEWS: [f64; 3] = [0.8, 0.99, 1.2];
/// Room for one key in so many.
const ROOMS: [usize; 3] = [1_000, 100, 10];
/// Requests before hits are counted, and while they are.
const WARM_UP: usize = 1_000_000;
const COUNTED: usize = 2_000_000;

pub(crate) fn run(arguments: &CacheArgs) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let (count, scale) = if arguments.smoke { (1_000, 1_000) } else { (KEYS, 1) };
    let rounds = cache_extent(arguments).0.min(3);
    let keys = near::keys(count)?;
    for skew in SKEWS {
        say(&format!("ratio, Zipf {skew}"));
        let zipf = Zipf::new(count, skew);
        for round in 0..rounds {
            // The same requests for all.
            let order = zipf.order((WARM_UP + COUNTED) / scale, &mut Random::new());
            let (before, counted) = order.split_at(WARM_UP / scale);
            for room in ROOMS {
                let mut of_cell = Vec::new();
                for subject in near::evicting(count / room)? {
                    let hits = |order: &[u32]| {
                        let there = |at: &&u32| {
                            let at = usize::try_from(**at).unwrap_or(usize::MAX);
                            keys.get(at).is_some_and(|key| subject.ask(key))
                        };
                        order.iter().filter(there).count()
                    };
                    hits(before);
                    let hits = float(hits(counted) as u64) / float(counted.len() as u64);
                    let cell = format!("Zipf {skew}, room for 1 key in {room}");
                    let row = Row::new("ratio", subject.name(), &cell, round);
                    of_cell.push((row.with("hits_percent", hits * 100.0), hits));
                }
                let best = of_cell.iter().map(|(_, hits)| *hits).fold(0.0, f64::max);
                let behind = |(row, hits): (Row, f64)| row.with(BEHIND, (best - hits) * 100.0);
                rows.extend(of_cell.into_iter().map(behind));
            }
        }
    }
    Ok(rows)
}
