//! Histories of many clients on several keys while connections, servers and disks fail: one order explains what
//! each was told, and what nobody could tell at first is found out.
//!
//! A sample by default. `LARDER_HISTORIES` is how many runs with faults there are for each engine, and
//! `LARDER_HISTORY_RESTARTS` how many with restarts; `LARDER_HISTORY_SEED` is the first seed, and the one to give
//! again for a run that failed. `cargo xtask soak --histories N` runs them. Faults and clients follow from the seed,
//! the moments of a real server and its threads do not: a failure may take a few runs to come back.
#![expect(clippy::unwrap_used, reason = "a set-up that fails is a failed test")]
#![expect(clippy::print_stdout, reason = "a long run says how far it is")]

mod clients;
mod log;
#[cfg(feature = "postgres")]
mod postgres;

use std::process::ExitCode;

use larder::SharedConsensus;
use larder_testkit::Random;
use libtest_mimic::{Arguments, Failed, Trial};

use clients::{Plan, Tally};

/// A store that can be disturbed.
trait Engine: Send + Sync {
    /// A store for one run.
    async fn open(&self, random: &mut Random) -> SharedConsensus;

    /// Lets something go wrong for a moment.
    async fn disturb(&self, random: &mut Random);

    /// Ends and starts again what holds the data.
    async fn restart(&self, random: &mut Random);

    /// Lets nothing go wrong any more.
    async fn calm(&self);
}

/// So many runs from the seed that is set, or one by default.
async fn runs(engine: &impl Engine, variable: &str, sample: u64, restarts: bool) -> Tally {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let first = number("LARDER_HISTORY_SEED").unwrap_or(1);
    let count = number(variable).unwrap_or(sample);
    let mut sum = Tally::default();
    for seed in first..first + count {
        match run(engine, seed, restarts).await {
            Ok(tally) => sum.add(&tally),
            Err(why) => panic!("LARDER_HISTORY_SEED={seed} {variable}=1: {why}"),
        }
        if seed % 100 == 0 {
            println!("seed {seed}: {sum:?}");
        }
    }
    println!("{count} runs: {sum:?}");
    sum
}

/// One run: clients, and what goes wrong meanwhile.
async fn run(engine: &impl Engine, seed: u64, restarts: bool) -> Result<Tally, String> {
    let mut random = Random::seeded(seed);
    let plan = Plan::of(&mut random, restarts);
    let store = engine.open(&mut random).await;
    let clients = clients::Clients::begin(&store, plan, &mut random);
    let ended = clients.ended();
    let disturbing = async {
        let mut turn = 0;
        while !ended.load(std::sync::atomic::Ordering::SeqCst) {
            turn += 1;
            if restarts && turn <= 2 {
                engine.restart(&mut random).await;
            } else if !restarts || turn % 2 == 0 {
                engine.disturb(&mut random).await;
            }
            let pause = std::time::Duration::from_millis(2 + random.word() % 20);
            tokio::time::sleep(pause).await;
        }
        engine.calm().await;
    };
    let (tally, ()) = tokio::join!(clients.judged(&store), disturbing);
    tally
}

type Test = fn() -> std::pin::Pin<Box<dyn Future<Output = ()>>>;

fn main() -> ExitCode {
    let mut trials = Vec::new();
    for (name, test) in log::TESTS {
        trials.push(trial(name, *test, None));
    }
    #[cfg(feature = "postgres")]
    for (name, test) in postgres::TESTS {
        trials.push(trial(name, *test, larder_testkit::service::PostgresServer::missing()));
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// A test, ignored where its service is missing unless that is required.
fn trial(name: &str, test: Test, missing: Option<String>) -> Trial {
    let required = std::env::var("LARDER_TEST_REQUIRE").unwrap_or_default();
    let required = required.split(',').any(|word| matches!(word.trim(), "all" | "postgres"));
    let is_ignored = missing.is_some() && !required;
    let run = move || {
        if let Some(why) = missing {
            return Err(Failed::from(why));
        }
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        runtime.worker_threads(2).enable_all().build()?.block_on(test());
        Ok(())
    };
    Trial::test(name, run).with_ignored_flag(is_ignored)
}
