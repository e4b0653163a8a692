//! Real services for tests, private to the process that starts them: on a free port of the loopback
//! interface, with their files in a temporary folder, and gone when their handle is.

#[cfg(feature = "tls")]
mod authority;
mod child;
mod etcd;
mod identity;
mod postgres;
mod redis;
#[cfg(feature = "s3")]
mod s3;

#[cfg(feature = "tls")]
pub use authority::Authority;
pub use etcd::{EtcdCluster, EtcdServer};
pub use identity::Identity;
pub use postgres::{PostgresServer, PostgresSession, TextRows};
pub use redis::RedisServer;
#[cfg(feature = "s3")]
pub use s3::{S3Fault, S3Process, S3Quirk, S3Refusal, S3Server, serve_s3_if_asked};

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
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

/// Why a program cannot be run here: `None` when it is installed.
fn missing(program: &str) -> Option<String> {
    let mut version = Command::new(program);
    version.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if version.status().is_ok_and(|status| status.success()) {
        return None;
    }
    Some(format!("{program} is not installed: run `cargo xtask test --setup`"))
}

/// The service that all tests of this process share: started for the first, ended by the last.
fn shared<S>(
    place: &Mutex<Weak<S>>,
    start: impl FnOnce() -> Result<S, String>,
) -> Result<Arc<S>, String> {
    let mut shared = place.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(service) = shared.upgrade() {
        return Ok(service);
    }
    let service = Arc::new(start()?);
    *shared = Arc::downgrade(&service);
    Ok(service)
}

fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let address = listener.and_then(|listener| listener.local_addr());
    address.map(|address| address.port()).map_err(|error| format!("no free port: {error}"))
}

/// What a server said last.
fn last_lines(folder: &Path) -> String {
    let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
    let lines: Vec<&str> = log.lines().rev().take(3).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("; ")
}
