//! A PostgreSQL server behind a way that is cut, held up and slowed down.

#[cfg(feature = "postgres-tls")]
use std::sync::atomic::{AtomicBool, Ordering};

use larder::SharedConsensus;
use larder::consensus::PostgresConsensus;
use larder_testkit::Random;
use larder_testkit::service::{Authority, PostgresServer};
use tokio::time::sleep;

use crate::outage::{LONG, until_some_were_resolved};
use crate::served::{Behind, aside, moment};
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
    behind: Behind<PostgresServer>,
    /// Who vouches for it, if it is spoken to over TLS.
    authority: Option<Authority>,
}

impl Postgres {
    fn start() -> Self {
        Self::on(PostgresServer::start_with(&["fsync=on"]).unwrap(), None)
    }

    #[cfg(feature = "postgres-tls")]
    fn start_with_tls() -> Self {
        let authority = Authority::new().unwrap();
        let identity = authority.certify("localhost").unwrap();
        let server = PostgresServer::start_with_tls(&identity, &["fsync=on"]).unwrap();
        Self::on(server, Some(authority))
    }

    fn on(server: PostgresServer, authority: Option<Authority>) -> Self {
        let port = server.port();
        Self { behind: Behind::new(server, port), authority }
    }

    fn uri(&self) -> String {
        let port = self.behind.port();
        let (host, rest) = match &self.authority {
            None => ("127.0.0.1", "timeout=300ms".to_owned()),
            Some(authority) => {
                let ca = authority.file().display();
                ("localhost", format!("timeout=2s&sslmode=verify-full&ca={ca}"))
            }
        };
        format!("postgres://larder@{host}:{port}/postgres?schema=histories&connections=4&{rest}")
    }

    async fn terminate(&self) {
        let terminated = aside(self.behind.server(), |server| server.terminate("larder"));
        terminated.await.unwrap();
    }
}

impl Engine for Postgres {
    async fn open(&self, _: &mut Random) -> Vec<SharedConsensus> {
        let uri = self.uri();
        stores::two(async || PostgresConsensus::open(&uri).await).await
    }

    async fn disturb(&self, random: &mut Random) {
        let moment = moment(random);
        match random.below(way::KINDS + 2) {
            kind @ ..way::KINDS => way::disturb(&self.behind.proxy, kind, random),
            way::KINDS => self.terminate().await,
            _ => self.behind.stand_still(moment * 4).await,
        }
        sleep(moment).await;
        self.calm().await;
    }

    async fn restart(&self, random: &mut Random) {
        self.behind.kill_soon(random).await;
    }

    async fn calm(&self) {
        self.behind.proxy.restore();
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
            engine.behind.proxy.kill();
        } else {
            engine.terminate().await;
        }
    };
    until_some_were_resolved(&engine, either).await;
}

async fn a_killed_server() {
    let engine = Postgres::start();
    until_some_were_resolved(&engine, async || engine.behind.kill().await).await;
}

async fn a_still_server() {
    let engine = Postgres::start();
    until_some_were_resolved(&engine, async || engine.behind.stand_still(LONG).await).await;
}
