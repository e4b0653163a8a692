//! PostgreSQL over TLS.

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{Endpoint, Trouble};
use crate::driver::tls::{self, NoTls};
use crate::driver::trust::Trust;

/// How to go on over TLS; what is below it is this crate's own business.
pub(super) type Handshake = <MakeRustlsConnect as MakeTlsConnect<TcpStream>>::TlsConnect;

/// The question whether the server speaks TLS: its length, and a number that is no version of the protocol.
const QUESTION: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// Asks on `stream` for TLS, which then has to follow: nothing may be sent before it.
///
/// Asked here and not by the driver, which tells only in words whether the server refused.
pub(super) async fn ask(
    endpoint: &Endpoint,
    trust: &Trust,
    stream: &mut TcpStream,
) -> Result<Handshake, Trouble> {
    let settings = tls::read(trust).await.map_err(|why| trouble(endpoint, why))?;
    let unreachable = |error: io::Error| Trouble::unreachable(endpoint, &error);
    stream.write_all(&QUESTION).await.map_err(unreachable)?;
    // Not a byte more is read: what came in the clear behind it would pass for something that was protected.
    match stream.read_u8().await.map_err(unreachable)? {
        b'S' => {}
        b'N' => {
            let why = "the server does not offer it: set ssl=on there".to_owned();
            return Err(trouble(endpoint, NoTls::Distrusted(why)));
        }
        // An error in the clear, as from a server without room for us, may be anybody's words.
        b'E' => return Err(Trouble::unreachable(endpoint, &"it refuses connections: see its log")),
        _ => {
            let why = "what answers is not PostgreSQL".to_owned();
            return Err(trouble(endpoint, NoTls::Distrusted(why)));
        }
    }
    let mut handshakes = MakeRustlsConnect::new(settings);
    let Ok(handshake) =
        MakeTlsConnect::<TcpStream>::make_tls_connect(&mut handshakes, &endpoint.host);
    Ok(handshake)
}

/// What ended the handshake or the login behind it: the same, unless it was about trust.
pub(super) fn judge(endpoint: &Endpoint, error: &tokio_postgres::Error) -> Option<Trouble> {
    use std::error::Error as _;
    let below = error.source()?.downcast_ref::<io::Error>()?;
    let why = NoTls::from(io::Error::new(below.kind(), below.to_string()));
    Some(trouble(endpoint, why))
}

fn trouble(endpoint: &Endpoint, why: NoTls) -> Trouble {
    match why {
        NoTls::Distrusted(why) => Trouble::Distrusted { place: endpoint.to_string(), why },
        NoTls::Broken(error) => Trouble::unreachable(endpoint, &error),
    }
}
