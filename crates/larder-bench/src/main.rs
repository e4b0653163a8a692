//! larder next to its peers and next to what the disk itself can do, as ratios in one run.
//!
//! | room | what it holds |
//! |---|---|
//! | `subject` | one file for each way to keep payloads |
//! | `workload` | one file for each thing that is measured |
//! | `near` | one file for each cache that answers from memory |
//! | `agreed` | one file for each way to agree on versions |
//! | `bench` | a run: its folder, its probe of the disk, its results |
//! | `child` | processes that are killed, or whose memory is measured |
//! | `allocations` `zipf` | what a thread allocates; numbers as popular as keys are |
//! | `clients` | closed-loop clients, as tasks or as threads |
//! | `report` | medians and ratios, as text, Markdown and JSON |

mod agreed;
mod allocations;
mod args;
mod bench;
mod child;
mod clients;
mod error;
mod near;
mod page_cache;
mod payload;
mod plan;
mod report;
mod row;
mod subject;
mod workload;
mod zipf;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Arguments, Command};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.command {
        Command::Spool(arguments) => workload::spool(&arguments),
        Command::Cache(arguments) => workload::cache(&arguments),
        Command::Consensus(arguments) => workload::agreement(&arguments),
        Command::Report(arguments) => report::merged(&arguments),
        Command::Child(arguments) => child::run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            bench::say(&format!("larder-bench: {error}"));
            ExitCode::FAILURE
        }
    }
}
