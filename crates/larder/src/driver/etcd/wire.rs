//! One connection: gRPC over HTTP/2, on which it is known whether a request ever left.

use std::error::Error;
use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::uri::{PathAndQuery, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use larder_core::clock::random_u64;
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;
use tower_service::Service;

use super::endpoint::Endpoint;
use super::proto;
use super::proto::watch_request::RequestUnion;
use super::proto::{WatchCreateRequest, WatchRequest, WatchResponse};
use super::trouble::Trouble;

/// A method of the server, by what it takes and what it answers.
#[derive(Debug)]
pub(crate) struct Call<Q, A>(&'static str, PhantomData<fn(Q) -> A>);

impl<Q, A> Clone for Call<Q, A> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<Q, A> Copy for Call<Q, A> {}

pub(crate) const RANGE: Call<proto::RangeRequest, proto::RangeResponse> =
    Call("/etcdserverpb.KV/Range", PhantomData);
pub(crate) const TXN: Call<proto::TxnRequest, proto::TxnResponse> =
    Call("/etcdserverpb.KV/Txn", PhantomData);
pub(crate) const MEMBERS: Call<proto::MemberListRequest, proto::MemberListResponse> =
    Call("/etcdserverpb.Cluster/MemberList", PhantomData);
pub(super) const STATUS: Call<proto::StatusRequest, proto::StatusResponse> =
    Call("/etcdserverpb.Maintenance/Status", PhantomData);
pub(super) const AUTHENTICATE: Call<proto::AuthenticateRequest, proto::AuthenticateResponse> =
    Call("/etcdserverpb.Auth/Authenticate", PhantomData);

const WATCH: &str = "/etcdserverpb.Watch/Watch";

/// A connection to one member; clones are the same one.
#[derive(Clone)]
pub(super) struct Wire {
    sender: Sender,
    origin: Uri,
    place: String,
    server: usize,
    token: Option<MetadataValue<Ascii>>,
    /// Its clones have the same.
    number: u64,
    #[cfg(feature = "etcd-tls")]
    refusal: super::tls::Refusal,
}

/// A connection that is as busy as this and silent for longer is asked whether it is there: not more often than
/// a server takes from its clients.
const SILENCE: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(5);
/// What may be under way to us: an answer is as large as what was asked for.
const WINDOW_BYTES: u32 = 4 << 20;

impl Wire {
    /// Connects to the member that is number `at` of the address.
    pub(super) async fn connect(endpoint: &Endpoint, at: usize) -> Result<Self, Trouble> {
        let server = &endpoint.servers()[at];
        let place = endpoint.place(server);
        let unreachable = |error: &dyn fmt::Display| Trouble::unreachable(&place, &error);
        let stream = TcpStream::connect((server.host.as_str(), server.port)).await;
        let stream = stream.map_err(|error| unreachable(&error))?;
        // A request must not wait for the answer to the one before.
        stream.set_nodelay(true).map_err(|error| unreachable(&error))?;
        let scheme = if endpoint.tls.is_some() { "https" } else { "http" };
        let origin = format!("{scheme}://{server}").parse();
        let origin = origin.map_err(|error| unreachable(&error))?;
        #[cfg(feature = "etcd-tls")]
        let refusal = super::tls::Refusal::default();
        #[cfg(feature = "etcd-tls")]
        let opened = match &endpoint.tls {
            Some(trust) => {
                let secured = super::tls::connect(&place, trust, &server.host, stream).await?;
                greet(super::tls::Judged::new(secured, refusal.clone())).await
            }
            None => greet(stream).await,
        };
        #[cfg(not(feature = "etcd-tls"))]
        let opened = greet(stream).await;
        let sender = Sender(opened.map_err(|error| unreachable(&error))?);
        Ok(Self {
            sender,
            origin,
            place,
            server: at,
            token: None,
            number: random_u64(),
            #[cfg(feature = "etcd-tls")]
            refusal,
        })
    }

    /// The same connection as a user who was let in.
    pub(super) fn with_token(self, token: &str) -> Result<Self, Trouble> {
        let token =
            token.parse().map_err(|_| Trouble::Odd { what: "a token of odd characters" })?;
        Ok(Self { token: Some(token), ..self })
    }

    /// Sends a request and waits for the answer; the server is told to give up when `limit` has passed.
    pub(super) async fn ask<Q, A>(
        &self,
        call: Call<Q, A>,
        request: Q,
        limit: Duration,
    ) -> Result<A, Trouble>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut grpc = self.ready().await?;
        let mut request = self.introduced(request);
        request.set_timeout(limit);
        let path = PathAndQuery::from_static(call.0);
        let answer = grpc.unary(request, path, ProstCodec::<Q, A>::default()).await;
        answer.map(tonic::Response::into_inner).map_err(|status| self.judge(&status))
    }

    /// Hears of changes of a key from when the first message comes, until the connection ends.
    pub(super) async fn watch(&self, key: Bytes) -> Result<Streaming<WatchResponse>, Trouble> {
        let create = RequestUnion::CreateRequest(WatchCreateRequest { key });
        let create = WatchRequest { request_union: Some(create) };
        // The server ends a watch when nothing can be asked any more.
        let asking = stream::once(std::future::ready(create)).chain(stream::pending());
        let path = PathAndQuery::from_static(WATCH);
        let codec = ProstCodec::<WatchRequest, WatchResponse>::default();
        let watched = self.ready().await?.streaming(self.introduced(asking), path, codec).await;
        watched.map(tonic::Response::into_inner).map_err(|status| self.judge(&status))
    }

    async fn ready(&self) -> Result<Grpc<Sender>, Trouble> {
        // An answer is as large as what was asked for, and whoever asks knows how much that may be.
        let mut grpc = Grpc::with_origin(self.sender.clone(), self.origin.clone())
            .max_decoding_message_size(usize::MAX);
        let ready = grpc.ready().await;
        ready.map_err(|error: Break| Trouble::unreachable(&self.place, &error))?;
        Ok(grpc)
    }

    /// A request of the user who was let in.
    fn introduced<T>(&self, request: T) -> Request<T> {
        let mut request = Request::new(request);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("token", token.clone());
        }
        request
    }

    /// What an error means: whether it was the server that spoke.
    fn judge(&self, status: &Status) -> Trouble {
        let Some(broken) = status.source() else {
            return Trouble::refused(status.code(), status.message());
        };
        match broken.downcast_ref::<Break>() {
            Some(unsent @ Break::Unsent(_)) => Trouble::unreachable(&self.place, unsent),
            _ => Trouble::Lost { place: self.place.clone(), why: broken.to_string() },
        }
    }

    /// What an error means before anything that matters was sent.
    #[cfg_attr(
        not(feature = "etcd-tls"),
        expect(clippy::unused_self, reason = "nobody refuses us without TLS")
    )]
    pub(super) fn early(&self, trouble: Trouble) -> Trouble {
        #[cfg(feature = "etcd-tls")]
        if let Some(why) = self.refusal.why() {
            return Trouble::Distrusted { place: self.place.clone(), why: why.to_owned() };
        }
        trouble.before_sending()
    }

    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// The number of the member in the address.
    pub(super) const fn server(&self) -> usize {
        self.server
    }

    pub(super) const fn is(&self, other: &Self) -> bool {
        self.number == other.number
    }

    pub(super) fn has_ended(&self) -> bool {
        self.sender.0.is_closed()
    }
}

