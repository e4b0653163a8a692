//! Redis over TLS.

use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::endpoint::Endpoint;
use super::trouble::Trouble;
use crate::driver::tls::{self, NoTls};
use crate::driver::trust::Trust;

/// Goes on over TLS on `stream`.
pub(super) async fn connect(
    endpoint: &Endpoint,
    trust: &Trust,
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>, Trouble> {
    let secured = tls::connect(trust, &endpoint.host, &[], stream).await;
    secured.map_err(|why| match why {
        NoTls::Distrusted(why) => Trouble::Distrusted { place: endpoint.to_string(), why },
        NoTls::Broken(error) => Trouble::unreachable(endpoint, &error),
    })
}
