//! A server that speaks as etcd does and answers what it is told to.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderValue};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

/// What it says.
#[derive(Clone, Debug)]
pub(crate) struct Says {
    /// The fields of a status.
    pub(crate) status: Vec<u8>,
    /// The code and text that the next transactions are refused with, one each.
    pub(crate) refusals: Vec<(u16, &'static str)>,
    /// The answer to other transactions.
    pub(crate) txn: Vec<u8>,
}

#[derive(Clone, Debug)]
pub(crate) struct Fake {
    pub(crate) port: u16,
    says: Arc<Mutex<Says>>,
}

impl Fake {
    /// A fit member.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let status = status("3.4.23", 1, false, "");
        let says = Says { status, refusals: Vec::new(), txn: Vec::new() };
        let fake = Self { port, says: Arc::new(Mutex::new(says)) };
        let serving = fake.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let fake = serving.clone();
                let serve = service_fn(move |request| {
                    let fake = fake.clone();
                    async move { fake.answer(request).await }
                });
                let connection = http2::Builder::new(TokioExecutor::new());
                tokio::spawn(connection.serve_connection(TokioIo::new(stream), serve));
            }
        });
        fake
    }

    pub(crate) fn uri(&self) -> String {
        format!("etcd://127.0.0.1:{}/fake", self.port)
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Says)) {
        change(&mut self.says.lock().unwrap());
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
    ) -> Result<
        Response<impl hyper::body::Body<Data = Bytes, Error = Infallible> + use<>>,
        Infallible,
    > {
        let path = request.uri().path().to_owned();
        // It hears all before it says anything.
        let _ = request.into_body().collect().await;
        let said = {
            let mut says = self.says.lock().unwrap();
            match path.as_str() {
                "/etcdserverpb.Maintenance/Status" => Ok(says.status.clone()),
                "/etcdserverpb.KV/Range" => Ok(field(2, &field(5, b"1"))),
                "/etcdserverpb.Cluster/MemberList" => Ok(Vec::new()),
                "/etcdserverpb.KV/Txn" if says.refusals.is_empty() => Ok(says.txn.clone()),
                "/etcdserverpb.KV/Txn" => Err(says.refusals.remove(0)),
                _ => Err((12, "unknown service")),
            }
        };
        let (body, code, text) = match said {
            Ok(message) => {
                let len = u32::try_from(message.len()).unwrap().to_be_bytes();
                ([&[0][..], &len, &message].concat(), 0, "")
            }
            Err((code, text)) => (Vec::new(), code, text),
        };
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from(code));
        trailers.insert("grpc-message", HeaderValue::from_static(text));
        let body = Full::new(Bytes::from(body)).with_trailers(async move { Some(Ok(trailers)) });
        let head = Response::builder().header("content-type", "application/grpc");
        Ok(head.body(body).unwrap())
    }
}

/// A field of bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, u8::try_from(bytes.len()).unwrap()], bytes].concat()
}

/// A field of a small number.
fn small(number: u8, value: u8) -> Vec<u8> {
    vec![number << 3, value]
}

pub(crate) fn status(version: &str, leader: u8, is_learner: bool, error: &str) -> Vec<u8> {
    let errors = if error.is_empty() { Vec::new() } else { field(8, error.as_bytes()) };
    let (leader, learner) = (small(4, leader), small(10, u8::from(is_learner)));
    [field(2, version.as_bytes()), leader, errors, learner].concat()
}

/// The answer to a look at one head, which is `seqno`, or is not there.
pub(crate) fn looked(seqno: Option<u64>) -> Vec<u8> {
    let head =
        |seqno: u64| field(2, &field(5, &[&seqno.to_be_bytes()[..], &[1], b"data"].concat()));
    [small(2, 1), field(3, &field(1, &seqno.map(head).unwrap_or_default()))].concat()
}