/// Begins to speak HTTP/2.
async fn greet(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> hyper::Result<SendRequest<Body>> {
    let opened = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(SILENCE)
        .keep_alive_timeout(ANSWER)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .handshake(TokioIo::new(stream))
        .await;
    let (sender, connection) = opened?;
    // How it ended is told to those who wait for answers on it.
    tokio::spawn(connection);
    Ok(sender)
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("place", &self.place).finish_non_exhaustive()
    }
}

/// Hands requests to the connection.
#[derive(Clone)]
struct Sender(SendRequest<Body>);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum Break {
    /// The request never left.
    #[error("{0}")]
    Unsent(hyper::Error),
    /// It may have.
    #[error("{0}")]
    Broken(hyper::Error),
}

impl Service<http::Request<Body>> for Sender {
    type Response = http::Response<Incoming>;
    type Error = Break;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Break>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Break>> {
        self.0.poll_ready(context).map_err(Break::Unsent)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let sending = self.0.try_send_request(request);
        Box::pin(async move {
            sending.await.map_err(|mut failed| {
                // Given back is what was never begun with.
                let is_unsent = failed.take_message().is_some();
                let error = failed.into_error();
                if is_unsent { Break::Unsent(error) } else { Break::Broken(error) }
            })
        })
    }
}
