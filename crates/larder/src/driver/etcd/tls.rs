//! etcd over TLS.

use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::Trouble;
use crate::driver::tls::{self, NoTls};
use crate::driver::trust::Trust;

/// Goes on over TLS on `stream`, to speak HTTP/2.
pub(super) async fn connect(
    place: &str,
    trust: &Trust,
    host: &str,
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>, Trouble> {
    let secured = tls::connect(trust, host, &[b"h2"], stream).await;
    secured.map_err(|why| match why {
        NoTls::Distrusted(why) => Trouble::Distrusted { place: place.to_owned(), why },
        NoTls::Broken(error) => Trouble::unreachable(&place, &error),
    })
}
