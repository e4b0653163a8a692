//! Redis: one connection that is opened again when it ends, and what its errors mean.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use larder_core::{Clock as _, SystemClock};
use metrics::{Counter, counter};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, Pipeline, RedisConnectionInfo, RedisResult, Value};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{timeout, timeout_at};

use crate::registry::OpenError;

mod endpoint;
mod gather;
mod listen;
mod place;
mod settings;
#[cfg(feature = "redis-tls")]
mod tls;
mod trouble;

pub(crate) use endpoint::Endpoint;
pub(crate) use place::{Place, write_argument};
pub(crate) use settings::Settings;
pub(crate) use trouble::Trouble;

/// One connection to a server, shared by all calls; the way there, when there is none.
///
/// Calls are sent in the order in which they are made, without waiting for one another's answers.
/// A call that was given up leaves the connection as it is: what was sent on it before stays before
/// what is sent later. Only a connection that has been silent for [`SILENT_CALLS`] time limits is
/// given up itself.
///
/// Own code in place of the driver's connection manager, because of errors: that one cannot say
/// whether a command was sent, which decides between `NotApplied` and `Unknown`.
#[derive(Clone, Debug)]
pub(crate) struct Link(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    endpoint: Endpoint,
    limit: Duration,
    state: Mutex<State>,
    born: Instant,
    /// Whether somebody was told that there is no connection, since there was one.
    told: AtomicBool,
    connects: Counter,
    gather: gather::Gather,
}

/// Bytes to and from a server, over TLS or not.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}

enum State {
    /// There is no connection. The last attempt failed then, for this reason.
    Closed(Option<(Instant, Trouble)>),
    /// Somebody opens one; everybody may wait for it.
    Opening(Shared<BoxFuture<'static, Result<Wire, Trouble>>>),
    Open(Wire),
}

/// A connection.
#[derive(Clone, Debug)]
struct Wire(Arc<WireState>);

#[derive(Debug)]
struct WireState {
    connection: MultiplexedConnection,
    /// What moves the bytes; it ends when the connection does.
    driver: tokio::task::AbortHandle,
    opened: Instant,
    /// When the first call began that was given up without any answer since then, in nanoseconds
    /// since the link was made; zero when there is none.
    silent_since: AtomicU64,
}

/// How long it may take to open a connection, whatever the time limit of calls is.
const OPEN_MAX: Duration = Duration::from_secs(3);
/// After a failed attempt, calls fail at once for so long instead of trying again.
const PAUSE: Duration = Duration::from_millis(100);
/// A connection without any answer for so many time limits, while calls wait for one, is given up.
const SILENT_CALLS: u32 = 3;
/// A connection to a server that refuses writes is given up, but not more often than this.
const ELSEWHERE_EVERY: Duration = Duration::from_secs(1);

impl Link {
    /// The way to `endpoint`, with `limit` for each call. Nothing is sent before the first call.
    pub(crate) fn new(endpoint: Endpoint, limit: Duration) -> Self {
        Self(Arc::new(Inner {
            endpoint,
            limit,
            state: Mutex::new(State::Closed(None)),
            born: SystemClock.instant(),
            told: AtomicBool::new(false),
            connects: counter!("larder_redis_connects_total"),
            gather: gather::Gather::default(),
        }))
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.0.endpoint
    }

    /// Opens the connection, so that what is wrong with the address shows now.
    pub(crate) async fn open(&self) -> Result<(), OpenError> {
        match self.0.wire().await {
            Ok(_) => Ok(()),
            Err(trouble) => Err(OpenError::Unavailable {
                place: self.0.endpoint.to_string(),
                source: trouble.in_read("open"),
            }),
        }
    }

    /// Sends a command and gives its answer, within the time limit.
    ///
    /// # Cancel safety
    /// A command whose future is dropped may be carried out.
    pub(crate) async fn call(&self, command: &Cmd) -> Result<Value, Trouble> {
        let answer = self
            .0
            .exchange(async |mut connection| connection.send_packed_command(command).await)
            .await?;
        self.0.judge(answer)
    }

