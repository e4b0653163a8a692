//! TLS: a server has to show who it is.

use std::io;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;

use super::endpoint::{Endpoint, Trust};
use super::trouble::Trouble;
use crate::driver::tls::settings;

/// Goes on over TLS on `stream`, if the certificate is for the host and from somebody trusted.
pub(super) async fn connect(
    endpoint: &Endpoint,
    trust: &Trust,
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>, Trouble> {
    let distrusted = |why| Trouble::Distrusted { place: endpoint.to_string(), why };
    let name = ServerName::try_from(endpoint.host.clone());
    let name = name.map_err(|error| distrusted(error.to_string()))?;
    let authorities = trust.authorities.clone();
    // Files are read anew for each connection, because authorities are renewed.
    let read = tokio::task::spawn_blocking(move || settings(authorities.as_deref())).await;
    let settings = read.unwrap_or_else(|panicked| Err(panicked.to_string())).map_err(distrusted)?;
    let secured = TlsConnector::from(Arc::new(settings)).connect(name, stream).await;
    secured.map_err(|error| {
        // What the other end said or showed was wrong; otherwise the connection was.
        if error.kind() == io::ErrorKind::InvalidData {
            distrusted(error.to_string())
        } else {
            Trouble::unreachable(endpoint, &error)
        }
    })
}
