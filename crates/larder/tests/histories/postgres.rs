//! A PostgreSQL server behind a way that is cut, held up and slowed down.

use std::sync::Arc;
#[cfg(feature = "postgres-tls")]
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use larder::SharedConsensus;
use larder::consensus::PostgresConsensus;
use larder_testkit::service::{Authority, PostgresServer};
use larder_testkit::{Proxy, Random};
use tokio::time::sleep;

use crate::outage::until_some_were_resolved;
use crate::{Engine, Test, runs, stores, way};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("postgres::broken_connections_leave_one_order", || Box::pin(broken_connections())),
    ("postgres::restarts_leave_one_order", || Box::pin(restarts())),
    ("postgres::terminated_connections_leave_one_order", || Box::pin(terminated_connections())),
    #[cfg(feature = "postgres-tls")]
    ("postgres::connections_over_tls_that_are_lost_leave_one_order", || {
        Box::pin(lost_connections_over_tls())
    }),
    ("postgres::a_server_that_is_killed_leaves_one_order", || Box::pin(a_killed_server())),
    ("postgres::a_server_that_stands_still_leaves_one_order", || Box::pin(a_still_server())),
];

struct Postgres {
    server: Arc<PostgresServer>,
    proxy: Proxy,
    /// Who vouches for it, if it is spoken to over TLS.
    authority: Option<Authority>,
}

impl Postgres {
    fn start() -> Self {
        let server = Arc::new(PostgresServer::start_with(&["fsync=on"]).unwrap());
        Self { proxy: Proxy::to_port(server.port()).unwrap(), server, authority: None }
    }

    #[cfg(feature = "postgres-tls")]
    fn start_with_tls() -> Self {
        let authority = Authority::new().unwrap();
        let identity = authority.certify("localhost").unwrap();
        let server = Arc::new(PostgresServer::start_with_tls(&identity, &["fsync=on"]).unwrap());
        let proxy = Proxy::to_port(server.port()).unwrap();
        Self { proxy, server, authority: Some(authority) }
    }

    fn uri(&self) -> String {
        let port = self.proxy.address().port();
        let (host, rest) = match &self.authority {
            None => ("127.0.0.1", "timeout=300ms".to_owned()),
            Some(authority) => {
                let ca = authority.file().display();
                ("localhost", format!("timeout=2s&sslmode=verify-full&ca={ca}"))
            }
        };
        format!("postgres://larder@{host}:{port}/postgres?schema=histories&connections=4&{rest}")
    }

    /// Does something to the server that takes its time.
    async fn to_server(&self, act: impl FnOnce(&PostgresServer) + Send + 'static) {
        let server = Arc::clone(&self.server);
        tokio::task::spawn_blocking(move || act(&server)).await.unwrap();
    }

    async fn terminate(&self) {
        self.to_server(|server| {
            server.terminate("larder").unwrap();
        })
        .await;
    }

    async fn kill(&self) {
        self.to_server(|server| {
            server.kill();
            server.restart().unwrap();
        })
        .await;
    }

    /// SIGSTOP to all of its processes.
    async fn stand_still(&self, moment: Duration) {
        self.to_server(|server| server.pause().unwrap()).await;
        sleep(moment).await;
        self.to_server(|server| server.resume().unwrap()).await;
    }
}

impl Engine for Postgres {
    async fn open(&self, _: &mut Random) -> Vec<SharedConsensus> {
        let uri = self.uri();
        stores::two(async || PostgresConsensus::open(&uri).await).await
    }

    async fn disturb(&self, random: &mut Random) {
        let moment = Duration::from_millis(10 + random.word() % 60);
        match random.below(way::KINDS + 2) {
            kind @ ..way::KINDS => way::disturb(&self.proxy, kind, random),
            way::KINDS => self.terminate().await,
            _ => self.stand_still(moment * 4).await,
        }
        sleep(moment).await;
        self.calm().await;
    }

    async fn restart(&self, random: &mut Random) {
        sleep(Duration::from_millis(random.word() % 60)).await;
        self.kill().await;
    }

    async fn calm(&self) {
        self.proxy.restore();
    }
}

async fn broken_connections() {
    let tally = runs(&Postgres::start(), "LARDER_HISTORIES", 12, false).await;
    assert!(tally.committed > 0 && tally.resolved() > 0, "{tally:?}");
}

async fn restarts() {
    let tally = runs(&Postgres::start(), "LARDER_HISTORY_RESTARTS", 2, true).await;
    assert!(tally.committed > 0 && tally.unknown > 0, "{tally:?}");
}

async fn terminated_connections() {
    let engine = Postgres::start();
    until_some_were_resolved(&engine, async || engine.terminate().await).await;
}

#[cfg(feature = "postgres-tls")]
async fn lost_connections_over_tls() {
    let (engine, is_cut) = (Postgres::start_with_tls(), AtomicBool::new(true));
    // One that is terminated has rolled back what it was at; one that is cut may yet commit it.
    let either = async || {
        if is_cut.fetch_xor(true, Ordering::SeqCst) {
            engine.proxy.kill();
        } else {
            engine.terminate().await;
        }
    };
    until_some_were_resolved(&engine, either).await;
}

async fn a_killed_server() {
    let engine = Postgres::start();
    until_some_were_resolved(&engine, async || engine.kill().await).await;
}

async fn a_still_server() {
    let engine = Postgres::start();
    let longer_than_a_call = Duration::from_millis(700);
    until_some_were_resolved(&engine, async || engine.stand_still(longer_than_a_call).await).await;
}
