//! Latencies in fixed memory: buckets that grow with the value, each within 1.6% of it.

use std::time::Duration;

/// Buckets per doubling.
const STEPS: u64 = 64;
const STEP_BITS: u32 = STEPS.trailing_zeros();
/// Enough for 2^40 nanoseconds, which is 18 minutes.
const BUCKETS: usize = 36 * 64;

/// How long the operations took.
#[derive(Clone, Debug)]
pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
}

impl Histogram {
    /// One without times.
    pub fn new() -> Self {
        Self { buckets: vec![0; BUCKETS], count: 0 }
    }

    /// Counts an operation that took so long.
    pub fn record(&mut self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        if let Some(bucket) = self.buckets.get_mut(bucket(nanos)) {
            *bucket += 1;
        }
        self.count += 1;
    }

    /// Adds what another one counted.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.count += other.count;
    }

    /// How many operations were counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The time within which so many thousandths of the operations ended, in microseconds; zero when
    /// there are none.
    #[allow(clippy::cast_precision_loss, reason = "a latency in microseconds")]
    pub fn quantile(&self, thousandths: u64) -> f64 {
        let wanted = self.count.saturating_mul(thousandths).div_ceil(1000).max(1);
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return middle(index) as f64 / 1000.0;
            }
        }
        0.0
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

fn bucket(nanos: u64) -> usize {
    let exponent = nanos.max(1).ilog2();
    let index = if exponent < STEP_BITS {
        nanos
    } else {
        let shift = exponent - STEP_BITS;
        (u64::from(shift) + 1) * STEPS + (nanos >> shift) - STEPS
    };
    usize::try_from(index).unwrap_or(BUCKETS).min(BUCKETS - 1)
}

/// The value in the middle of a bucket.
fn middle(index: usize) -> u64 {
    let index = u64::try_from(index).unwrap_or(u64::MAX);
    if index < STEPS {
        return index;
    }
    let shift = index / STEPS - 1;
    let low = (index % STEPS + STEPS) << shift;
    low + ((1 << shift) >> 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bucket_is_close_to_what_falls_into_it() {
        let mut nanos = 1_u64;
        while nanos < 1 << 39 {
            for value in [nanos, nanos + nanos / 3, nanos * 2 - 1] {
                let shown = middle(bucket(value));
                assert!(shown.abs_diff(value) <= value / STEPS + 1, "{value} is shown as {shown}");
            }
            nanos *= 2;
        }
    }

    #[test]
    fn quantiles_are_taken_from_the_sorted_values() {
        let mut histogram = Histogram::new();
        (1..=1000).for_each(|us| histogram.record(Duration::from_micros(us)));
        for (thousandths, us) in [(500, 500.0), (990, 990.0), (999, 999.0), (1000, 1000.0)] {
            let shown = histogram.quantile(thousandths);
            assert!((shown - us).abs() <= us / 50.0, "{thousandths}: {shown}");
        }
        assert!(Histogram::new().quantile(500).abs() < f64::EPSILON);
    }
}
