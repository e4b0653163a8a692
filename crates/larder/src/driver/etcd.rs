//! etcd: one connection to one member at a time, and what its errors mean.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use larder_core::{Clock as _, SystemClock};
use metrics::{Counter, counter};
use prost::Message;
use tokio::time::{timeout, timeout_at};
use tonic::Streaming;

use crate::registry::OpenError;

mod endpoint;
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, reason = "made by a program")]
pub(crate) mod proto;
mod session;
#[cfg(feature = "etcd-tls")]
mod tls;
mod trouble;
mod wire;

pub(crate) use endpoint::Endpoint;
pub(crate) use session::Layout;
pub(crate) use trouble::{About, Trouble};
use wire::Wire;
pub(crate) use wire::{Call, MEMBERS, RANGE, TXN};

/// The way to a cluster: a connection to one of its members, opened when it is needed and kept.
///
/// All calls share it; it is HTTP/2. One on which an answer did not come in time takes no new calls, and the
/// next one leads to the next member. Nothing is ever sent twice.
#[derive(Clone, Debug)]
pub(crate) struct Client(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    way: Way,
    limit: Duration,
    /// Held by who opens a connection.
    opening: tokio::sync::Mutex<()>,
    state: Mutex<State>,
    /// Whether somebody was told that there is no connection, since there was one.
    told: AtomicBool,
    connects: Counter,
}

/// What has to be known to open a connection.
#[derive(Debug)]
pub(crate) struct Way {
    pub(crate) endpoint: Endpoint,
    /// What has to be there, and is made unless it is.
    pub(crate) layout: Layout,
}

#[derive(Debug, Default)]
struct State {
    wire: Option<Wire>,
    /// The member that is tried first next time.
    next: usize,
    /// The last attempt to open one failed then, for this reason.
    failed: Option<(Instant, Trouble)>,
}

/// How long it may take to open a connection to one member, whatever the time limit of calls is.
const OPEN_MAX: Duration = Duration::from_secs(3);
/// After a failed attempt, calls fail at once for so long instead of trying again.
const PAUSE: Duration = Duration::from_millis(100);

impl Client {
    /// The way to a cluster, with `limit` for each call. Nothing is sent before the first call.
    pub(crate) fn new(way: Way, limit: Duration) -> Self {
        Self(Arc::new(Inner {
            way,
            limit,
            opening: tokio::sync::Mutex::default(),
            state: Mutex::default(),
            told: AtomicBool::new(false),
            connects: counter!("larder_etcd_connects_total"),
        }))
    }

    /// Opens a connection, so that what is wrong with the address or the cluster shows now.
    pub(crate) async fn open(&self) -> Result<(), OpenError> {
        match Arc::clone(&self.0).wire().await {
            Ok(_) => Ok(()),
            Err(Trouble::Foreign { place, what }) => Err(OpenError::Newer { place, what }),
            Err(trouble) => Err(OpenError::Unavailable {
                place: self.0.way.endpoint.to_string(),
                source: trouble.in_read("open"),
            }),
        }
    }

    /// What a call meets whose time limit passed while it was on its way.
    pub(crate) fn late(&self) -> Trouble {
        Trouble::Late { place: self.0.way.endpoint.to_string(), limit: self.0.limit }
    }

    /// Sends one request and gives its answer, within the time limit.
    ///
    /// # Cancel safety
    /// A request whose future is dropped may be carried out.
    pub(crate) async fn ask<Q, A>(&self, call: Call<Q, A>, request: Q) -> Result<A, Trouble>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let Inner { way, limit, .. } = &*self.0;
        let deadline = SystemClock.instant() + *limit;
        let late = tokio::time::Instant::from_std(deadline);
        let not_connected =
            || Trouble::NotConnected { place: way.endpoint.to_string(), limit: *limit };
        let wire = timeout_at(late, Arc::clone(&self.0).wire()).await;
        let wire = wire.map_err(|_| not_connected())??;
        let left = deadline.saturating_duration_since(SystemClock.instant());
        let answer = timeout_at(late, wire.ask(call, request, left)).await;
        let answer = answer.unwrap_or_else(|_| Err(self.late()));
        if let Err(trouble) = &answer
            && trouble.leads_elsewhere()
        {
            self.0.leave(&wire);
        }
        answer
    }

    /// Hears of changes of a key; what came before is not told.
    pub(crate) async fn watch(&self, key: Bytes) -> Result<Watch, Trouble> {
        let wire = Arc::clone(&self.0).wire().await?;
        let mut watch = Watch(wire.watch(key).await?);
        // It is there when the server says so.
        watch.heard().await.map(|_| watch)
    }
}

