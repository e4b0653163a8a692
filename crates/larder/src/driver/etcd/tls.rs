//! etcd over TLS.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::Trouble;
use crate::driver::tls::{self, NoTls};
use crate::driver::trust::Trust;

/// Why the other end wants nothing to do with us, if it has said so.
///
/// A handshake is over for us before the server has judged our certificate, and HTTP/2 above it keeps the words only.
#[derive(Clone, Debug, Default)]
pub(super) struct Refusal(Arc<OnceLock<String>>);

impl Refusal {
    pub(super) fn why(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }
}

/// A connection that takes note of a refusal.
pub(super) struct Judged<S> {
    stream: S,
    refusal: Refusal,
}

impl<S> Judged<S> {
    pub(super) const fn new(stream: S, refusal: Refusal) -> Self {
        Self { stream, refusal }
    }
}

impl<S: AsyncRead + Unpin> Judged<S> {
    /// Looks what the other end said before it went, where it is writing that finds out that it has gone.
    fn heard_out<T>(&mut self, context: &mut Context<'_>, ended: io::Result<T>) -> io::Result<T> {
        if ended.is_err() {
            let mut last = [0; 256];
            let _ = Pin::new(self).poll_read(context, &mut ReadBuf::new(&mut last));
        }
        ended
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Judged<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.stream).poll_read(context, buffer));
        if let Err(error) = &read
            && error.kind() == io::ErrorKind::InvalidData
        {
            self.refusal.0.get_or_init(|| error.to_string());
        }
        Poll::Ready(read)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Judged<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes));
        Poll::Ready(self.heard_out(context, written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, pieces));
        Poll::Ready(self.heard_out(context, written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.stream).poll_flush(context));
        Poll::Ready(self.heard_out(context, flushed))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

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
