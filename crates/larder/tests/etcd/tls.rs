//! A server that is spoken to over TLS.

use std::time::Duration;

use larder::consensus::EtcdConsensus;
use larder::{CaSResult, Consensus, Effect, Failure, Retry};
use larder_testkit::service::{Authority, EtcdServer};
use tokio::io::AsyncReadExt as _;

use crate::place::{assert_fails, cas, in_the_end, no_tls, open, version, within};

#[path = "../support/front.rs"]
mod front;

use front::{acceptor, listen};

const LIMIT: Duration = Duration::from_secs(5);

/// A server with a certificate for a name, and the authority that signed it.
struct Secured {
    server: EtcdServer,
    authority: Authority,
}

impl Secured {
    fn named(name: &str) -> Self {
        let authority = Authority::new().unwrap();
        let identity = authority.certify(name).unwrap();
        Self { server: EtcdServer::start_with_tls(&identity, &[]).unwrap(), authority }
    }

    fn port(&self) -> u16 {
        self.server.tls_port().unwrap()
    }

    fn uri(&self, host: &str) -> String {
        uri(&format!("{host}:{}", self.port()), &self.authority)
    }
}

fn uri(hosts: &str, authority: &Authority) -> String {
    format!("etcds://{hosts}/x?timeout=2s&ca={}", authority.file().display())
}

pub(crate) async fn a_server_with_a_good_certificate_is_used_and_found_again() {
    for host in ["localhost", "127.0.0.1"] {
        let secured = Secured::named(host);
        let store = open(&secured.uri(host)).await;
        let large = version(1, &"x".repeat(1 << 20));
        assert_eq!(cas(&store, "k", None, large.clone()).await.unwrap(), CaSResult::Committed);
        assert_eq!(store.head("k").await.unwrap(), Some(large.clone()));
        secured.server.kill();
        for _ in 0..3 {
            let error = within(LIMIT, store.head("k")).await.unwrap_err();
            assert_eq!((error.effect(), error.retry()), (Effect::NotApplied, Retry::Later));
        }
        let never = cas(&store, "k", Some(1), version(3, "never")).await;
        assert_fails(never, Effect::NotApplied, Retry::Later);
        secured.server.restart().unwrap();
        assert_eq!(in_the_end(async || store.head("k").await).await, Some(large));
        larder::registry::drop_prefix(&secured.uri(host)).await.unwrap();
        assert_eq!(store.head("k").await.unwrap(), None);
    }
}

pub(crate) async fn a_server_that_is_somebody_else_is_not_used() {
    let (secured, other) = (Secured::named("localhost"), Authority::new().unwrap());
    let at = |host: &str| format!("me:hush@{host}:{}", secured.port());
    no_tls(EtcdConsensus::open(&uri(&at("127.0.0.1"), &secured.authority)).await, "not valid for");
    no_tls(EtcdConsensus::open(&uri(&at("localhost"), &other)).await, "UnknownIssuer");
    let nowhere = format!("etcds://{}/x?ca=/nowhere", at("localhost"));
    no_tls(EtcdConsensus::open(&nowhere).await, "cannot read ca=/nowhere");
    let nobody = tempfile::NamedTempFile::new().unwrap();
    let empty = nowhere.replace("/nowhere", nobody.path().to_str().unwrap());
    no_tls(EtcdConsensus::open(&empty).await, "no certificate of an authority");
    // The authorities of the machine do not know it either.
    no_tls(EtcdConsensus::open(&format!("etcds://{}/x", at("localhost"))).await, "");
    // One that is somebody else is passed over.
    let (listener, port) = listen().await;
    let acceptor = acceptor(&other.certify("localhost").unwrap());
    let posing = tokio::spawn(async move {
        let (client, _) = listener.accept().await.unwrap();
        // The client ends the handshake, and has told nothing.
        acceptor.accept(client).await.map(drop).unwrap_err();
    });
    let both = format!("localhost:{port},localhost:{}", secured.port());
    let store = open(&uri(&both, &secured.authority)).await;
    assert_eq!(store.head("k").await.unwrap(), None);
    posing.await.unwrap();
}

pub(crate) async fn plain_and_tls_do_not_mix() {
    let secured = Secured::named("localhost");
    let plain = format!("etcd://localhost:{}/x?timeout=2s", secured.port());
    let tls = uri(&format!("localhost:{}", secured.server.port()), &secured.authority);
    for (uri, words) in [
        (plain, "cannot connect to etcd://localhost:"),
        (tls, "cannot connect to etcds://localhost:"),
    ] {
        let error = within(LIMIT, EtcdConsensus::open(&uri)).await.unwrap_err();
        let told = larder::error::chain(&error);
        assert_eq!((error.effect(), error.retry()), (Effect::NotApplied, Retry::Later), "{told}");
        assert!(told.contains(words), "{told}");
    }
    // Authorities without TLS are a misunderstanding.
    let error = EtcdConsensus::open("etcd://localhost/x?ca=/ca.pem").await.unwrap_err();
    assert!(error.to_string().contains("ca (with etcds)"), "{error}");
}

pub(crate) async fn a_server_that_is_silent_fails_calls_in_time() {
    let (listener, port) = listen().await;
    let silent = tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut heard = Vec::new();
        let _ = client.read_to_end(&mut heard).await;
        // A handshake, and nothing in the clear.
        assert_eq!(heard.first(), Some(&22));
    });
    let authority = Authority::new().unwrap();
    let uri = uri(&format!("localhost:{port}"), &authority);
    let error = within(LIMIT, EtcdConsensus::open(&uri)).await.unwrap_err();
    assert_eq!((error.effect(), error.retry()), (Effect::NotApplied, Retry::Later), "{error:?}");
    silent.await.unwrap();
}
