//! What a benchmark measures, whichever store it measures: latencies, processor time, bytes that
//! went to the disk, and what the disk itself can do in the same minute.

mod histogram;
mod raw_file;
mod usage;

pub use histogram::Histogram;
pub use raw_file::RawFile;
pub use usage::{DeviceSpent, Spent, Usage};
