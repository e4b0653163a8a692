//! Three servers, of which the leader dies and stands still.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use larder::SharedConsensus;
use larder::consensus::EtcdConsensus;
use larder_testkit::Random;
use larder_testkit::service::EtcdCluster;
use tokio::time::sleep;

use crate::outage::until_some_were_resolved;
use crate::served::aside;
use crate::{Engine, runs, stores};

struct Cluster(Arc<EtcdCluster>);

impl Cluster {
    fn start() -> Self {
        Self(Arc::new(EtcdCluster::start(3).unwrap()))
    }

    /// Does something that takes its time to the cluster and its leader.
    async fn to_leader<T: Send + 'static>(
        &self,
        act: impl FnOnce(&EtcdCluster, usize) -> T + Send + 'static,
    ) -> T {
        aside(&self.0, |cluster| act(cluster, cluster.leader().unwrap())).await
    }

    async fn kill_leader(&self) {
        self.to_leader(|cluster, leader| {
            cluster.members()[leader].kill();
            cluster.members()[leader].restart().unwrap();
        })
        .await;
    }

    /// Long enough for an election: who wakes up believes that it leads until it hears otherwise.
    async fn hang_leader(&self) {
        let leader = self
            .to_leader(|cluster, leader| {
                cluster.members()[leader].pause().unwrap();
                leader
            })
            .await;
        sleep(Duration::from_millis(1_300)).await;
        self.0.members()[leader].resume().unwrap();
    }
}

impl Engine for Cluster {
    async fn open(&self, _: &mut Random) -> Vec<SharedConsensus> {
        let uri = format!("{}/histories?timeout=1s", self.0.uri());
        stores::two(async || EtcdConsensus::open(&uri).await).await
    }

    async fn disturb(&self, _: &mut Random) {
        self.hang_leader().await;
    }

    async fn restart(&self, random: &mut Random) {
        sleep(Duration::from_millis(random.word() % 60)).await;
        self.kill_leader().await;
    }

    async fn calm(&self) {}
}

pub(crate) async fn restarts() {
    let tally = runs(&Cluster::start(), "LARDER_HISTORY_RESTARTS", 1, true).await;
    assert!(tally.committed > 0 && tally.unknown > 0, "{tally:?}");
}

pub(crate) async fn leaders() {
    let (engine, hangs) = (Cluster::start(), AtomicBool::new(true));
    let either = async || {
        if hangs.fetch_xor(true, Ordering::SeqCst) {
            engine.hang_leader().await;
        } else {
            engine.kill_leader().await;
        }
    };
    until_some_were_resolved(&engine, either).await;
}
