//! Histories while the server dies, hangs and loses connections.

use std::sync::Arc;
use std::time::Duration;

use larder::consensus::PostgresConsensus;
use larder_testkit::service::PostgresServer;

use crate::place::uri;

#[path = "../support/histories.rs"]
mod support;

async fn until_some_were_resolved(disturb: fn(&PostgresServer) -> Result<(), String>) {
    let server = Arc::new(PostgresServer::start_with(&["fsync=on"]).unwrap());
    let disturbed = Arc::clone(&server);
    let open = async || {
        let uri = uri(&server, "schema=histories&timeout=500ms&connections=4");
        PostgresConsensus::open(&uri).await.unwrap()
    };
    support::until_some_were_resolved(open, move || disturb(&disturbed)).await;
}

pub(crate) async fn terminated_connections_leave_one_order() {
    until_some_were_resolved(|server| server.terminate("larder").map(drop)).await;
}

pub(crate) async fn a_server_that_is_killed_leaves_one_order() {
    until_some_were_resolved(|server| {
        server.kill();
        server.restart()
    })
    .await;
}

pub(crate) async fn a_server_that_stands_still_leaves_one_order() {
    until_some_were_resolved(|server| {
        server.pause()?;
        std::thread::park_timeout(Duration::from_millis(700));
        server.resume()
    })
    .await;
}
