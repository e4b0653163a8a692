//! One connection: how it is opened, and what a server has to be like.

use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_postgres::config::SslMode;
#[cfg(feature = "postgres-tls")]
use tokio_postgres::config::SslNegotiation;
use tokio_postgres::{
    AsyncMessage, Client, Config, Connection, NoTls, SimpleQueryMessage, Statement,
};

use super::standbys::Standbys;
#[cfg(feature = "postgres-tls")]
use super::tls;
use super::warning::Warning;
use super::{Endpoint, Retry, Trouble, Way};
#[cfg(feature = "postgres-tls")]
use crate::driver::trust::Trust;

/// A connection to a server that was found fit.
pub(super) struct Wire {
    client: Client,
    /// What moves the bytes; it ends when the connection does.
    driver: tokio::task::AbortHandle,
    /// What was prepared on it, by its text.
    statements: Mutex<HashMap<String, Statement>>,
    warning: Warning,
    /// When it was opened.
    standbys: Standbys,
}

/// The oldest release that is used: its planner, its waits and its messages are what the tests know.
const RELEASE_MIN: u32 = 14;

impl Wire {
    /// Connects, introduces us, and looks whether the server is fit to keep anything.
    pub(super) async fn open(way: &Way, limit: Duration) -> Result<Self, Trouble> {
        let mut wire = Self::connect_with(&way.endpoint, |_| true).await?;
        let set = wire.client.batch_execute(&settings(way, limit)).await;
        set.map_err(|error| Trouble::of(&way.endpoint, &error, false))?;
        wire.standbys = wire.examine(way).await?;
        if let Some(tables) = &way.tables {
            tables.enter(&wire.client, &way.endpoint).await?;
        }
        Ok(wire)
    }

    /// Connects and introduces us; `heard` gets what the server says unasked, until it answers `false`.
    pub(super) async fn connect_with(
        endpoint: &Endpoint,
        heard: impl FnMut(AsyncMessage) -> bool + Send + 'static,
    ) -> Result<Self, Trouble> {
        let unreachable = |error| Trouble::unreachable(endpoint, &error);
        let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await;
        let stream = stream.map_err(unreachable)?;
        // A statement must not wait for the answer to the one before.
        stream.set_nodelay(true).map_err(unreachable)?;
        let mut config = Config::new();
        config.user(&endpoint.user).dbname(&endpoint.database).application_name("larder");
        // Without one, whoever wants one says in its own words that it is wrong.
        config.password(endpoint.password.as_deref().unwrap_or_default());
        #[cfg(feature = "postgres-tls")]
        if let Some(trust) = &endpoint.tls {
            return Self::secured(endpoint, trust, stream, config, heard).await;
        }
        config.ssl_mode(SslMode::Disable);
        let connected = config.connect_raw(stream, NoTls).await;
        let (client, connection) =
            connected.map_err(|error| Trouble::of(endpoint, &error, false))?;
        Ok(Self::driven(client, connection, heard))
    }

    /// Goes on over TLS before anything is said about us.
    #[cfg(feature = "postgres-tls")]
    async fn secured(
        endpoint: &Endpoint,
        trust: &Trust,
        mut stream: TcpStream,
        mut config: Config,
        heard: impl FnMut(AsyncMessage) -> bool + Send + 'static,
    ) -> Result<Self, Trouble> {
        let handshake = tls::ask(endpoint, trust, &mut stream).await?;
        // It was asked for already.
        config.ssl_mode(SslMode::Require).ssl_negotiation(SslNegotiation::Direct);
        let connected = config.connect_raw(stream, handshake).await;
        let (client, connection) = connected.map_err(|error| {
            tls::judge(endpoint, &error).unwrap_or_else(|| Trouble::of(endpoint, &error, false))
        })?;
        Ok(Self::driven(client, connection, heard))
    }

