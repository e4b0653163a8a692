//! A PostgreSQL server behind a way that is cut, held up and slowed down.

use std::sync::Arc;
use std::time::Duration;

use larder::SharedConsensus;
use larder::consensus::PostgresConsensus;
use larder_testkit::service::PostgresServer;
use larder_testkit::{Proxy, Random};
use tokio::time::sleep;

use crate::outage::until_some_were_resolved;
use crate::{Engine, Test, runs, way};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("postgres::broken_connections_leave_one_order", || Box::pin(broken_connections())),
    ("postgres::restarts_leave_one_order", || Box::pin(restarts())),
    ("postgres::terminated_connections_leave_one_order", || Box::pin(terminated_connections())),
    ("postgres::a_server_that_is_killed_leaves_one_order", || Box::pin(a_killed_server())),
    ("postgres::a_server_that_stands_still_leaves_one_order", || Box::pin(a_still_server())),
];

struct Postgres {
    server: Arc<PostgresServer>,
    proxy: Proxy,
}

impl Postgres {
    fn start() -> Self {
        let server = Arc::new(PostgresServer::start_with(&["fsync=on"]).unwrap());
        Self { proxy: Proxy::to_port(server.port()).unwrap(), server }
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
        let port = self.proxy.address().port();
        let uri = format!(
            "postgres://larder@127.0.0.1:{port}/postgres?schema=histories&timeout=300ms&connections=4"
        );
        let mut stores = Vec::new();
        for _ in 0..2 {
            stores.push(SharedConsensus::new(PostgresConsensus::open(&uri).await.unwrap()));
        }
        stores
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

async fn a_killed_server() {
    let engine = Postgres::start();
    until_some_were_resolved(&engine, async || engine.kill().await).await;
}

async fn a_still_server() {
    let engine = Postgres::start();
    let longer_than_a_call = Duration::from_millis(700);
    until_some_were_resolved(&engine, async || engine.stand_still(longer_than_a_call).await).await;
}
