//! An etcd server behind a way that is cut, held up and slowed down.

use larder::consensus::EtcdConsensus;
use larder::{Consensus as _, Durability, SharedConsensus};
use larder_testkit::Random;
use larder_testkit::service::{Authority, EtcdServer};
use tokio::time::sleep;

use crate::outage::{LONG, until_some_were_resolved};
use crate::served::{Behind, moment};
use crate::{Engine, Test, runs, stores, way};

mod cluster;

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("etcd::broken_connections_leave_one_order", || Box::pin(broken_connections())),
    ("etcd::restarts_leave_one_order", || Box::pin(restarts())),
    ("etcd::connections_that_are_cut_leave_one_order", || Box::pin(cut_connections())),
    #[cfg(feature = "etcd-tls")]
    ("etcd::connections_over_tls_that_are_cut_leave_one_order", || {
        Box::pin(cut_connections_over_tls())
    }),
    ("etcd::a_server_that_is_killed_leaves_one_order", || Box::pin(a_killed_server())),
    ("etcd::a_server_that_stands_still_leaves_one_order", || Box::pin(a_still_server())),
    ("etcd::leaders_that_die_and_hang_leave_one_order", || Box::pin(cluster::leaders())),
    ("etcd::restarts_of_leaders_leave_one_order", || Box::pin(cluster::restarts())),
];

struct Etcd {
    behind: Behind<EtcdServer>,
    /// Who vouches for it, if it is spoken to over TLS.
    authority: Option<Authority>,
}

impl Etcd {
    fn start() -> Self {
        let server = EtcdServer::start().unwrap();
        let port = server.port();
        Self { behind: Behind::new(server, port), authority: None }
    }

    #[cfg(feature = "etcd-tls")]
    fn start_with_tls() -> Self {
        let authority = Authority::new().unwrap();
        let identity = authority.certify("localhost").unwrap();
        let server = EtcdServer::start_with_tls(&identity, &[]).unwrap();
        let port = server.tls_port().unwrap();
        Self { behind: Behind::new(server, port), authority: Some(authority) }
    }

    fn uri(&self) -> String {
        let port = self.behind.port();
        match &self.authority {
            None => format!("etcd://127.0.0.1:{port}/histories?timeout=300ms"),
            Some(authority) => {
                let ca = authority.file().display();
                format!("etcds://localhost:{port}/histories?timeout=2s&ca={ca}")
            }
        }
    }
}

impl Engine for Etcd {
    async fn open(&self, _: &mut Random) -> Vec<SharedConsensus> {
        let uri = self.uri();
        let stores = stores::two(async || EtcdConsensus::open(&uri).await).await;
        for store in &stores {
            assert_eq!(store.durability(), Durability::Power, "a cluster of one");
        }
        stores
    }

    async fn disturb(&self, random: &mut Random) {
        let moment = moment(random);
        match random.below(way::KINDS + 1) {
            kind @ ..way::KINDS => way::disturb(&self.behind.proxy, kind, random),
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
    let tally = runs(&Etcd::start(), "LARDER_HISTORIES", 12, false).await;
    assert!(tally.committed > 0 && tally.resolved() > 0, "{tally:?}");
}

async fn restarts() {
    let tally = runs(&Etcd::start(), "LARDER_HISTORY_RESTARTS", 2, true).await;
    assert!(tally.committed > 0 && tally.unknown > 0, "{tally:?}");
}

async fn cut_connections() {
    let engine = Etcd::start();
    until_some_were_resolved(&engine, async || engine.behind.proxy.kill()).await;
}

#[cfg(feature = "etcd-tls")]
async fn cut_connections_over_tls() {
    let engine = Etcd::start_with_tls();
    until_some_were_resolved(&engine, async || engine.behind.proxy.kill()).await;
}

async fn a_killed_server() {
    let engine = Etcd::start();
    until_some_were_resolved(&engine, async || engine.behind.kill().await).await;
}

async fn a_still_server() {
    let engine = Etcd::start();
    until_some_were_resolved(&engine, async || engine.behind.stand_still(LONG).await).await;
}
