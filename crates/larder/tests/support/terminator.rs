//! TLS in front of a server that has none.

use std::net::Ipv4Addr;

use larder_testkit::service::Identity;
use tokio::net::TcpStream;

#[path = "front.rs"]
mod front;

pub(crate) use front::listen;

/// Passes connections on to a port of this machine, over TLS as `identity`; the port where it does that.
pub(crate) async fn terminate(identity: &Identity, server: u16) -> u16 {
    let acceptor = front::acceptor(identity);
    let (listener, port) = listen().await;
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // Who does not believe us leaves, which is nobody's fault here.
                let Ok(mut client) = acceptor.accept(client).await else { return };
                let server = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).await;
                let Ok(mut server) = server else { return };
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    port
}
