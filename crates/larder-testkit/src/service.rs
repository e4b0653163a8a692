//! Real services for tests, private to the process that starts them: on a free port of the loopback
//! interface, with their files in a temporary folder, and gone when their handle is.

mod child;
mod redis;

pub use redis::RedisServer;

use std::time::Duration;

use larder_core::{Clock, SystemClock};

/// How long a service may take to start, to answer or to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// Asks every few milliseconds until there is an answer, for at most [`PATIENCE`].
fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> Result<T, String> {
    let until = SystemClock.instant() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return Ok(answer);
        }
        if SystemClock.instant() >= until {
            return Err(format!("{what}: not within {PATIENCE:?}"));
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
}
