//! An endpoint in a process of its own, for those who want to kill it.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use larder_core::clock::random_u64;

use super::adapter::Adapter;
use super::objects::Objects;
use super::{uri, wire};
use crate::service::child::Service;
use crate::service::{free_port, last_lines, wait_for};

/// As [`S3Server`](super::S3Server), in a process that can be killed, and without faults.
///
/// It is the test's own program, started again: its `main` has to begin with [`serve_s3_if_asked`].
#[derive(Debug)]
pub struct S3Process {
    folder: PathBuf,
    port: u16,
    service: Mutex<Option<Service>>,
}

/// Which port to serve on, for a process that is to be an endpoint.
const ASKED: &str = "LARDER_TEST_SERVE_S3";

/// Serves the objects of the current folder, if this process was started for that; never returns then.
///
/// # Errors
/// A sentence that says why it cannot.
pub fn serve_s3_if_asked() -> Result<(), String> {
    let Some(port) = std::env::var(ASKED).ok() else { return Ok(()) };
    let port = port.parse().map_err(|_| format!("{ASKED}={port} is not a port"))?;
    let failed = |error: std::io::Error| format!("cannot serve: {error}");
    let listener = super::listen(port)?;
    let objects = Arc::new(Objects::open(Path::new(".")).map_err(failed)?);
    let service = Adapter::new(objects, Arc::default()).service();
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().map_err(failed)?;
    runtime.block_on(wire::serve(listener, service, Arc::default()));
    Err("the endpoint cannot accept connections any more".to_owned())
}

impl S3Process {
    /// An endpoint with an empty bucket.
    ///
    /// # Errors
    /// A sentence that says why not.
    pub fn start() -> Result<Self, String> {
        let name = format!("larder-s3-process-{}-{:016x}", std::process::id(), random_u64());
        let folder = std::env::temp_dir().join(name);
        let objects = folder.join("objects");
        std::fs::create_dir_all(&objects)
            .map_err(|error| format!("cannot make {}: {error}", objects.display()))?;
        let mut server = Self { folder, port: 0, service: Mutex::new(None) };
        let mut problem = String::new();
        // Somebody else may take the port between our look and the server's.
        for _ in 0..5 {
            server.port = free_port()?;
            match server.restart() {
                Ok(()) => return Ok(server),
                Err(why) => problem = why,
            }
        }
        Err(problem)
    }

    /// The address of a store below `prefix`, with the credentials in it.
    pub fn uri(&self, prefix: &str) -> String {
        uri(self.port, prefix)
    }

    /// The port it listens on.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Kills it and starts it again on the same port with what it holds.
    ///
    /// # Errors
    /// A sentence that says why not.
    pub fn restart(&self) -> Result<(), String> {
        let mut running = self.service.lock().unwrap_or_else(PoisonError::into_inner);
        // Killed before another one is started: two must not write the same files.
        drop(running.take());
        let program = std::env::current_exe().map_err(|error| format!("no program: {error}"))?;
        let asked = format!("{ASKED}={}", self.port);
        let words = ["env".to_owned(), asked, program.display().to_string()];
        let folder = self.folder.join("objects");
        let service = Service::start(&folder, &words)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let started = wait_for("a start of the endpoint", || {
            if service.has_ended() {
                return Some(Err(format!("the endpoint ended: {}", last_lines(&folder))));
            }
            TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok().map(|_| Ok(()))
        })?;
        started?;
        *running = Some(service);
        Ok(())
    }

    /// Ends it with SIGKILL.
    pub fn kill(&self) {
        *self.service.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Drop for S3Process {
    fn drop(&mut self) {
        self.kill();
        // A folder that cannot be removed harms nobody.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