    /// Sends commands in one go and gives the answer to each, within the time limit of one call.
    ///
    /// # Cancel safety
    /// As [`Link::call`], for each command.
    pub(crate) async fn call_many(
        &self,
        commands: impl IntoIterator<Item = Cmd>,
    ) -> Result<Vec<Result<Value, Trouble>>, Trouble> {
        let mut pipeline = Pipeline::new();
        for command in commands {
            pipeline.add_command(command);
        }
        let count = pipeline.len();
        let answers = self
            .0
            .exchange(async |mut connection| {
                connection.send_packed_commands(&pipeline, 0, count).await
            })
            .await?;
        if answers.len() != count {
            return Err(Trouble::Odd { what: "not as many answers as commands" });
        }
        Ok(answers.into_iter().map(|answer| self.0.judge(answer)).collect())
    }
}

impl Inner {
    /// Gets a connection, lets `send` send and await on it, and learns from how that ended.
    async fn exchange<T>(
        self: &Arc<Self>,
        send: impl AsyncFnOnce(MultiplexedConnection) -> RedisResult<T>,
    ) -> Result<T, Trouble> {
        let began = SystemClock.instant();
        let deadline = tokio::time::Instant::from_std(began + self.limit);
        let wire = match self.open_wire() {
            Some(wire) => wire,
            None => timeout_at(deadline, self.wire()).await.map_err(|_| self.not_connected())??,
        };
        match timeout_at(deadline, send(wire.0.connection.clone())).await {
            Ok(Ok(answer)) => {
                wire.0.silent_since.store(0, Ordering::Relaxed);
                Ok(answer)
            }
            Ok(Err(error)) => {
                self.give_up(&wire);
                Err(Trouble::lost(&self.endpoint, &error))
            }
            Err(_) => {
                if self.is_silent(&wire, began) {
                    self.give_up(&wire);
                }
                Err(self.late())
            }
        }
    }

    fn late(&self) -> Trouble {
        Trouble::Late { place: self.endpoint.to_string(), limit: self.limit }
    }

    /// Tells an answer from an error of the server.
    fn judge(&self, answer: Value) -> Result<Value, Trouble> {
        let Value::ServerError(error) = answer else { return Ok(answer) };
        let trouble = Trouble::refused(&error);
        if trouble.leads_elsewhere() {
            let wire = self.open_wire();
            let is_old = |wire: &Wire| {
                let age = SystemClock.instant().saturating_duration_since(wire.0.opened);
                age >= ELSEWHERE_EVERY
            };
            if let Some(wire) = wire.filter(is_old) {
                self.give_up(&wire);
            }
        }
        Err(trouble)
    }

    /// The connection, if there is one that has not ended.
    fn open_wire(&self) -> Option<Wire> {
        match &*self.lock() {
            State::Open(wire) if !wire.has_ended() => Some(wire.clone()),
            _ => None,
        }
    }

    /// The connection, opened if there is none: once for all who ask meanwhile.
    async fn wire(self: &Arc<Self>) -> Result<Wire, Trouble> {
        let opening = {
            let mut state = self.lock();
            match &*state {
                State::Open(wire) if !wire.has_ended() => return Ok(wire.clone()),
                // One that ended without telling went down with its runtime.
                State::Opening(opening) if opening.peek().is_none() => opening.clone(),
                State::Closed(Some((at, trouble)))
                    if SystemClock.instant().saturating_duration_since(*at) < PAUSE =>
                {
                    return Err(trouble.clone());
                }
                _ => {
                    let opening = Arc::clone(self).begin_to_open();
                    *state = State::Opening(opening.clone());
                    opening
                }
            }
        };
        opening.await
    }

    /// Opens a connection in a task of its own, which no caller that gives up takes with it.
    fn begin_to_open(self: Arc<Self>) -> Shared<BoxFuture<'static, Result<Wire, Trouble>>> {
        let place = self.endpoint.to_string();
        let task = tokio::spawn(async move {
            let opened = match timeout(OPEN_MAX, self.connect()).await {
                Ok(opened) => opened,
                Err(_) => {
                    Err(Trouble::NotConnected { place: self.endpoint.to_string(), limit: OPEN_MAX })
                }
            };
            *self.lock() = match &opened {
                Ok(wire) => State::Open(wire.clone()),
                Err(trouble) => {
                    // Once an outage, however many attempts it takes.
                    if !self.told.swap(true, Ordering::Relaxed) {
                        tracing::warn!(target: "larder::redis", "{trouble}");
                    }
                    State::Closed(Some((SystemClock.instant(), trouble.clone())))
                }
            };
            opened
        });
        let ended = move |_| {
            let why = String::from("the runtime ended");
            Err(Trouble::Unreachable { place, why })
        };
        task.map(|joined| joined.unwrap_or_else(ended)).boxed().shared()
    }

