//! From a connection to one over TLS, or why there is none.

use std::io;

use tokio_rustls::rustls::ClientConfig;

use super::{identity, judging};
use crate::driver::trust::Trust;

/// Why there is no TLS.
#[derive(Debug)]
pub(in crate::driver) enum NoTls {
    /// The server is not who it should be, or that cannot be found out.
    Distrusted(String),
    /// The connection ended.
    Broken(io::Error),
}

impl From<io::Error> for NoTls {
    fn from(error: io::Error) -> Self {
        // What the other end said or showed was wrong, or its host is no name; otherwise the connection was.
        match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
                Self::Distrusted(error.to_string())
            }
            _ => Self::Broken(error),
        }
    }
}

/// How to judge a server and what to show it. Files are read anew for each connection, because authorities and
/// certificates are renewed.
pub(in crate::driver) async fn read(trust: &Trust) -> Result<ClientConfig, NoTls> {
    let trust = trust.clone();
    let read = tokio::task::spawn_blocking(move || {
        let judging = judging(trust.authorities.as_deref())?;
        match &trust.identity {
            Some(identity) => identity::shown(identity, judging),
            None => Ok(judging.with_no_client_auth()),
        }
    });
    let read = read.await;
    read.unwrap_or_else(|panicked| Err(panicked.to_string())).map_err(NoTls::Distrusted)
}

/// Goes on over TLS on `stream`, if the certificate is for the host and from somebody trusted. `protocols` are
/// what is spoken over it, by their registered names; none for a technology that has none.
#[cfg(any(feature = "etcd-tls", feature = "redis-tls"))]
pub(in crate::driver) async fn connect(
    trust: &Trust,
    host: &str,
    protocols: &[&[u8]],
    stream: tokio::net::TcpStream,
) -> Result<tokio_rustls::client::TlsStream<tokio::net::TcpStream>, NoTls> {
    use tokio_rustls::rustls::pki_types::ServerName;
    let name = ServerName::try_from(host.to_owned());
    let name = name.map_err(|error| NoTls::Distrusted(error.to_string()))?;
    let mut settings = read(trust).await?;
    settings.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(settings));
    Ok(connector.connect(name, stream).await?)
}
