//! PostgreSQL: a bounded number of connections, and what its errors mean.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use larder_core::{Clock as _, Retry, SystemClock};
use metrics::{Counter, counter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{timeout, timeout_at};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::registry::OpenError;

mod endpoint;
mod listen;
mod session;
mod standbys;
mod tables;
#[cfg(feature = "postgres-tls")]
mod tls;
mod trouble;
mod warning;

pub(crate) use endpoint::Endpoint;
pub(crate) use listen::Listener;
use session::Wire;
pub(crate) use tables::{Schema, Tables};
pub(crate) use trouble::Trouble;

/// The largest data that an address may allow: well below what the server takes in one statement.
pub(crate) const SERVER_BYTES_MAX: (u64, &str) = (256 << 20, "a size of at most 256MiB");

/// The way to a database: up to so many connections, opened when they are needed and kept.
///
/// Every statement commits by itself. A connection on which an answer is still due when its caller has
/// given up is closed, never used again, so no answer can reach somebody else.
///
/// Own code in place of a pool of others, because of errors: what is known about a statement depends on
/// whether it was handed over, and a pool for drivers tells only the driver's errors.
#[derive(Clone, Debug)]
pub(crate) struct Pool(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    way: Way,
    limit: Duration,
    places: Arc<Semaphore>,
    state: Mutex<State>,
    /// Whether somebody was told that there is no connection, since there was one.
    told: AtomicBool,
    connects: Counter,
    standbys: standbys::Seen,
}

/// What an address may say besides the server: what it says for every contract, and `own`.
pub(crate) fn parameters(own: &[&'static str]) -> Vec<&'static str> {
    let tls =
        ["sslmode", "ca (with sslmode=verify-full)", "sslcert (the same)", "sslkey (the same)"];
    [&["schema", "timeout", "connections"], own, &tls].concat()
}

/// What a server did to keep a commit, by its settings when the statement ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Care {
    /// It did not even wait for its disk.
    None,
    /// It is on the server's disk.
    Disk,
    /// It is on the disks of standbys, too.
    Standbys,
}

/// What has to be known to open a connection.
#[derive(Debug)]
pub(crate) struct Way {
    pub(crate) endpoint: Endpoint,
    /// What is made there unless it is, if anything.
    pub(crate) tables: Option<Tables>,
    /// Settings of the session besides those that all have.
    pub(crate) settings: &'static str,
    /// Whether the server has to keep what it acknowledged when its machine loses power.
    pub(crate) durable: bool,
}

#[derive(Debug, Default)]
struct State {
    /// Connections that nobody uses, the one used last at the end.
    idle: Vec<Wire>,
    /// The last attempt to open one failed then, for this reason.
    failed: Option<(Instant, Trouble)>,
}

/// A connection for one caller; it goes back to the others unless an answer is still due.
#[derive(Debug)]
struct Lease {
    wire: Option<Wire>,
    pool: Arc<Inner>,
    /// Given back last.
    _place: OwnedSemaphorePermit,
}

/// How long it may take to open a connection, whatever the time limit of calls is.
const OPEN_MAX: Duration = Duration::from_secs(5);
/// After a failed attempt, calls fail at once for so long instead of trying again.
const PAUSE: Duration = Duration::from_millis(100);

impl Pool {
    /// The way to a database, with `limit` for each call. Nothing is sent before the first call.
    pub(crate) fn new(way: Way, limit: Duration, connections: usize) -> Self {
        Self(Arc::new(Inner {
            way,
            limit,
            places: Arc::new(Semaphore::new(connections)),
            state: Mutex::default(),
            told: AtomicBool::new(false),
            connects: counter!("larder_postgres_connects_total"),
            standbys: standbys::Seen::default(),
        }))
    }

    /// Opens a connection, so that what is wrong with the address or the server shows now.
    pub(crate) async fn open(&self) -> Result<(), OpenError> {
        let place = || self.0.way.endpoint.to_string();
        match Arc::clone(&self.0).lease().await {
            Ok(_) => Ok(()),
            Err(Trouble::Foreign { place, what }) => Err(OpenError::Newer { place, what }),
            Err(trouble) => {
                Err(OpenError::Unavailable { place: place(), source: trouble.in_read("open") })
            }
        }
    }

    /// Whether the server waits for standbys, by the last that was heard of it.
    pub(crate) fn waits_for_standbys(&self) -> bool {
        self.0.standbys.are_waited_for()
    }

    /// Takes note of how a commit was kept: an operator may have changed the settings since the server was looked at.
    ///
    /// # Errors
    /// It may be lost. The next connection is refused, and there is no other one.
    pub(crate) fn heed(&self, care: Care) -> Result<(), Trouble> {
        let endpoint = &self.0.way.endpoint;
        if care == Care::None {
            // Dropped without the lock.
            let idle = std::mem::take(&mut self.0.lock().idle);
            drop(idle);
            let why = "it runs with fsync=off by now, so that a loss of power undoes it";
            return Err(Trouble::Doubtful { place: endpoint.to_string(), why });
        }
        self.0.standbys.commit(endpoint, care == Care::Standbys);
        Ok(())
    }

    /// What a call meets whose time limit passed while it was on its way.
    pub(crate) fn late(&self) -> Trouble {
        Trouble::Late { place: self.0.way.endpoint.to_string(), limit: self.0.limit }
    }

    /// Runs one statement, which commits by itself, and gives its rows, within the time limit.
    ///
    /// # Cancel safety
    /// A statement whose future is dropped may be carried out.
    pub(crate) async fn query(
        &self,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Trouble> {
        let Inner { way, limit, .. } = &*self.0;
        let place = || way.endpoint.to_string();
        let deadline = tokio::time::Instant::from_std(SystemClock.instant() + *limit);
        let not_connected = |_| Trouble::NotConnected { place: place(), limit: *limit };
        let lease = timeout_at(deadline, Arc::clone(&self.0).lease());
        let mut lease = lease.await.map_err(not_connected)??;
        let wire = lease.take()?;
        let prepared = timeout_at(deadline, wire.statement(sql)).await;
        let statement = match prepared.map_err(not_connected)? {
            Ok(statement) => statement,
            Err(error) => return Err(lease.judge(wire, Trouble::of(&way.endpoint, &error, false))),
        };
        wire.warning().forget();
        match timeout_at(deadline, wire.client().query(&statement, parameters)).await {
            Ok(Ok(rows)) => {
                let doubt = wire.warning().doubt().filter(|_| way.durable);
                lease.wire = Some(wire);
                match doubt {
                    None => Ok(rows),
                    Some(why) => Err(Trouble::Doubtful { place: place(), why }),
                }
            }
            Ok(Err(error)) => Err(lease.judge(wire, Trouble::of(&way.endpoint, &error, true))),
            Err(_) => Err(self.late()),
        }
    }
}

/// Removes a schema with everything that is in it.
pub(crate) async fn drop_schema(endpoint: &Endpoint, schema: &Schema) -> Result<(), OpenError> {
    let dropped = timeout(OPEN_MAX, async {
        let wire = Wire::connect_with(endpoint, |_| true).await?;
        let drop = format!("DROP SCHEMA IF EXISTS {schema} CASCADE");
        let dropped = wire.client().batch_execute(&drop).await;
        dropped.map_err(|error| Trouble::of(endpoint, &error, true))
    });
    let place = || endpoint.to_string();
    let late = |_| Err(Trouble::Late { place: place(), limit: OPEN_MAX });
    dropped.await.unwrap_or_else(late).map_err(|trouble| OpenError::Unavailable {
        place: place(),
        source: trouble.in_write("drop the schema"),
    })
}

impl Inner {
    /// A connection that nobody else uses: one that is idle, or a new one.
    async fn lease(self: Arc<Self>) -> Result<Lease, Trouble> {
        let waiting = Arc::clone(&self.places).acquire_owned();
        let place = waiting.await.map_err(|_| self.runtime_ended())?;
        loop {
            let Some(wire) = self.lock().idle.pop() else { break };
            // One that ended while it was idle is nobody's loss.
            if !wire.has_ended() {
                return Ok(Lease { wire: Some(wire), pool: self, _place: place });
            }
        }
        if let Some((at, trouble)) = &self.lock().failed
            && SystemClock.instant().saturating_duration_since(*at) < PAUSE
        {
            return Err(trouble.clone());
        }
        let inner = Arc::clone(&self);
        // In a task of its own, which no caller that gives up takes with it: the connection is then
        // there for the next one.
        let opening = tokio::spawn(async move {
            let wire = inner.connect().await?;
            Ok(Lease { wire: Some(wire), pool: inner, _place: place })
        });
        opening.await.unwrap_or_else(|_| Err(self.runtime_ended()))
    }

    async fn connect(&self) -> Result<Wire, Trouble> {
        let endpoint = &self.way.endpoint;
        let late = |_| Err(Trouble::NotConnected { place: endpoint.to_string(), limit: OPEN_MAX });
        let opened = timeout(OPEN_MAX, Wire::open(&self.way, self.limit)).await;
        let opened = opened.unwrap_or_else(late);
        match &opened {
            Ok(wire) => {
                self.connects.increment(1);
                if self.way.durable {
                    self.standbys.look(endpoint, wire.standbys());
                }
                self.lock().failed = None;
                if self.told.swap(false, Ordering::Relaxed) {
                    tracing::info!(target: "larder::postgres", "connected to {endpoint} again");
                }
            }
            Err(trouble) => {
                // Once an outage, however many attempts it takes.
                if !self.told.swap(true, Ordering::Relaxed) {
                    tracing::warn!(target: "larder::postgres", "{trouble}");
                }
                self.lock().failed = Some((SystemClock.instant(), trouble.clone()));
            }
        }
        opened
    }

    fn runtime_ended(&self) -> Trouble {
        Trouble::unreachable(&self.way.endpoint, &"the runtime ended")
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    /// Takes the connection out for an exchange; it is lost unless it is put back.
    fn take(&mut self) -> Result<Wire, Trouble> {
        self.wire.take().ok_or(Trouble::Odd { what: "no connection" })
    }

    /// Puts the connection back after an error, if it is still good.
    fn judge(&mut self, wire: Wire, trouble: Trouble) -> Trouble {
        let is_answer = matches!(trouble, Trouble::Refused { .. });
        if is_answer && !trouble.leads_elsewhere() {
            self.wire = Some(wire);
        }
        trouble
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(wire) = self.wire.take() {
            self.pool.lock().idle.push(wire);
        }
    }
}

/// What an address may say about the way, and how much of it there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// For a call, connecting and waiting included.
    pub(crate) timeout: Duration,
    /// How many connections there may be at once.
    pub(crate) connections: usize,
}

impl Limits {
    const CONNECTIONS_MAX: u64 = 1_000;

    /// Takes `timeout` and `connections` out of an address.
    pub(crate) fn take(
        address: &mut crate::address::Address,
        otherwise: Self,
    ) -> Result<Self, crate::address::AddressError> {
        let bad = |name: &str, value: String, expected| crate::address::AddressError::BadValue {
            name: name.into(),
            value,
            expected,
        };
        let timeout = address.take_timeout(otherwise.timeout)?;
        let connections = address.take_count("connections")?;
        let connections = match connections {
            None => otherwise.connections,
            Some(count) if count <= Self::CONNECTIONS_MAX => {
                usize::try_from(count).unwrap_or(otherwise.connections)
            }
            Some(count) => return Err(bad("connections", count.to_string(), "at most 1000")),
        };
        Ok(Self { timeout, connections })
    }
}
