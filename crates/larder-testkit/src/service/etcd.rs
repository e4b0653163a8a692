//! Private etcd servers.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use larder_core::clock::random_u64;
use rustix::process::Signal;

use super::child::Service;
use super::{Identity, free_port, last_lines, wait_for};

mod cluster;

pub use cluster::EtcdCluster;

/// An etcd server of this process, on the loopback interface only: a cluster of one, or a member of an
/// [`EtcdCluster`].
///
/// ```no_run
/// use larder_testkit::service::EtcdServer;
///
/// let server = EtcdServer::start()?;
/// let uri = format!("{}/mine", server.uri());
/// assert!(server.post("/v3/maintenance/status", "{}")?.contains("leader"));
/// # Ok::<_, String>(())
/// ```
#[derive(Debug)]
pub struct EtcdServer {
    name: String,
    folder: PathBuf,
    ports: Ports,
    /// All members, as they begin; empty: this one alone.
    members: String,
    settings: Vec<String>,
    service: Mutex<Option<Service>>,
}

/// Where a server listens.
#[derive(Clone, Copy, Debug)]
struct Ports {
    clients: u16,
    /// For clients over TLS, when it offers that.
    secured: Option<u16>,
    /// For other members.
    peers: u16,
}

impl Ports {
    fn find(is_secured: bool) -> Result<Self, String> {
        let secured = if is_secured { Some(free_port()?) } else { None };
        Ok(Self { clients: free_port()?, secured, peers: free_port()? })
    }
}

/// The one of [`EtcdServer::shared`], as long as somebody uses it.
static SHARED: Mutex<Weak<EtcdServer>> = Mutex::new(Weak::new());

/// How long a single answer may take.
const LIMIT: Duration = Duration::from_secs(5);

impl EtcdServer {
    /// Why there cannot be one here: `None` when the program is installed.
    pub fn missing() -> Option<String> {
        super::missing("etcd")
    }

    /// The server that all tests of this process share: started for the first, ended by the last.
    ///
    /// # Errors
    /// A sentence that says why not.
    pub fn shared() -> Result<Arc<Self>, String> {
        super::shared(&SHARED, Self::start)
    }

    /// A server of one's own, to be killed and configured.
    ///
    /// # Errors
    /// A sentence that says why not.
    pub fn start() -> Result<Self, String> {
        Self::start_with(&[])
    }

    /// As [`EtcdServer::start`], with more of its settings: `["--max-txn-ops=4"]`.
    ///
    /// # Errors
    /// A sentence that says why not.
    pub fn start_with(settings: &[&str]) -> Result<Self, String> {
        Self::start_as(None, settings)
    }

    /// As [`EtcdServer::start_with`], and it offers TLS as `identity` on a port of its own: [`EtcdServer::tls_port`].
    ///
    /// # Errors
    /// A sentence that says why not.
    pub fn start_with_tls(identity: &Identity, settings: &[&str]) -> Result<Self, String> {
        Self::start_as(Some(identity), settings)
    }

    fn start_as(identity: Option<&Identity>, settings: &[&str]) -> Result<Self, String> {
        let mut server = Self::prepare(Ports::find(identity.is_some())?, settings)?;
        if let Some(identity) = identity {
            identity.write_to(&server.folder)?;
            let files = ["--cert-file=cert.pem", "--key-file=key.pem"];
            server.settings.extend(files.map(str::to_owned));
        }
        let mut problem = String::new();
        // Somebody else may take a port between our look and the server's.
        for _ in 0..5 {
            match server.restart() {
                Ok(()) => return Ok(server),
                Err(why) => problem = why,
            }
            // It has noted its ports there.
            let _ = std::fs::remove_dir_all(server.folder.join("data"));
            server.ports = Ports::find(identity.is_some())?;
        }
        Err(problem)
    }

    /// One that is not running yet.
    fn prepare(ports: Ports, settings: &[&str]) -> Result<Self, String> {
        if let Some(why) = Self::missing() {
            return Err(why);
        }
        let name = format!("larder-etcd-{}-{:016x}", std::process::id(), random_u64());
        let folder = std::env::temp_dir().join(&name);
        std::fs::create_dir_all(&folder)
            .map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
        let settings = settings.iter().map(|word| (*word).to_owned()).collect();
        let (members, service) = (String::new(), Mutex::new(None));
        Ok(Self { name, folder, ports, members, settings, service })
    }

