//! Histories of many clients on several keys while connections, servers and disks fail: one order explains what
//! each was told, and what nobody could tell at first is found out.
//!
//! A sample by default. `LARDER_HISTORIES` is how many runs with faults there are for each engine, and
//! `LARDER_HISTORY_RESTARTS` how many with restarts; `LARDER_HISTORY_SEED` is the first seed, and the one to give
//! again for a run that failed. `cargo xtask soak --histories N` runs them. Faults and clients follow from the seed,
//! the moments of a real server and its threads do not: a failure may take a few runs to come back.
#![expect(clippy::unwrap_used, reason = "a set-up that fails is a failed test")]
#![expect(clippy::print_stdout, reason = "a long run says how far it is")]
#![cfg_attr(
    feature = "s3",
    expect(clippy::print_stderr, reason = "a process that cannot serve says so")
)]

mod clients;
#[cfg(feature = "etcd")]
mod etcd;
mod log;
#[cfg(any(feature = "postgres", feature = "etcd", feature = "s3"))]
mod outage;
#[cfg(feature = "postgres")]
mod postgres;
mod resolved;
#[cfg(feature = "s3")]
mod s3;
#[cfg(any(feature = "postgres", feature = "etcd", feature = "s3"))]
mod served;
#[cfg(any(feature = "postgres", feature = "etcd", feature = "s3"))]
mod stores;
#[cfg(any(feature = "postgres", feature = "etcd", feature = "s3"))]
mod way;

use std::fmt;
use std::process::ExitCode;
use std::time::Duration;

use larder::{Clock, SharedConsensus, SystemClock};
use larder_testkit::Random;
use libtest_mimic::{Arguments, Failed, Trial};

use clients::{Manner, Plan, Signals, Tally};

/// A store that can be disturbed.
trait Engine: Send + Sync {
    /// Stores for one run, each of which is a process of its own as far as the engine knows.
    async fn open(&self, random: &mut Random) -> Vec<SharedConsensus>;

    /// Lets something go wrong for a moment.
    async fn disturb(&self, random: &mut Random);

    /// Ends and starts again what holds the data.
    async fn restart(&self, random: &mut Random);

    /// Lets nothing go wrong any more.
    async fn calm(&self);

    /// How clients take what they are told.
    fn manner(&self) -> Manner {
        Manner::PLAIN
    }
}

/// Why a run is no good.
#[derive(Debug)]
enum Wrong {
    /// No order explains what clients were told.
    Order(String),
    /// A client was stopped by what should not have stopped it.
    Client(String),
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Order(why) | Self::Client(why) => f.write_str(why),
        }
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// The seed that is set, or one.
fn first_seed() -> u64 {
    setting("LARDER_HISTORY_SEED").unwrap_or(1)
}

/// So many runs from the seed that is set, or one by default.
async fn runs(engine: &impl Engine, variable: &str, sample: u64, restarts: bool) -> Tally {
    let first = first_seed();
    let count = setting(variable).unwrap_or(sample);
    let began = SystemClock.instant();
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
    let took = (SystemClock.instant() - began).as_secs();
    println!("{count} runs from seed {first} in {took} s: {sum:?}");
    sum
}

/// One run: clients, and what goes wrong meanwhile.
async fn run(engine: &impl Engine, seed: u64, restarts: bool) -> Result<Tally, Wrong> {
    let mut random = Random::seeded(seed);
    let plan = Plan::of(&mut random, restarts);
    run_with(engine, plan, &mut random, async |random: &mut Random, signals: Signals| {
        let mut turn = 0;
        while !signals.ended() {
            turn += 1;
            if restarts && turn <= 2 {
                engine.restart(random).await;
            } else if !restarts || turn % 2 == 0 {
                engine.disturb(random).await;
            }
            tokio::time::sleep(Duration::from_millis(2 + random.word() % 20)).await;
        }
    })
    .await
}

/// One run of this plan, while `disturb` runs.
async fn run_with(
    engine: &impl Engine,
    plan: Plan,
    random: &mut Random,
    disturb: impl AsyncFnOnce(&mut Random, Signals),
) -> Result<Tally, Wrong> {
    let stores = engine.open(random).await;
    let clients = clients::Clients::begin(&stores, plan, random, engine.manner());
    let signals = clients.signals();
    let disturbing = async {
        disturb(random, signals).await;
        engine.calm().await;
    };
    let (tally, ()) = tokio::join!(clients.judged(&stores[0]), disturbing);
    tally
}

type Test = fn() -> std::pin::Pin<Box<dyn Future<Output = ()>>>;

fn main() -> ExitCode {
    // A test wants this program to be an endpoint.
    #[cfg(feature = "s3")]
    if let Err(why) = larder_testkit::service::serve_s3_if_asked() {
        eprintln!("{why}");
        return ExitCode::FAILURE;
    }
    let mut trials = Vec::new();
    for (name, test) in log::TESTS {
        trials.push(trial(name, *test, None));
    }
    #[cfg(feature = "postgres")]
    for (name, test) in postgres::TESTS {
        trials.push(trial(name, *test, larder_testkit::service::PostgresServer::missing()));
    }
    #[cfg(feature = "etcd")]
    for (name, test) in etcd::TESTS {
        trials.push(trial(name, *test, larder_testkit::service::EtcdServer::missing()));
    }
    #[cfg(feature = "s3")]
    for (name, test) in s3::TESTS {
        trials.push(trial(name, *test, None));
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// A test, ignored where its service is missing unless that is required.
fn trial(name: &str, test: Test, missing: Option<String>) -> Trial {
    let service = name.split("::").next().unwrap_or(name);
    let required = std::env::var("LARDER_TEST_REQUIRE").unwrap_or_default();
    let required = required.split(',').map(str::trim).any(|word| word == "all" || word == service);
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
