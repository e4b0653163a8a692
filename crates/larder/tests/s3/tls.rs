//! An endpoint that is spoken to over TLS.

use std::time::Duration;

use larder::consensus::ObjectConsensus;
use larder::registry::OpenError;
use larder::{CaSResult, Consensus, Effect, Failure, Retry};
use larder_testkit::service::{Authority, S3Server};

use crate::place::{assert_fails, cas, commit, mismatch, version, versions};

#[path = "../support/terminator.rs"]
mod terminator;

use terminator::{listen, terminate};

/// An endpoint with a certificate for `localhost`, and the authority that signed it.
struct Secured {
    server: S3Server,
    port: u16,
    authority: Authority,
}

impl Secured {
    async fn start() -> Self {
        let (server, authority) = (S3Server::start().unwrap(), Authority::new().unwrap());
        let port = terminate(&authority.certify("localhost").unwrap(), server.port()).await;
        Self { server, port, authority }
    }

    fn uri(&self, endpoint: &str, authority: &Authority) -> String {
        let plain = format!("http://127.0.0.1:{}", self.server.port());
        let uri = self.server.uri("test").replace(&plain, endpoint);
        format!("{uri}&timeout=5s&ca={}", authority.file().display())
    }
}

#[track_caller]
fn no_tls(opened: Result<ObjectConsensus, OpenError>, words: &str) {
    let told = assert_fails(opened, Effect::NotApplied, Retry::Never);
    assert!(told.contains(words), "{told}");
}

pub(crate) async fn an_endpoint_with_a_good_certificate_is_used() {
    let secured = Secured::start().await;
    let at = format!("https://localhost:{}", secured.port);
    let store = ObjectConsensus::open(&secured.uri(&at, &secured.authority)).await.unwrap();
    commit(&store, None, 1, "one").await;
    commit(&store, Some(1), 2, &"x".repeat(1 << 20)).await;
    assert_eq!(cas(&store, Some(1), 3, "three").await.unwrap(), mismatch(Some(2)));
    assert_eq!(versions(&store).await.len(), 2);
    // One that is away and comes back.
    secured.server.kill();
    let error = store.head("k").await.unwrap_err();
    assert_eq!((error.effect(), error.retry()), (Effect::NotApplied, Retry::Later), "{error:?}");
    secured.server.restart().unwrap();
    let swapped = store.compare_and_set("k", Some(larder::SeqNo(2)), version(3, "three")).await;
    assert_eq!(swapped.unwrap(), CaSResult::Committed);
}

pub(crate) async fn an_endpoint_that_is_somebody_else_is_not_used() {
    let (secured, other) = (Secured::start().await, Authority::new().unwrap());
    let at = |host: &str| format!("https://{host}:{}", secured.port);
    let open = async |uri: &str| ObjectConsensus::open(uri).await;
    no_tls(open(&secured.uri(&at("localhost"), &other)).await, "UnknownIssuer");
    no_tls(open(&secured.uri(&at("127.0.0.1"), &secured.authority)).await, "not valid for name");
    let right = secured.uri(&at("localhost"), &secured.authority);
    let (machine, file) = right.split_once("&ca=").unwrap();
    no_tls(open(&right.replace(file, "/nowhere")).await, "cannot read ca=/nowhere");
    let nobody = tempfile::NamedTempFile::new().unwrap();
    let empty = right.replace(file, nobody.path().to_str().unwrap());
    no_tls(open(&empty).await, "no certificate of an authority");
    // The authorities of the machine do not know it either.
    no_tls(open(machine).await, "");
    assert_eq!(secured.server.names(), Vec::<String>::new(), "what was sent to somebody else");
    open(&right).await.unwrap();
}

pub(crate) async fn plain_and_tls_do_not_mix() {
    let secured = Secured::start().await;
    for endpoint in [
        format!("https://localhost:{}", secured.server.port()),
        format!("http://localhost:{}", secured.port),
    ] {
        let opened = ObjectConsensus::open(&secured.uri(&endpoint, &secured.authority)).await;
        let error = opened.unwrap_err();
        assert_eq!(error.effect(), Effect::NotApplied, "{error:?}");
    }
    assert_eq!(secured.server.names(), Vec::<String>::new());
}

/// Nothing was sent to whoever says nothing about who he is, and that is known before time is up.
pub(crate) async fn an_endpoint_that_is_silent_fails_in_time() {
    let (secured, listener) = (Secured::start().await, listen().await);
    let uri = secured.uri(&format!("https://localhost:{}", listener.1), &secured.authority);
    let uri = uri.replace("timeout=5s", "timeout=900ms");
    let opening = tokio::time::timeout(Duration::from_secs(5), ObjectConsensus::open(&uri));
    let told = assert_fails(opening.await.unwrap(), Effect::NotApplied, Retry::Later);
    assert!(told.contains("cannot connect to s3://shelf/test"), "{told}");
}