    /// Its address, without a prefix.
    pub fn uri(&self) -> String {
        format!("etcd://127.0.0.1:{}", self.ports.clients)
    }

    /// The port it listens on.
    pub const fn port(&self) -> u16 {
        self.ports.clients
    }

    /// The port it listens on for TLS, when it was started with it.
    pub const fn tls_port(&self) -> Option<u16> {
        self.ports.secured
    }

    /// Starts it on the same port with what it holds; whatever it was doing before, which is ended as a
    /// crash does.
    ///
    /// # Errors
    /// A sentence that says why not.
    pub fn restart(&self) -> Result<(), String> {
        self.launch()?;
        let settled = self.settle();
        if settled.is_err() {
            self.kill();
        }
        settled
    }

    /// Starts it, whatever it was doing before.
    fn launch(&self) -> Result<(), String> {
        let mut running = self.lock();
        *running = None;
        *running = Some(Service::start(&self.folder, &self.program())?);
        Ok(())
    }

    /// Waits until it takes requests.
    fn settle(&self) -> Result<(), String> {
        wait_for("a start of etcd", || {
            if self.lock().as_ref().is_none_or(Service::has_ended) {
                return Some(Err(format!("etcd ended: {}", last_lines(&self.folder))));
            }
            // Another server may have the port: this one has to be ours, and to know a leader.
            let members = self.post("/v3/cluster/member/list", "{}").ok()?;
            let status = self.post("/v3/maintenance/status", "{}").ok()?;
            (members.contains(&self.name) && status.contains("\"leader\"")).then_some(Ok(()))
        })?
    }

    /// Ends it as a crash does.
    pub fn kill(&self) {
        *self.lock() = None;
    }

    /// Stops it where it is: connections stay, nothing is answered, until [`EtcdServer::resume`].
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

    /// Sends JSON to its gateway, where keys and values are in base64, and gives the JSON that it answers.
    ///
    /// # Errors
    /// What the server says, or why it could not be asked.
    pub fn post(&self, path: &str, json: &str) -> Result<String, String> {
        let answer = self.exchange(path, json).map_err(|error| format!("{path}: {error}"))?;
        let (head, body) =
            answer.split_once("\r\n\r\n").ok_or_else(|| format!("{path}: {answer}"))?;
        if head.starts_with("HTTP/1.0 200") || head.starts_with("HTTP/1.1 200") {
            return Ok(body.to_owned());
        }
        Err(format!("{path}: {body}"))
    }

    fn exchange(&self, path: &str, json: &str) -> std::io::Result<String> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports.clients));
        let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
        stream.set_read_timeout(Some(LIMIT))?;
        // It closes at the end, so that there are no parts to be put together.
        let head = format!("POST {path} HTTP/1.0\r\nContent-Length: {}\r\n\r\n", json.len());
        stream.write_all(head.as_bytes())?;
        stream.write_all(json.as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    fn signal(&self, signal: Signal) -> Result<(), String> {
        match &*self.lock() {
            Some(service) => service.signal(signal),
            None => Err("etcd is not running".to_owned()),
        }
    }

    fn program(&self) -> Vec<String> {
        let Self { name, ports: Ports { clients, secured, .. }, .. } = self;
        let plain = format!("http://127.0.0.1:{clients}");
        let clients = match secured {
            Some(port) => format!("{plain},https://127.0.0.1:{port}"),
            None => plain,
        };
        let others = self.for_members();
        let members = if self.members.is_empty() { self.entry() } else { self.members.clone() };
        let words = [
            "etcd".to_owned(),
            format!("--name={name}"),
            "--data-dir=data".to_owned(),
            format!("--listen-client-urls={clients}"),
            format!("--advertise-client-urls={clients}"),
            format!("--listen-peer-urls={others}"),
            format!("--initial-advertise-peer-urls={others}"),
            format!("--initial-cluster={members}"),
            "--log-level=error".to_owned(),
        ];
        words.into_iter().chain(self.settings.iter().cloned()).collect()
    }

    /// What stands for it in a list of members.
    fn entry(&self) -> String {
        format!("{}={}", self.name, self.for_members())
    }

    fn for_members(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.peers)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Service>> {
        self.service.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for EtcdServer {
    fn drop(&mut self) {
        *self.lock() = None;
        // A folder that cannot be removed harms nobody.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
