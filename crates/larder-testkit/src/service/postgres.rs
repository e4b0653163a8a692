//! A private PostgreSQL server.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use larder_core::clock::random_u64;
use rustix::process::{Signal, kill_process};

use super::child::{self, Service};
use super::{Identity, free_port, last_lines, wait_for};

mod owner;
mod program;
mod session;

use owner::Owner;
pub use session::PostgresSession;

/// A PostgreSQL server of this process, on the loopback interface only.
///
/// Its superuser is `larder`, who needs no password; every other role has to show one. The server
/// refuses to run as root, so root starts it as the user `postgres` or else `nobody`.
///
/// It does not wait for the disk (`fsync=off`) unless told to: what it acknowledged survives its
/// own death, not that of the machine.
///
/// ```no_run
/// use larder_testkit::service::PostgresServer;
///
/// let server = PostgresServer::start()?;
/// let uri = format!("{}?schema=mine", server.uri());
/// assert_eq!(server.query("SELECT 1 + 1")?, [[Some("2".to_owned())]]);
/// # Ok::<_, String>(())
/// ```
#[derive(Debug)]
pub struct PostgresServer {
    folder: PathBuf,
    port: u16,
    settings: Vec<String>,
    owner: Owner,
    service: Mutex<Option<Service>>,
}

/// Rows of fields as text; `None` is NULL.
pub type TextRows = Vec<Vec<Option<String>>>;

/// The one of [`PostgresServer::shared`], as long as somebody uses it.
static SHARED: Mutex<Weak<PostgresServer>> = Mutex::new(Weak::new());

/// Who may come from where: nobody who is not on this machine.
const ACCESS: &str = "\
host all larder 127.0.0.1/32 trust
host all all 127.0.0.1/32 scram-sha-256
host replication larder 127.0.0.1/32 trust
";

/// The same, by certificates.
const CERTIFIED: &str = "\
host all larder 127.0.0.1/32 trust
hostssl all all 127.0.0.1/32 cert
";

impl PostgresServer {
    /// Why there cannot be one here: `None` when the programs are installed.
    pub fn missing() -> Option<String> {
        program::folder().err()
    }

