//! Real services for tests, private to the process that starts them: on a free port of the loopback
//! interface, with their files in a temporary folder, and gone when their handle is.

mod child;
mod etcd;
mod postgres;
mod redis;
#[cfg(feature = "s3")]
mod s3;

pub use etcd::EtcdServer;
pub use postgres::{PostgresServer, PostgresSession, TextRows};
pub use redis::RedisServer;
#[cfg(feature = "s3")]
pub use s3::{S3Fault, S3Process, S3Quirk, S3Refusal, S3Server, serve_s3_if_asked};

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
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
