//! The sharpest cases of a store that must not lose anything, a file each.
//!
//! What is tested here happens on the simulated disk or to a child process on the real one. Every
//! I/O step of random histories is tried in `tests/crash`, full file systems in `tests/mounted`, what
//! callers of a spool see in the library's `tests/log`. `docs/faults.md` has the whole map.

#![expect(clippy::unwrap_used, reason = "this is a test")]

mod child;
mod sim_log;

#[path = "01_crash_between_write_and_fsync.rs"]
mod case_01_crash_between_write_and_fsync;
#[path = "02_torn_record.rs"]
mod case_02_torn_record;
#[path = "03_corrupt_middle_record.rs"]
mod case_03_corrupt_middle_record;
#[path = "04_bit_rot_while_open.rs"]
mod case_04_bit_rot_while_open;
#[path = "05_vanished_truncated_foreign_segment.rs"]
mod case_05_vanished_truncated_foreign_segment;
#[path = "06_no_space.rs"]
mod case_06_no_space;
#[path = "07_failed_sync.rs"]
mod case_07_failed_sync;
#[path = "08_double_open.rs"]
mod case_08_double_open;
#[path = "09_remove.rs"]
mod case_09_remove;
#[path = "10_store_over_an_existing_id.rs"]
mod case_10_store_over_an_existing_id;
#[path = "11_enumerate_while_it_changes.rs"]
mod case_11_enumerate_while_it_changes;
#[path = "12_deadlines.rs"]
mod case_12_deadlines;
#[path = "13_cancellation.rs"]
mod case_13_cancellation;
#[path = "14_shutdown.rs"]
mod case_14_shutdown;
#[path = "15_sizes_and_limits.rs"]
mod case_15_sizes_and_limits;
#[path = "16_no_descriptors.rs"]
mod case_16_no_descriptors;
#[path = "17_manifest_lost_after_a_recovery.rs"]
mod case_17_manifest_lost_after_a_recovery;
