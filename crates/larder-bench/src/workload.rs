//! What is measured.

mod calm;
pub(crate) mod consensus;
mod enumerate;
mod far;
mod filled;
mod hit;
mod load;
mod memory;
mod open;
mod outage;
mod queue;
mod ratio;
mod stampede;
mod store;

pub(crate) use self::far::BARE_CLIENT;
pub(crate) use self::outage::{P99_MAX_US, STOPPED};
pub(crate) use self::ratio::BEHIND;
use std::time::Duration;

use crate::args::{CacheArgs, ConsensusArgs, SpoolArgs};
use crate::bench::{Bench, say};
use crate::error::Result;
use crate::plan::{Plan, Workload};
use crate::report::{self, Results};
use crate::row::Row;

/// Runs what the arguments ask for and reports it.
pub(crate) fn spool(arguments: &SpoolArgs) -> Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let plan = Plan::new(arguments);
    say(&format!("this takes about {} s", plan.estimate().as_secs().max(1)));
    let mut bench = Bench::new(&arguments.dir, plan)?;
    let mut results = Results::here(bench.dir());
    for workload in bench.plan.workloads.clone() {
        runtime.block_on(run(&mut bench, workload))?;
        results.rows.append(&mut bench.rows);
        // Whatever comes later, this is not lost.
        if let Some(path) = &arguments.json {
            results.write(path)?;
        }
    }
    report::show(&results, arguments.markdown.as_deref())
}

/// Runs the cells of the cache and reports them.
pub(crate) fn cache(arguments: &CacheArgs) -> Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut results = Results::here(&std::env::temp_dir());
    let workloads =
        if arguments.only.is_empty() { &Workload::CACHE[..] } else { &arguments.only[..] };
    for workload in workloads {
        results.rows.append(&mut runtime.block_on(run_cache(arguments, *workload))?);
        if let Some(path) = &arguments.json {
            results.write(path)?;
        }
    }
    report::show(&results, arguments.markdown.as_deref())
}

/// Runs the cells of consensus and reports them.
pub(crate) fn agreement(arguments: &ConsensusArgs) -> Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut bench = Bench::new(&arguments.dir, Plan::bare())?;
    let mut results = Results::here(bench.dir());
    runtime.block_on(consensus::run(arguments, &mut bench))?;
    results.rows.append(&mut bench.rows);
    if let Some(path) = &arguments.json {
        results.write(path)?;
    }
    report::show(&results, arguments.markdown.as_deref())
}

/// How many rounds, and how long each cell is measured in each.
fn cache_extent(arguments: &CacheArgs) -> (usize, Duration) {
    if arguments.smoke {
        return (1, Duration::from_millis(5));
    }
    (arguments.rounds.max(1), Duration::from_millis(arguments.cell_ms.max(1)))
}

async fn run_cache(arguments: &CacheArgs, workload: Workload) -> Result<Vec<Row>> {
    match workload {
        Workload::Hit => hit::run(arguments).await,
        Workload::Ratio => ratio::run(arguments),
        Workload::Far => far::run(arguments).await,
        Workload::Stampede => stampede::run(arguments).await,
        Workload::Outage => outage::run(arguments).await,
        other => Err(format!("{} is measured by larder-bench spool", other.as_str()).into()),
    }
}

async fn run(bench: &mut Bench, workload: Workload) -> Result<()> {
    match workload {
        Workload::Store => store::run(bench).await,
        Workload::Load => load::run(bench).await,
        Workload::Enumerate => enumerate::run(bench).await,
        Workload::Queue => queue::run(bench).await,
        Workload::Open => open::run(bench).await,
        Workload::Memory => memory::run(bench),
        Workload::Calm => calm::run(bench).await,
        Workload::Hit | Workload::Ratio | Workload::Far | Workload::Stampede | Workload::Outage => {
            Err(format!("{} is measured by larder-bench cache", workload.as_str()).into())
        }
        Workload::Swap | Workload::Head => {
            Err(format!("{} is measured by larder-bench consensus", workload.as_str()).into())
        }
    }
}