/// News of one key.
pub(crate) struct Watch(Streaming<proto::WatchResponse>);

impl Watch {
    /// Waits for the next message; whether it tells of changes.
    ///
    /// # Errors
    /// The watch has ended, and with it what may be known of changes.
    pub(crate) async fn heard(&mut self) -> Result<bool, Trouble> {
        match self.0.message().await {
            Ok(Some(message)) if !message.canceled => Ok(!message.events.is_empty()),
            _ => Err(Trouble::Odd { what: "the end of a watch" }),
        }
    }
}

impl Inner {
    /// The connection, opened if there is none.
    async fn wire(self: Arc<Self>) -> Result<Wire, Trouble> {
        if let Some(wire) = self.current() {
            return Ok(wire);
        }
        let inner = Arc::clone(&self);
        // In a task of its own, which no caller that gives up takes with it: the connection is then
        // there for the next one.
        let opening = tokio::spawn(async move {
            let _turn = inner.opening.lock().await;
            if let Some(wire) = inner.current() {
                return Ok(wire);
            }
            if let Some((at, trouble)) = &inner.lock().failed
                && SystemClock.instant().saturating_duration_since(*at) < PAUSE
            {
                return Err(trouble.clone());
            }
            inner.connect().await
        });
        let ended = |_| Err(Trouble::unreachable(&self.way.endpoint, &"the runtime ended"));
        opening.await.unwrap_or_else(ended)
    }

    fn current(&self) -> Option<Wire> {
        self.lock().wire.clone().filter(|wire| !wire.has_ended())
    }

    /// Tries one member after the other.
    async fn connect(&self) -> Result<Wire, Trouble> {
        let servers = self.way.endpoint.servers();
        let first = self.lock().next;
        let mut opened = Err(Trouble::unreachable(&self.way.endpoint, &"it names no server"));
        for turn in 0..servers.len() {
            let at = (first + turn) % servers.len();
            opened = self.open(at).await;
            if opened.is_ok() {
                break;
            }
        }
        match &opened {
            Ok(wire) => {
                self.connects.increment(1);
                let mut state = self.lock();
                state.failed = None;
                state.next = wire.server();
                state.wire = Some(wire.clone());
                if self.told.swap(false, Ordering::Relaxed) {
                    let place = &self.way.endpoint;
                    tracing::info!(target: "larder::etcd", "connected to {place} again");
                }
            }
            Err(trouble) => {
                // Once an outage, however many attempts it takes.
                if !self.told.swap(true, Ordering::Relaxed) {
                    tracing::warn!(target: "larder::etcd", "{trouble}");
                }
                self.lock().failed = Some((SystemClock.instant(), trouble.clone()));
            }
        }
        opened
    }

    async fn open(&self, at: usize) -> Result<Wire, Trouble> {
        let opened = timeout(OPEN_MAX, session::open(&self.way, at)).await;
        opened.unwrap_or_else(|_| {
            Err(Trouble::NotConnected { place: self.way.endpoint.to_string(), limit: OPEN_MAX })
        })
    }

    /// Sends nothing new over a connection; the next one leads to the next member.
    fn leave(&self, wire: &Wire) {
        let mut state = self.lock();
        if state.wire.as_ref().is_some_and(|current| current.is(wire)) {
            state.wire = None;
            state.next = wire.server() + 1;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
