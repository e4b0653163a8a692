//! Recipes among many clients, on stores that fail, lose answers and let writes land late; and the wrappers of
//! consensus stores.
//!
//! Simulations run in virtual time, and each prints its seed when it fails: `LARDER_TEST_SEED` begins with it.
#![expect(clippy::unwrap_used, reason = "a set-up that fails is a failed test")]

mod recent;
mod shaky;
mod update;
mod watch;
mod wrappers;

use std::time::Duration;

use larder_core::{Clock, Timestamp};
use tokio::time::Instant;

/// Tells the virtual time of tokio.
#[derive(Debug)]
struct Virtual(Instant);

impl Clock for Virtual {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_767_225_600_000).saturating_add(self.0.elapsed())
    }

    fn instant(&self) -> std::time::Instant {
        Instant::now().into_std()
    }
}

/// Runs one simulation for each of so many seeds, in virtual time; the first that fails, and why.
fn each_seed<F: Future<Output = Result<(), String>>>(
    count: u64,
    simulate: impl Fn(u64) -> F,
) -> Result<(), String> {
    let first = std::env::var("LARDER_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let first = first.unwrap_or(1);
    for seed in first..first + count {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().unwrap();
        let limited = async {
            let limit = Duration::from_hours(1);
            tokio::time::timeout(limit, simulate(seed)).await.map_err(|_| "it hangs".to_owned())?
        };
        runtime.block_on(limited).map_err(|why| format!("LARDER_TEST_SEED={seed}: {why}"))?;
    }
    Ok(())
}
