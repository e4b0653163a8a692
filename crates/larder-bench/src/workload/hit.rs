//! Hits in memory: what a look-up costs that finds its key near by.

use std::sync::Barrier;
use std::time::Duration;

use larder::{Clock as _, Key, KeyRef, SystemClock};
use tokio::runtime::Handle;

use super::cache_extent;
use crate::args::CacheArgs;
use crate::bench::say;
use crate::error::Result;
use crate::near::{self, Asked, Near, Pass};
use crate::payload::Random;
use crate::row::{Row, float};
use crate::zipf::Zipf;

/// Keys and threads.
const CELLS: [(usize, usize); 4] = [(10_000, 1), (10_000, 2), (1_000_000, 1), (1_000_000, 2)];
/// As skewed as the key-value stores of the usual benchmarks (YCSB).
const SKEW: f64 = 0.99;
/// Look-ups that each thread repeats, and how many between two looks at the clock.
const ORDER: usize = 1 << 20;
const AT_ONCE: usize = 1 << 11;

pub(crate) async fn run(arguments: &CacheArgs) -> Result<Vec<Row>> {
    let (rounds, cell) = cache_extent(arguments);
    let mut rows = Vec::new();
    for chunk in CELLS.chunk_by(|(one, _), (other, _)| one == other) {
        let count =
            if arguments.smoke { 1_000 } else { chunk.first().map_or(0, |(count, _)| *count) };
        let keys = near::keys(count)?;
        let zipf = Zipf::new(count, SKEW);
        let order = |_| zipf.order(ORDER.min(count * 100), &mut Random::new());
        let orders: Vec<Vec<u32>> = (0..2).map(order).collect();
        say(&format!("hit, {count} keys: filling"));
        let mut subjects = near::filled(&keys, count <= 10_000).await?;
        for (_, threads) in chunk {
            let name = format!("{} keys x {threads}", crate::report::number(float(count as u64)));
            for round in 0..rounds {
                say(&format!("hit, round {} of {rounds}, {name}", round + 1));
                for subject in &subjects {
                    let orders = orders.get(..*threads).ok_or("not as many orders as threads")?;
                    let row = Row::new("hit", subject.name(), &name, round);
                    rows.push(measure(&**subject, &keys, orders, cell)?.figures(row));
                }
                subjects.rotate_left(1);
            }
        }
        // Beside the runtime's threads, as it may block.
        tokio::task::block_in_place(|| drop(subjects));
    }
    Ok(rows)
}

#[derive(Default)]
struct Total {
    look_ups: u64,
    allocations: u64,
    /// Of all threads together.
    spent: Duration,
    threads: usize,
}

impl Total {
    fn figures(&self, row: Row) -> Row {
        let nanos = self.spent.as_secs_f64() * 1e9 / float(self.look_ups);
        row.with("ns_per_op", nanos)
            .with("ops_per_s", 1e9 / nanos * float(self.threads as u64))
            .with("allocations_per_op", float(self.allocations) / float(self.look_ups))
    }
}

/// Lets a thread for each order look keys up for as long as `limit`.
fn measure(
    subject: &dyn Near,
    keys: &[Key],
    orders: &[Vec<u32>],
    limit: Duration,
) -> Result<Total> {
    let runtime = Handle::current();
    let start = Barrier::new(orders.len());
    let one = |order: &[u32]| -> Result<Total> {
        let mut total = Total::default();
        let texts = texts(keys, order);
        let asked = asked(order, &texts)?;
        start.wait();
        let begun = SystemClock.instant();
        for asked in asked.chunks(AT_ONCE).cycle() {
            let Pass { found, allocations } = runtime.block_on(subject.pass(asked))?;
            if found != asked.len() {
                return Err(format!("{} has lost a key", subject.name()).into());
            }
            total.look_ups += asked.len() as u64;
            total.allocations += allocations;
            total.spent = SystemClock.instant().saturating_duration_since(begun);
            if total.spent >= limit {
                break;
            }
        }
        Ok(total)
    };
    let mut all = Total { threads: orders.len(), ..Total::default() };
    std::thread::scope(|scope| -> Result<()> {
        let running: Vec<_> = orders.iter().map(|order| scope.spawn(|| one(order))).collect();
        for thread in running {
            let total = thread.join().map_err(|_| "a thread panicked")??;
            all.look_ups += total.look_ups;
            all.allocations += total.allocations;
            all.spent += total.spent;
        }
        Ok(())
    })?;
    Ok(all)
}

/// The texts of the keys in this order, one after the other: what requests bring is at hand, other
/// than what a cache holds.
fn texts(keys: &[Key], order: &[u32]) -> (String, Vec<usize>) {
    let (mut text, mut ends) = (String::new(), Vec::with_capacity(order.len()));
    for at in order {
        text.push_str(
            usize::try_from(*at).ok().and_then(|at| keys.get(at)).map_or("", Key::as_str),
        );
        ends.push(text.len());
    }
    (text, ends)
}

fn asked<'a>(order: &[u32], (text, ends): &'a (String, Vec<usize>)) -> Result<Vec<Asked<'a>>> {
    let mut from = 0;
    let of = |(at, to): (&u32, &usize)| {
        let key = KeyRef::new(text.get(from..*to).unwrap_or_default())?;
        from = *to;
        Ok(Asked { key, at: usize::try_from(*at)? })
    };
    order.iter().zip(ends).map(of).collect()
}
