//! The chores of the workspace: `cargo xtask help`.
//!
//! Standard library only, so that it builds in a second on any machine; but for `proto`, which is a
//! feature.

mod bench;
mod command;
mod features;
#[cfg(feature = "proto")]
mod proto;
mod setup;
mod soak;
mod suite;
mod tidy;

use std::process::ExitCode;

const HELP: &str = "\
The chores of the workspace.

    cargo xtask test [--setup]   everything that has to hold before a change lands;
                                 with --setup it installs what is missing first
    cargo xtask setup            install what the tests need, say what is done
    cargo xtask tidy             directions between crates and rooms, file sizes, forbidden calls
    cargo xtask features         every set of backends, each without TLS, with it, or not at all
    cargo xtask laws             write docs/laws.md anew from the laws
    cargo xtask proto            write the messages of etcd anew from crates/larder/proto
    cargo xtask bench [spool|cache] ...
                                 the benchmarks beside the peers, see docs/benchmarks.md;
                                 without a word those of spool and cache; of the spool
                                 with --ext4 on a new, journaled file system (needs root),
                                 with --rocksdb beside RocksDB, too; the rest is passed on
    cargo xtask soak             the long suites: a million crash schedules, a thousand kills,
                                 a thousand histories
        [--schedules N] [--seconds S] [--seed N]   crash schedules only, so many or so long
        [--replay KIND:SEED:STEP]                  one schedule that failed
        [--histories N] [--seed N]                 histories of consensus stores only: N with faults
                                                   for each engine, N / 20 with restarts
        [--fuzz S]                                 each fuzz target for so many seconds
";

/// This program with what makes Rust of messages.
#[cfg(not(feature = "proto"))]
const WITH_PROTO: &[&str] =
    &["run", "--quiet", "-p", "xtask", "--features", "proto", "--", "proto"];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["test"] => setup::require().and_then(|()| suite::test()),
        ["test", "--setup"] => setup::install().and_then(|()| suite::test()),
        ["setup"] => setup::install(),
        ["tidy"] => tidy::check(),
        ["features"] => features::all(),
        ["laws"] => suite::write_laws(),
        #[cfg(feature = "proto")]
        ["proto"] => proto::write(),
        #[cfg(not(feature = "proto"))]
        ["proto"] => command::run("cargo", WITH_PROTO, &[]),
        ["bench", more @ ..] => bench::run_with(more),
        ["soak", words @ ..] => setup::require().and_then(|()| soak::soak(words)),
        [] | ["help" | "--help" | "-h"] => {
            print(HELP);
            Ok(())
        }
        _ => Err(format!("unknown command: {}\n\n{HELP}", arguments.join(" "))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            complain(&format!("xtask: {problem}"));
            ExitCode::FAILURE
        }
    }
}

/// Tells the person at the terminal.
#[expect(clippy::print_stdout, reason = "a terminal program talks on its standard output")]
fn print(text: &str) {
    println!("{text}");
}

/// Tells the person at the terminal what is wrong.
#[expect(clippy::print_stderr, reason = "a terminal program complains on its standard error")]
fn complain(text: &str) {
    eprintln!("{text}");
}
