//! A PostgreSQL server behind a way that is cut, held up and slowed down.

use std::sync::Arc;
use std::time::Duration;

use larder::SharedConsensus;
use larder::consensus::PostgresConsensus;
use larder_testkit::service::PostgresServer;
use larder_testkit::{Direction, Proxy, Random};
use tokio::time::sleep;

use crate::{Engine, Test, runs};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("postgres::broken_connections_leave_one_order", || Box::pin(broken_connections())),
    ("postgres::restarts_leave_one_order", || Box::pin(restarts())),
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
}

impl Engine for Postgres {
    async fn open(&self, _: &mut Random) -> SharedConsensus {
        let port = self.proxy.address().port();
        let uri = format!(
            "postgres://larder@127.0.0.1:{port}/postgres?schema=histories&timeout=300ms&connections=4"
        );
        SharedConsensus::new(PostgresConsensus::open(&uri).await.unwrap())
    }

    async fn disturb(&self, random: &mut Random) {
        let Self { proxy, .. } = self;
        let moment = Duration::from_millis(10 + random.word() % 60);
        match random.below(10) {
            0 => proxy.kill_after(Direction::Request, random.below(600)),
            1 => proxy.kill_after(Direction::Answer, random.below(400)),
            // The server has got it, and the client gets no answer.
            2 | 3 => proxy.kill_after(Direction::Answer, 0),
            4 => proxy.kill(),
            5 => proxy.delay(Duration::from_millis(1 + random.word() % 8)),
            6 => proxy.hang(),
            7 => {
                let way = if random.happens(50) { Direction::Request } else { Direction::Answer };
                proxy.hold(way);
            }
            8 => {
                self.to_server(|server| {
                    server.terminate("larder").unwrap();
                })
                .await;
            }
            // SIGSTOP to all of its processes.
            _ => {
                self.to_server(|server| server.pause().unwrap()).await;
                sleep(moment * 4).await;
                self.to_server(|server| server.resume().unwrap()).await;
            }
        }
        sleep(moment).await;
        self.calm().await;
    }

    async fn restart(&self, random: &mut Random) {
        sleep(Duration::from_millis(random.word() % 60)).await;
        self.to_server(|server| {
            server.kill();
            server.restart().unwrap();
        })
        .await;
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
