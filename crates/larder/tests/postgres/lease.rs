//! Leases in PostgreSQL.

use larder::{SharedConsensus, open_consensus};
use larder_testkit::service::PostgresServer;

#[path = "../support/lease.rs"]
mod laws;

async fn store(server: &PostgresServer, schema: &str) -> SharedConsensus {
    open_consensus(&format!("{}?schema={schema}", server.uri())).await.unwrap()
}

pub(crate) async fn one_holds_a_lease_at_a_time() {
    let server = PostgresServer::start_with(&["fsync=on"]).unwrap();
    let store = store(&server, "one_lease").await;
    laws::one_at_a_time(&store).await;
    laws::contested(&store).await;
}

pub(crate) async fn processes_that_share_a_tier_load_a_key_once() {
    let server = PostgresServer::start_with(&["fsync=on"]).unwrap();
    laws::loads_once(&store(&server, "load_lease").await).await;
}