    async fn connect(&self) -> Result<Wire, Trouble> {
        self.greet(self.dial().await?).await
    }

    /// A way to the server, over TLS if that is asked for.
    async fn dial(&self) -> Result<Box<dyn Stream>, Trouble> {
        let Endpoint { host, port, .. } = &self.endpoint;
        let unreachable = |error| Trouble::unreachable(&self.endpoint, &error);
        let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(unreachable)?;
        // A command must not wait for the answer to the one before.
        stream.set_nodelay(true).map_err(unreachable)?;
        #[cfg(feature = "redis-tls")]
        if let Some(trust) = &self.endpoint.tls {
            return Ok(Box::new(tls::connect(&self.endpoint, trust, stream).await?));
        }
        Ok(Box::new(stream))
    }

    /// Makes a connection of a stream, and introduces us there.
    async fn greet(&self, stream: Box<dyn Stream>) -> Result<Wire, Trouble> {
        let lost = |error| Trouble::lost(&self.endpoint, &error);
        // The introduction is made below, so that its errors are classified as all others are.
        let settings = RedisConnectionInfo::default().set_skip_set_lib_name();
        // Time limits are those of the calls.
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let made = MultiplexedConnection::new_with_config(&settings, stream, config).await;
        let (connection, driver) = made.map_err(lost)?;
        let wire = Wire(Arc::new(WireState {
            driver: tokio::spawn(driver).abort_handle(),
            opened: SystemClock.instant(),
            silent_since: AtomicU64::new(0),
            connection,
        }));
        let introduction = self.introduction();
        let mut connection = wire.0.connection.clone();
        let answers = connection.send_packed_commands(&introduction, 0, introduction.len()).await;
        for answer in answers.map_err(lost)? {
            if let Value::ServerError(error) = answer {
                return Err(Trouble::refused(&error));
            }
        }
        self.connects.increment(1);
        self.told.store(false, Ordering::Relaxed);
        tracing::info!(target: "larder::redis", "connected to {}", self.endpoint);
        Ok(wire)
    }

    /// Who we are, which database we want, and whether the server takes commands at all.
    fn introduction(&self) -> Pipeline {
        let Endpoint { user, password, db, .. } = &self.endpoint;
        let mut commands = Pipeline::new();
        if let Some(password) = password {
            let login = commands.cmd("AUTH");
            if let Some(user) = user {
                login.arg(user);
            }
            login.arg(password);
        }
        if *db != 0 {
            commands.cmd("SELECT").arg(*db);
        }
        commands.cmd("PING");
        commands
    }

    /// Whether calls have waited in vain for so long that the other end may be gone; `began` is when
    /// the one began that was given up just now.
    fn is_silent(&self, wire: &Wire, began: Instant) -> bool {
        let began = self.nanos(began).max(1);
        let first =
            wire.0.silent_since.compare_exchange(0, began, Ordering::Relaxed, Ordering::Relaxed);
        let since = first.err().unwrap_or(began);
        let silence = self.nanos(SystemClock.instant()).saturating_sub(since);
        Duration::from_nanos(silence) >= self.limit * SILENT_CALLS
    }

    /// Lets go of `wire` if it still is the one in use.
    fn give_up(&self, wire: &Wire) {
        let mut state = self.lock();
        if matches!(&*state, State::Open(open) if Arc::ptr_eq(&open.0, &wire.0)) {
            tracing::warn!(target: "larder::redis", "the connection to {} was given up", self.endpoint);
            *state = State::Closed(None);
        }
    }

    fn not_connected(&self) -> Trouble {
        Trouble::NotConnected { place: self.endpoint.to_string(), limit: self.limit }
    }

    fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.born).as_nanos()).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wire {
    fn has_ended(&self) -> bool {
        self.0.driver.is_finished()
    }
}

impl Drop for WireState {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Closed(_) => "Closed",
            Self::Opening(_) => "Opening",
            Self::Open(_) => "Open",
        })
    }
}
