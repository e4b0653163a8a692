//! Histories while the server dies, hangs and loses connections.

use std::sync::Arc;
use std::time::Duration;

use larder::consensus::EtcdConsensus;
use larder_testkit::Proxy;
use larder_testkit::service::EtcdServer;

#[path = "../support/histories.rs"]
mod support;

async fn until_some_were_resolved(
    server: &Arc<EtcdServer>,
    port: u16,
    disturb: impl Fn(&EtcdServer) -> Result<(), String> + Clone + Send + 'static,
) {
    let uri = format!("etcd://127.0.0.1:{port}/histories?timeout=500ms");
    let open = async || EtcdConsensus::open(&uri).await.unwrap();
    let disturbed = Arc::clone(server);
    support::until_some_were_resolved(open, move || disturb(&disturbed)).await;
}

pub(crate) async fn connections_that_are_cut_leave_one_order() {
    let server = Arc::new(EtcdServer::start().unwrap());
    let proxy = Arc::new(Proxy::to_port(server.port()).unwrap());
    let cut = Arc::clone(&proxy);
    until_some_were_resolved(&server, proxy.address().port(), move |_| {
        cut.kill();
        Ok(())
    })
    .await;
}

pub(crate) async fn a_server_that_is_killed_leaves_one_order() {
    let server = Arc::new(EtcdServer::start().unwrap());
    until_some_were_resolved(&server, server.port(), |server| {
        server.kill();
        server.restart()
    })
    .await;
}

pub(crate) async fn a_server_that_stands_still_leaves_one_order() {
    let server = Arc::new(EtcdServer::start().unwrap());
    until_some_were_resolved(&server, server.port(), |server| {
        server.pause()?;
        std::thread::park_timeout(Duration::from_millis(700));
        server.resume()
    })
    .await;
}
