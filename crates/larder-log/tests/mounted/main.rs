//! A log on a small file system of its own, which fills up: case 6 on the real kernel.
//!
//! Mounting needs root, or `sudo` that asks nothing, and `mkfs.ext4`. Where that is missing the tests
//! are ignored and listed as such; with `LARDER_TEST_REQUIRE=mount` (or `all`) they fail instead.

#![expect(clippy::unwrap_used, reason = "this is a test")]

mod full;
mod mount;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use mount::Mount;

type Test = fn(&Mount);

const TESTS: &[(&str, Test)] = &[
    ("no_space_at_allocation_fails_the_batch_and_passes", full::at_allocation),
    ("no_space_at_write_fails_the_batch_and_passes", full::at_write),
    ("full_file_system_is_emptied_by_deleting_and_compacting", full::is_emptied),
    ("log_killed_on_a_full_file_system_opens_again", full::killed),
    (
        "log_closed_on_a_full_file_system_is_emptied_after_the_next_open",
        full::emptied_after_a_close,
    ),
    ("log_killed_on_a_full_file_system_is_emptied_after_the_next_open", full::emptied_after_a_kill),
    ("one_large_segment_on_a_full_file_system_is_compacted", full::large_segment),
];

fn main() -> ExitCode {
    let missing = Mount::new().err();
    let required = std::env::var("LARDER_TEST_REQUIRE").unwrap_or_default();
    let required = required.split(',').any(|word| matches!(word.trim(), "all" | "mount"));
    let trials = TESTS.iter().map(|(name, test)| {
        let run = || match Mount::new() {
            Ok(mount) => {
                test(&mount);
                Ok(())
            }
            Err(problem) => Err(Failed::from(problem)),
        };
        Trial::test(*name, run).with_ignored_flag(missing.is_some() && !required)
    });
    let mut arguments = Arguments::from_args();
    // Mounting is not what is tested side by side.
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}
