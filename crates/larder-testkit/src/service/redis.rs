//! A private Redis server.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use larder_core::clock::random_u64;
use rustix::process::Signal;

use super::child::Service;
use super::{free_port, last_lines, wait_for};

/// A Redis server of this process: without persistence, with 16 databases, on the loopback interface.
///
/// ```no_run
/// use larder_testkit::service::RedisServer;
///
/// let server = RedisServer::start()?;
/// let uri = format!("{}?namespace=mine", server.uri(0));
/// # Ok::<_, String>(())
/// ```
///
#[derive(Debug)]
pub struct RedisServer {
    folder: PathBuf,
    port: u16,
    settings: Vec<String>,
    service: Mutex<Option<Service>>,
}

/// The one of [`RedisServer::shared`], as long as somebody uses it.
static SHARED: Mutex<Weak<RedisServer>> = Mutex::new(Weak::new());

impl RedisServer {
    /// Why there cannot be one here: `None` when the program is installed.
    pub fn missing() -> Option<String> {
        super::missing("redis-server")
    }

    /// The server that all tests of this process share: started for the first, ended by the last.
    ///
    /// # Errors
    /// A sentence that says why not.
    pub fn shared() -> Result<Arc<Self>, String> {
        super::shared(&SHARED, Self::start)
    }

    /// A server of one's own, to be stopped, killed and configured.
    ///
    /// # Errors
    /// A sentence that says why not.
    pub fn start() -> Result<Self, String> {
        Self::start_with(&[])
    }

    /// As [`RedisServer::start`], with more of its settings: `["--cluster-enabled", "yes"]`.
    ///
    /// # Errors
    /// A sentence that says why not.
    pub fn start_with(settings: &[&str]) -> Result<Self, String> {
        if let Some(why) = Self::missing() {
            return Err(why);
        }
        let name = format!("larder-redis-{}-{:016x}", std::process::id(), random_u64());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder)
            .map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
        let settings = settings.iter().map(|word| (*word).to_owned()).collect();
        let mut server = Self { folder, port: 0, settings, service: Mutex::new(None) };
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

    /// The address of one of its databases.
    pub fn uri(&self, db: u32) -> String {
        format!("redis://127.0.0.1:{}/{db}", self.port)
    }

    /// The port it listens on.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Starts it again, empty, on the same port; whatever it was doing before.
    ///
    /// # Errors
    /// A sentence that says why not.
    pub fn restart(&self) -> Result<(), String> {
        let mut running = self.lock();
        *running = None;
        let service = Service::start(&self.folder, &self.program())?;
        let pid = format!("process_id:{}\r\n", service.pid());
        let started = wait_for("a start of redis-server", || {
            if service.has_ended() {
                return Some(Err(format!("redis-server ended: {}", last_lines(&self.folder))));
            }
            // Another server may have the port: this one has to be ours.
            let about = self.ask(b"INFO server\r\n").ok()?;
            // A server that wants a password, or is in a cluster, is there as well.
            (about.contains(&pid) || about.starts_with("-NOAUTH")).then_some(Ok(()))
        })?;
        started?;
        *running = Some(service);
        Ok(())
    }

    /// Ends it as a crash does.
    pub fn kill(&self) {
        *self.lock() = None;
    }

    /// Stops it where it is: connections stay, nothing is answered, until [`RedisServer::resume`].
    ///
    /// # Errors
    /// A sentence that says why not.
    pub fn pause(&self) -> Result<(), String> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// A sentence that says why not.
    pub fn resume(&self) -> Result<(), String> {
        self.signal(Signal::CONT)
    }

    /// Sends a command of words without blanks on a connection of its own and gives the whole answer
    /// as it came, an error included.
    ///
    /// # Errors
    /// A sentence that says why not.
    pub fn command(&self, line: &str) -> Result<String, String> {
        self.ask(format!("{line}\r\n").as_bytes()).map_err(|error| format!("{line}: {error}"))
    }

    fn ask(&self, line: &[u8]) -> std::io::Result<String> {
        let limit = Duration::from_secs(5);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let mut stream = TcpStream::connect_timeout(&address, limit)?;
        stream.set_read_timeout(Some(limit))?;
        // The server closes after the second answer, so there is no need to understand the first.
        stream.write_all(line)?;
        stream.write_all(b"QUIT\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        Ok(answer.strip_suffix("+OK\r\n").map_or(answer.clone(), str::to_owned))
    }

    fn signal(&self, signal: Signal) -> Result<(), String> {
        match &*self.lock() {
            Some(service) => service.signal(signal),
            None => Err("redis-server is not running".to_owned()),
        }
    }

    fn program(&self) -> Vec<String> {
        let port = self.port.to_string();
        let place = ["redis-server", "--bind", "127.0.0.1", "--port", &port, "--dir", "."];
        let forgetful = ["--save", "", "--appendonly", "no"];
        let ours = place.into_iter().chain(forgetful).map(str::to_owned);
        ours.chain(self.settings.iter().cloned()).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Service>> {
        self.service.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        *self.lock() = None;
        // A folder that cannot be removed harms nobody.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
