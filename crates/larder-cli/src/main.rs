//! The larder daemon and command line.

mod args;
mod cmd;
mod exit;
mod output;
mod payload;
mod progress;
mod scratch;
mod serve;
mod signals;
mod stores;

use std::process::ExitCode;

use crate::args::{Command, Larder};
use crate::exit::Exit;
use crate::output::Output;

fn main() -> ExitCode {
    let larder = match args::parse() {
        Ok(larder) => larder,
        Err(early) => return early,
    };
    let json = larder.json;
    match run(larder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) => exit.report(json),
    }
}

fn run(larder: Larder) -> Result<(), Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("larder")
        .build()
        .map_err(|error| Exit::failed(format!("cannot start the worker threads: {error}")))?;
    let mut output = Output::new(larder.json);
    let result = runtime.block_on(dispatch(larder.command, &mut output));
    // A task that hangs must not keep a finished command alive.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    result.and_then(|()| output.finish())
}

async fn dispatch(command: Command, output: &mut Output) -> Result<(), Exit> {
    match command {
        Command::Serve(args) => serve::run(args, output).await,
        Command::Cache(args) => cmd::cache::run(args, output).await,
        Command::Spool(args) => cmd::spool::run(args, output).await,
        Command::Consensus(args) => cmd::consensus::run(args, output).await,
        Command::Check(args) => cmd::check::run(args, output).await,
        Command::Bench(args) => cmd::bench::run(args, output).await,
        Command::Verify { path } => cmd::offline::verify(&path, output),
        Command::Dump { path } => cmd::offline::dump(&path, output),
        Command::Config(args) => cmd::config::run(&args, output),
    }
}