    /// Another program of the same release, such as `pg_receivewal`.
    ///
    /// # Errors
    /// What to do when there is none.
    pub fn command(program: &str) -> Result<Command, String> {
        Ok(Command::new(program::folder()?.join(program)))
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

    /// As [`PostgresServer::start`], with more of its settings: `["fsync=on"]`.
    ///
    /// # Errors
    /// A sentence that says why not.
    pub fn start_with(settings: &[&str]) -> Result<Self, String> {
        Self::start_as(None, settings)
    }

    /// As [`PostgresServer::start_with`], and it offers TLS on the same port as `identity`; whoever does not ask for
    /// it is served without.
    ///
    /// # Errors
    /// A sentence that says why not.
    pub fn start_with_tls(identity: &Identity, settings: &[&str]) -> Result<Self, String> {
        Self::start_as(Some(identity), settings)
    }

    /// As [`PostgresServer::start_with_tls`], and everybody but its superuser has to show a certificate of his name,
    /// from an authority in the file `clients`, in place of a password.
    ///
    /// # Errors
    /// A sentence that says why not.
    pub fn start_with_tls_for(
        identity: &Identity,
        clients: &Path,
        settings: &[&str],
    ) -> Result<Self, String> {
        let authority = format!("ssl_ca_file={}", clients.display());
        let settings = [&[authority.as_str()], settings].concat();
        Self::start_to_let_in(CERTIFIED, Some(identity), &settings)
    }

    fn start_as(identity: Option<&Identity>, settings: &[&str]) -> Result<Self, String> {
        Self::start_to_let_in(ACCESS, identity, settings)
    }

    fn start_to_let_in(
        access: &str,
        identity: Option<&Identity>,
        settings: &[&str],
    ) -> Result<Self, String> {
        let owner = Owner::find()?;
        let name = format!("larder-postgres-{}-{:016x}", std::process::id(), random_u64());
        let folder = std::env::temp_dir().join(name);
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let mut server = Self { folder, port: 0, settings, owner, service: Mutex::new(None) };
        owner.make_folder(&server.folder)?;
        if let Some(identity) = identity {
            server.settings.extend(server.certify(identity)?);
        }
        let data = server.folder.join("data");
        program::new_cluster(&data, owner)?;
        // Where `ALTER SYSTEM` can take it back, which what is said at the start is safe from.
        let failed = |error| format!("cannot write postgresql.conf: {error}");
        let config = std::fs::OpenOptions::new().append(true).open(data.join("postgresql.conf"));
        let written = config.and_then(|mut config| config.write_all(b"fsync = off\n"));
        written.map_err(failed)?;
        let failed = |error| format!("cannot write the access rules: {error}");
        std::fs::write(server.folder.join("access"), access).map_err(failed)?;
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

    /// The settings for TLS, with the files that they name.
    fn certify(&self, identity: &Identity) -> Result<[String; 3], String> {
        identity.write_to(&self.folder)?;
        let [certificate, key] = ["cert.pem", "key.pem"].map(|name| self.folder.join(name));
        self.owner.give(&key)?;
        let [certificate, key] = [certificate, key].map(|file| file.display().to_string());
        let files = [format!("ssl_cert_file={certificate}"), format!("ssl_key_file={key}")];
        let [certificate, key] = files;
        Ok(["ssl=on".to_owned(), certificate, key])
    }

    /// The address of its database, for the superuser.
    pub fn uri(&self) -> String {
        format!("postgres://larder@127.0.0.1:{}/postgres", self.port)
    }

    /// The port it listens on.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Starts it on the same port with what it holds; whatever it was doing before, which is ended as a
    /// crash does.
    ///
    /// # Errors
    /// A sentence that says why not.
    pub fn restart(&self) -> Result<(), String> {
        let mut running = self.lock();
        end(&mut running);
        let service = Service::start(&self.folder, &self.program()?)?;
        let data = self.folder.join("data");
        let started = wait_for("a start of postgres", || {
            if service.has_ended() {
                return Some(Err(format!("postgres ended: {}", last_lines(&self.folder))));
            }
            // Another server may have the port: this one has to be ours.
            let place = self.query("SHOW data_directory").ok()?;
            let place = place.first()?.first()?.as_deref()?;
            (Path::new(place) == data).then_some(Ok(()))
        });
        started??;
        *running = Some(service);
        Ok(())
    }

    /// Ends it in order: it lets go of its clients, who are told, and writes everything down.
    ///
    /// # Errors
    /// A sentence that says why not.
    pub fn stop(&self) -> Result<(), String> {
        let mut running = self.lock();
        let Some(service) = &*running else { return Ok(()) };
        service.signal(Signal::INT)?;
        wait_for("an end of postgres", || service.has_ended().then_some(()))?;
        end(&mut running);
        Ok(())
    }

    /// Ends it in order and starts it again as a standby, of a primary that is not there; `pg_promote()`
    /// makes it a primary again.
    ///
    /// # Errors
    /// A sentence that says why not.
    pub fn restart_as_standby(&self) -> Result<(), String> {
        self.stop()?;
        let signal = self.folder.join("data").join("standby.signal");
        let failed = |error| format!("cannot write {}: {error}", signal.display());
        std::fs::write(&signal, "").map_err(failed)?;
        // It is removed by whoever promotes.
        self.owner.give(&signal)?;
        self.restart()
    }

    /// Ends all of its processes at once, as a crash does.
    pub fn kill(&self) {
        end(&mut self.lock());
    }

    /// Stops all of its processes where they are: connections stay, nothing is answered, until
    /// [`PostgresServer::resume`].
    ///
    /// # Errors
    /// A sentence that says why not.
    pub fn pause(&self) -> Result<(), String> {
        self.signal_all(Signal::STOP)
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// A sentence that says why not.
    pub fn resume(&self) -> Result<(), String> {
        self.signal_all(Signal::CONT)
    }

    /// Runs statements as the superuser on a connection of its own and gives the rows of all.
    ///
    /// # Errors
    /// What the server says, or why it could not be asked.
    pub fn query(&self, sql: &str) -> Result<TextRows, String> {
        self.session()?.query(sql)
    }

    /// A connection of the superuser that stays.
    ///
    /// # Errors
    /// What the server says, or why it could not be asked.
    pub fn session(&self) -> Result<PostgresSession, String> {
        PostgresSession::open(self.port)
    }

    /// Ends every connection whose client introduced itself as `application`; how many there were.
    ///
    /// # Errors
    /// A sentence that says why not.
    pub fn terminate(&self, application: &str) -> Result<usize, String> {
        let sql = format!(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity \
             WHERE application_name = '{application}'"
        );
        self.query(&sql).map(|rows| rows.len())
    }

    fn signal_all(&self, signal: Signal) -> Result<(), String> {
        let running = self.lock();
        let Some(service) = &*running else { return Err("postgres is not running".to_owned()) };
        // The one that starts others comes first, so that none is missed.
        service.signal(signal)?;
        for child in child::children(service.pid()) {
            // One that ended meanwhile needs no signal.
            let _ = kill_process(child, signal);
        }
        Ok(())
    }

    fn program(&self) -> Result<Vec<String>, String> {
        let port = format!("port={}", self.port);
        let access = format!("hba_file={}", self.folder.join("access").display());
        let settings = [
            port.as_str(),
            access.as_str(),
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "shared_buffers=32MB",
            "max_connections=100",
            "log_line_prefix=",
        ];
        let all = settings.into_iter().chain(self.settings.iter().map(String::as_str));
        let server = program::folder()?.join("postgres");
        let words = [server.display().to_string(), "-D".to_owned()]
            .into_iter()
            .chain([self.folder.join("data").display().to_string()])
            .chain(all.flat_map(|setting| ["-c".to_owned(), setting.to_owned()]));
        Ok(self.owner.run_as(words.collect()))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Service>> {
        self.service.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Kills the server and its processes, and waits until none is left: they share memory, and nobody can
/// start in its place before.
fn end(running: &mut Option<Service>) {
    let Some(service) = running.take() else { return };
    // None may be started meanwhile.
    let _ = service.signal(Signal::STOP);
    let children = child::children(service.pid());
    drop(service);
    for pid in &children {
        let _ = kill_process(*pid, Signal::KILL);
    }
    let ended = || children.iter().all(|pid| child::has_ended(*pid)).then_some(());
    let _ = wait_for("an end of postgres", ended);
}

/// Frees the piece of System V memory by which a server knows others on its folder: one that is killed leaves it, and
/// the kernel has some thousand for the whole machine.
fn free_memory(data: &Path) {
    let Ok(note) = std::fs::read_to_string(data.join("postmaster.pid")) else { return };
    let Some(id) = note.lines().nth(6).and_then(|line| line.split_whitespace().nth(1)) else {
        return;
    };
    // What is left costs others some bytes, and nobody here can tell them.
    let _ = run(&["ipcrm", "-m", id].map(str::to_owned));
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.kill();
        free_memory(&self.folder.join("data"));
        // A folder that cannot be removed harms nobody.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Runs `command` and says what it said when it failed.
fn run(words: &[String]) -> Result<(), String> {
    let failed = |why: String| format!("{}: {why}", words.join(" "));
    let (program, arguments) = words.split_first().ok_or_else(|| failed("nothing".into()))?;
    let output = Command::new(program)
        .args(arguments)
        .current_dir("/")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}
