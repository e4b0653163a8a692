//! What was measured, as it is written down.

use larder_testkit::meter::{Histogram, Spent};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::time::Duration;

/// The figures of one subject in one cell of one round.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) workload: String,
    pub(crate) subject: String,
    /// What the cell is: sizes and concurrency, as they are shown.
    pub(crate) cell: String,
    pub(crate) round: usize,
    pub(crate) figures: Map<String, Value>,
}

impl Row {
    pub(crate) fn new(workload: &str, subject: &str, cell: &str, round: usize) -> Self {
        Self {
            workload: workload.into(),
            subject: subject.into(),
            cell: cell.into(),
            round,
            figures: Map::new(),
        }
    }

    /// Adds a figure; one that is not a number is left out.
    pub(crate) fn with(mut self, name: &str, value: f64) -> Self {
        if value.is_finite() {
            self.figures.insert(name.into(), ((value * 1000.0).round() / 1000.0).into());
        }
        self
    }

    pub(crate) fn figure(&self, name: &str) -> Option<f64> {
        self.figures.get(name)?.as_f64()
    }

    /// Adds what clients achieved and what that cost.
    pub(crate) fn with_measured(self, measured: &Measured) -> Self {
        let count = float(measured.operations);
        let mut row = self
            .with("ops_per_s", count / measured.elapsed.as_secs_f64())
            .with("p50_us", measured.times.quantile(500))
            .with("p99_us", measured.times.quantile(990))
            .with("p999_us", measured.times.quantile(999))
            .with("cpu_us_per_op", measured.spent.cpu.as_secs_f64() * 1e6 / count);
        let payload = float(measured.payload_bytes);
        if let Some(written) = measured.spent.disk_bytes() {
            row = row.with("device_bytes_per_payload_byte", float(written) / payload);
        }
        if let Some(device) = measured.spent.device {
            row = row.with("flushes_per_op", float(device.flushes) / count);
        }
        row
    }
}

/// What clients did together in a stretch of time.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) operations: u64,
    pub(crate) times: Histogram,
    pub(crate) elapsed: Duration,
    pub(crate) spent: Spent,
    /// What they stored; zero when they stored nothing.
    pub(crate) payload_bytes: u64,
}

#[allow(clippy::cast_precision_loss, reason = "rates and ratios")]
pub(crate) fn float(number: u64) -> f64 {
    number as f64
}

/// Bytes in the unit that fits.
pub(crate) fn bytes(number: usize) -> String {
    for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        if number >= 1 << shift && number.trailing_zeros() >= shift {
            return format!("{} {unit}", number >> shift);
        }
    }
    format!("{number} B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_shown_in_whole_units() {
        assert_eq!([bytes(1024), bytes(256 << 10), bytes(3 << 20)], ["1 KiB", "256 KiB", "3 MiB"]);
        assert_eq!([bytes(0), bytes(1000)], ["0 B", "1000 B"]);
    }

    #[test]
    fn figures_that_are_no_numbers_are_left_out() {
        let row = Row::new("w", "s", "c", 0).with("a", 1.0 / 3.0).with("b", f64::NAN);
        assert_eq!((row.figure("a"), row.figure("b")), (Some(0.333), None));
    }
}
