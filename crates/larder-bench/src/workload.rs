//! What is measured.

mod calm;
mod enumerate;
mod far;
mod filled;
mod load;
mod memory;
mod open;
mod queue;
mod store;

pub(crate) use self::far::BARE_CLIENT;
use crate::args::{CacheArgs, SpoolArgs};
use crate::bench::{Bench, say};
use crate::error::Result;
use crate::plan::{Plan, Workload};
use crate::report::{self, Results};

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
    results.rows = runtime.block_on(far::run(arguments))?;
    if let Some(path) = &arguments.json {
        results.write(path)?;
    }
    report::show(&results, arguments.markdown.as_deref())
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
        Workload::Far => Err("hits in Redis are measured by larder-bench cache".into()),
    }
}