    /// The connection, with a task that moves its bytes.
    fn driven<T>(
        client: Client,
        mut connection: Connection<TcpStream, T>,
        mut heard: impl FnMut(AsyncMessage) -> bool + Send + 'static,
    ) -> Self
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let warning = Warning::default();
        let warned = warning.clone();
        let driver = tokio::spawn(async move {
            let mut said = async || poll_fn(|context| connection.poll_message(context)).await;
            // How it ended is told to those who wait for answers on it.
            while let Some(Ok(message)) = said().await {
                // Before the rest of the answer that it stands in front of goes on to its caller.
                warned.hear(&message);
                if !heard(message) {
                    return;
                }
            }
        });
        Self {
            client,
            driver: driver.abort_handle(),
            statements: Mutex::default(),
            warning,
            standbys: Standbys::None,
        }
    }

    /// Looks whether this is a server that may be trusted with what is to be kept, and what it does about standbys.
    async fn examine(&self, way: &Way) -> Result<Standbys, Trouble> {
        let unfit =
            |what, retry| Err(Trouble::Unfit { place: way.endpoint.to_string(), what, retry });
        let early = |error| Trouble::of(&way.endpoint, &error, false);
        let facts = first_row(&self.client, FACTS).await.map_err(early)?;
        let fact = |at: usize| facts.get(at).and_then(Option::as_deref).unwrap_or_default();
        let release: u32 = fact(0).parse().unwrap_or_default();
        if release / 10_000 < RELEASE_MIN {
            return unfit("its release is older than PostgreSQL 14", Retry::Never);
        }
        if fact(1) != "f" {
            return unfit("it is a standby: give the address of the primary", Retry::Later);
        }
        if fact(2) != "read committed" {
            return unfit("it does not let a session have READ COMMITTED", Retry::Never);
        }
        if fact(3) != "UTF8" {
            return unfit(
                "its database is not in UTF8: make one WITH ENCODING 'UTF8'",
                Retry::Never,
            );
        }
        if way.durable && fact(4) != "on" {
            return unfit(
                "it runs with fsync=off, so that a loss of power undoes what was acknowledged",
                Retry::Never,
            );
        }
        Ok(match (fact(5), fact(6)) {
            ("t", _) => Standbys::WaitedFor,
            (_, "t") => Standbys::LeftBehind,
            _ => Standbys::None,
        })
    }

    pub(super) const fn client(&self) -> &Client {
        &self.client
    }

    /// What the server did about standbys when this was opened.
    pub(super) const fn standbys(&self) -> Standbys {
        self.standbys
    }

    /// What the server warns of on this connection.
    pub(super) const fn warning(&self) -> &Warning {
        &self.warning
    }

    pub(super) fn has_ended(&self) -> bool {
        self.client.is_closed()
    }

    /// The statement with this text, prepared if it was not yet.
    pub(super) async fn statement(&self, sql: &str) -> Result<Statement, tokio_postgres::Error> {
        let known = |wire: &Self| wire.lock().get(sql).cloned();
        if let Some(statement) = known(self) {
            return Ok(statement);
        }
        let statement = self.client.prepare(sql).await?;
        self.lock().insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Statement>> {
        self.statements.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What [`Wire::examine`] asks for.
const FACTS: &str = "\
SELECT current_setting('server_version_num'), pg_is_in_recovery(), \
       current_setting('transaction_isolation'), current_setting('server_encoding'), \
       current_setting('fsync'), current_setting('synchronous_standby_names') <> '', \
       EXISTS (SELECT FROM pg_stat_replication)";

/// The settings of the session: those of all, then those of the contract.
///
/// All statements look up rows by key, whatever statistics say about a table that was empty a moment
/// ago; and the server gives up a little before the caller does, so that it can say that it did.
fn settings(way: &Way, limit: Duration) -> String {
    let limit = (limit.as_millis() * 7 / 8).max(1);
    format!(
        "SET statement_timeout = {limit}; SET lock_timeout = {limit}; \
         SET idle_in_transaction_session_timeout = {limit}; \
         SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE; \
         SET client_min_messages = warning; SET jit = off; \
         SET plan_cache_mode = force_generic_plan; \
         SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; \
         {}",
        way.settings
    )
}

/// The first row of a query without parameters, as text.
pub(super) async fn first_row(
    client: &Client,
    sql: &str,
) -> Result<Vec<Option<String>>, tokio_postgres::Error> {
    for message in client.simple_query(sql).await? {
        if let SimpleQueryMessage::Row(row) = message {
            return Ok((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect());
        }
    }
    Ok(Vec::new())
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").finish_non_exhaustive()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
