//! A private S3 endpoint.

use std::net::{Ipv4Addr, SocketAddr, TcpListener as Listener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use larder_core::clock::random_u64;
use tokio::sync::oneshot;

mod adapter;
mod fault;
mod objects;
mod process;
mod wire;

use adapter::Adapter;
use fault::Faults;
pub use fault::{S3Fault, S3Quirk, S3Refusal};
use objects::Objects;
pub use process::{S3Process, serve_s3_if_asked};

/// An S3 endpoint of this process, on the loopback interface, with one bucket in a temporary folder.
///
/// A conditional PUT is atomic there, as in S3: of all that name the same ETag, one is carried out. The ETag is
/// that of S3, the MD5 of the content. Signatures are checked. What it acknowledged survives
/// [`S3Server::kill`], not the machine.
///
/// It fails on demand: see [`S3Fault`] for single requests and [`S3Quirk`] for stores that do not do what S3
/// does.
///
/// ```no_run
/// use larder_testkit::service::{S3Fault, S3Server};
///
/// let server = S3Server::start()?;
/// let uri = server.uri("prefix");
/// // The next PUT is carried out, and nobody is told.
/// server.next_put(S3Fault::ReplyLost);
/// # Ok::<_, String>(())
/// ```
#[derive(Debug)]
pub struct S3Server {
    folder: PathBuf,
    address: SocketAddr,
    faults: Arc<Faults>,
    running: Mutex<Option<Running>>,
}

/// The thread that serves, and how to end it.
#[derive(Debug)]
struct Running {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
    objects: Arc<Objects>,
}

/// The one bucket.
const BUCKET: &str = "shelf";
/// Who may come, and with which secret: one with what secrets of S3 may have.
const ACCESS_KEY: &str = "larder";
const SECRET_KEY: &str = "hush/with+odd=signs";

impl S3Server {
    /// An endpoint with an empty bucket.
    ///
    /// # Errors
    /// A sentence that says why not.
    pub fn start() -> Result<Self, String> {
        let name = format!("larder-s3-{}-{:016x}", std::process::id(), random_u64());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder)
            .map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
        let listener = listen(0)?;
        let address = listener.local_addr().map_err(|error| format!("no free port: {error}"))?;
        let server = Self { folder, address, faults: Arc::default(), running: Mutex::new(None) };
        server.serve(listener)?;
        Ok(server)
    }

    /// The address of a store below `prefix`, with the credentials in it.
    pub fn uri(&self, prefix: &str) -> String {
        uri(self.address.port(), prefix)
    }

    /// The same without credentials.
    pub fn uri_without_login(&self, prefix: &str) -> String {
        format!("s3://{BUCKET}/{prefix}?endpoint=http://{}", self.address)
    }

    /// The port it listens on.
    pub const fn port(&self) -> u16 {
        self.address.port()
    }

    /// Ends it as a crash does: requests that are under way are cut off, carried out or not.
    pub fn kill(&self) {
        let Some(Running { stop, thread, .. }) = self.lock().take() else { return };
        // It may have ended by itself.
        let _ = stop.send(());
        let _ = thread.join();
    }

    /// Starts it again on the same port with what it holds, whatever it was doing before.
    ///
    /// # Errors
    /// A sentence that says why not.
    pub fn restart(&self) -> Result<(), String> {
        self.kill();
        self.serve(listen(self.port())?)
    }

    /// What happens to the next PUT that nothing else was said about.
    pub fn next_put(&self, fault: S3Fault) {
        self.faults.next_put(fault);
    }

    /// What happens to the next GET or LIST that nothing else was said about.
    pub fn next_get(&self, fault: S3Fault) {
        self.faults.next_get(fault);
    }

    /// From now on so many percent of all requests fail, in every way that there is, until
    /// [`S3Server::calm`].
    pub fn disturb(&self, percent: u8, seed: u64) {
        self.faults.disturb(percent, seed);
    }

    /// From now on requests are carried out again, those that hang included.
    pub fn calm(&self) {
        self.faults.calm();
    }

    /// Makes it a store that does not do what S3 does; `None` makes it S3 again.
    pub fn behave_as(&self, quirk: Option<S3Quirk>) {
        self.faults.behave_as(quirk);
    }

    /// How many requests failed on purpose so far.
    pub fn failed(&self) -> u64 {
        self.faults.count()
    }

    /// How many PUTs were carried out so far, and answered or not.
    pub fn puts(&self) -> u64 {
        self.lock().as_ref().map_or(0, |running| running.objects.puts())
    }

    /// Carries out all requests that came with [`S3Fault::Late`], and gives the status of each.
    pub async fn let_late_ones_come(&self) -> Vec<u16> {
        let mut statuses = Vec::new();
        for late in self.faults.late() {
            if let Ok(status) = late.come().await {
                statuses.push(status);
            }
        }
        statuses
    }

    /// The names of all objects, in order.
    pub fn names(&self) -> Vec<String> {
        self.lock().as_ref().map_or_else(Vec::new, |running| running.objects.names())
    }

    /// The bytes of an object.
    pub fn object(&self, name: &str) -> Option<Vec<u8>> {
        let found = self.lock().as_ref()?.objects.get(name)?;
        Some(found.bytes.to_vec())
    }

    /// Puts bytes in place of an object, as somebody else would.
    ///
    /// # Errors
    /// A sentence that says why not.
    pub fn overwrite(&self, name: &str, bytes: &[u8]) -> Result<(), String> {
        let running = self.lock();
        let objects = &running.as_ref().ok_or("the endpoint is not running")?.objects;
        objects.overwrite(name, bytes.to_vec().into()).map(drop).map_err(|error| error.to_string())
    }

    /// Takes an object away, as somebody else would; one that is not there is no error.
    ///
    /// # Errors
    /// A sentence that says why not.
    pub fn remove(&self, name: &str) -> Result<(), String> {
        let running = self.lock();
        let objects = &running.as_ref().ok_or("the endpoint is not running")?.objects;
        objects.delete(name).map_err(|error| error.to_string())
    }

    fn serve(&self, listener: Listener) -> Result<(), String> {
        let failed = |error: std::io::Error| format!("cannot serve: {error}");
        let objects = Arc::new(Objects::open(&self.folder).map_err(failed)?);
        let adapter = Adapter::new(Arc::clone(&objects), Arc::clone(&self.faults));
        let (service, faults) = (adapter.service(), Arc::clone(&self.faults));
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().map_err(failed)?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            // When it is told to stop, all that is under way is dropped with the runtime.
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    () = wire::serve(listener, service, faults) => {}
                }
            });
        });
        *self.lock() = Some(Running { stop, thread, objects });
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.kill();
        // A folder that cannot be removed harms nobody.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn uri(port: u16, prefix: &str) -> String {
    format!("s3://{ACCESS_KEY}:{SECRET_KEY}@{BUCKET}/{prefix}?endpoint=http://127.0.0.1:{port}")
}

fn listen(port: u16) -> Result<Listener, String> {
    let failed = |error: std::io::Error| format!("cannot listen on port {port}: {error}");
    let listener = Listener::bind((Ipv4Addr::LOCALHOST, port)).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}
