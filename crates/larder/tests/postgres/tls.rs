//! A server that is spoken to over TLS.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use larder::bus::{Bus, PostgresBus, Topic};
use larder::cache::PostgresCache;
use larder::consensus::PostgresConsensus;
use larder::registry::OpenError;
use larder::{CaSResult, Condition, Consensus, Effect, Failure, Retry, SeqNo, Tier, VersionedData};
use larder_testkit::service::{Authority, PostgresServer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

use crate::place::{data, in_the_end, key, number, text, within};

#[path = "../support/front.rs"]
mod front;

use front::{acceptor, listen};

/// The question for TLS with which a connection begins.
const QUESTION: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
const LIMIT: Duration = Duration::from_secs(5);

/// A server with a certificate for a name, and the authority that signed it.
struct Secured {
    server: PostgresServer,
    authority: Authority,
}

impl Secured {
    fn named(name: &str) -> Self {
        let authority = Authority::new().unwrap();
        let identity = authority.certify(name).unwrap();
        let server = PostgresServer::start_with_tls(&identity, &["fsync=on"]).unwrap();
        Self { server, authority }
    }

    fn uri(&self, login: &str, host: &str) -> String {
        uri(login, host, self.server.port(), &self.authority)
    }

    /// Connections of ours that are over TLS, or are not.
    fn connections(&self, is_over_tls: bool) -> u64 {
        let sql = format!(
            "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
             WHERE application_name = 'larder' AND ssl = {is_over_tls}"
        );
        number(&self.server, &sql)
    }
}

fn uri(login: &str, host: &str, port: u16, authority: &Authority) -> String {
    let ca = authority.file().display();
    format!("postgres://{login}@{host}:{port}/postgres?sslmode=verify-full&ca={ca}")
}

fn version(seqno: u64, text: &str) -> VersionedData {
    VersionedData { seqno: SeqNo(seqno), data: Bytes::copy_from_slice(text.as_bytes()) }
}

#[track_caller]
fn no_tls<T: std::fmt::Debug>(opened: Result<T, OpenError>, words: &str) {
    let error = opened.unwrap_err();
    let told = larder::error::chain(&error);
    assert_eq!((error.effect(), error.retry()), (Effect::NotApplied, Retry::Never), "{told}");
    assert!(told.contains("no TLS with postgres://") && told.contains(words), "{told}");
    assert!(!format!("{told} {error:?}").contains("hush"), "{told}");
}

pub(crate) async fn a_server_with_a_good_certificate_is_used_by_all_and_found_again() {
    for host in ["localhost", "127.0.0.1"] {
        let secured = Secured::named(host);
        let uri = format!("{}&timeout=10s", secured.uri("larder", host));
        let cache = PostgresCache::open(&uri).await.unwrap();
        let k = key("k");
        let large = text(&"x".repeat(1 << 20));
        cache.write(k.as_ref(), large.clone(), Condition::Always).await.unwrap();
        let store = larder::open_consensus(&uri).await.unwrap();
        let won = store.compare_and_set("k", None, version(1, "first")).await.unwrap();
        assert_eq!(won, CaSResult::Committed);
        let bus = PostgresBus::attach(&uri).unwrap();
        let topic = Topic::new("news").unwrap();
        let mut subscription = bus.subscribe(&topic).await.unwrap();
        bus.publish(&topic, Bytes::from("heard")).await.unwrap();
        assert_eq!(subscription.next().await.unwrap(), "heard");
        assert!(secured.connections(true) >= 4, "one each, and one that listens");
        assert_eq!(secured.connections(false), 0);

        secured.server.terminate("larder").unwrap();
        assert!(subscription.next().await.is_err());
        in_the_end(async || cache.read(k.as_ref()).await).await;
        assert_eq!(data(&cache, &k).await, Some(large.data));
        let head = loop {
            match store.head("k").await {
                Ok(head) => break head,
                Err(error) => assert_eq!(error.retry(), Retry::Later, "{error:?}"),
            }
        };
        assert_eq!(head, Some(version(1, "first")));
        larder::registry::drop_schema(&uri).await.unwrap();
        assert_eq!(secured.connections(false), 0);
    }
}

pub(crate) async fn a_server_that_is_somebody_else_is_not_used() {
    let (secured, other) = (Secured::named("localhost"), Authority::new().unwrap());
    let port = secured.server.port();
    secured.server.query("CREATE ROLE me LOGIN SUPERUSER PASSWORD 'hush'").unwrap();
    no_tls(PostgresCache::open(&secured.uri("me:hush", "127.0.0.1")).await, "not valid for name");
    let strange = uri("me:hush", "localhost", port, &other);
    no_tls(PostgresCache::open(&strange).await, "UnknownIssuer");
    no_tls(PostgresConsensus::open(&strange).await, "UnknownIssuer");
    let bus = PostgresBus::attach(&strange).unwrap();
    let topic = Topic::new("news").unwrap();
    let error = bus.subscribe(&topic).await.unwrap_err();
    assert_eq!((error.effect(), error.retry()), (Effect::NotApplied, Retry::Never), "{error:?}");
    let nowhere = format!("postgres://me:hush@localhost:{port}?sslmode=verify-full&ca=/nowhere");
    no_tls(PostgresCache::open(&nowhere).await, "cannot read ca=/nowhere");
    let nobody = tempfile::NamedTempFile::new().unwrap();
    let empty = nowhere.replace("/nowhere", nobody.path().to_str().unwrap());
    no_tls(PostgresCache::open(&empty).await, "no certificate of an authority");
    // The authorities of the machine do not know it either, and `require` asks them, too.
    for word in ["verify-full", "require"] {
        let machine = format!("postgres://me:hush@localhost:{port}/postgres?sslmode={word}");
        no_tls(PostgresCache::open(&machine).await, "");
    }
    PostgresCache::open(&secured.uri("me:hush", "localhost")).await.unwrap();
}

pub(crate) async fn a_server_that_is_somebody_else_is_told_neither_user_nor_password() {
    let (authority, other) = (Authority::new().unwrap(), Authority::new().unwrap());
    for (certified_by, host) in [(&other, "localhost"), (&authority, "elsewhere")] {
        let acceptor = acceptor(&certified_by.certify(host).unwrap());
        let (listener, port) = listen().await;
        let posing = tokio::spawn(async move {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut asked = [0; 8];
            client.read_exact(&mut asked).await.unwrap();
            assert_eq!(asked, QUESTION);
            client.write_all(b"S").await.unwrap();
            // The client ends the handshake.
            acceptor.accept(client).await.map(drop).unwrap_err();
        });
        let opened = PostgresCache::open(&uri("me:hush", "localhost", port, &authority)).await;
        no_tls(opened, "certificate");
        posing.await.unwrap();
    }
}

pub(crate) async fn a_server_without_tls_is_refused_when_tls_was_asked_for() {
    let (server, authority) = (PostgresServer::shared().unwrap(), Authority::new().unwrap());
    let uri = uri("larder", "127.0.0.1", server.port(), &authority);
    no_tls(PostgresCache::open(&uri).await, "ssl=on");
    // Who does not ask for it is served by one that has it.
    let secured = Secured::named("localhost");
    let plain = format!("{}?sslmode=disable", secured.server.uri());
    PostgresConsensus::open(&plain).await.unwrap();
}

pub(crate) async fn whoever_says_that_there_is_no_tls_hears_nothing_more() {
    let authority = Authority::new().unwrap();
    for (answer, retry) in [(b'N', Retry::Never), (b'R', Retry::Never), (b'E', Retry::Later)] {
        let (listener, port) = listen().await;
        let between = tokio::spawn(async move {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut asked = [0; 8];
            client.read_exact(&mut asked).await.unwrap();
            client.write_all(&[answer]).await.unwrap();
            let mut more = Vec::new();
            let _ = client.read_to_end(&mut more).await;
            assert_eq!(more, b"", "what was said in the clear");
        });
        let opened = PostgresCache::open(&uri("me:hush", "localhost", port, &authority)).await;
        let error = opened.unwrap_err();
        assert_eq!((error.effect(), error.retry()), (Effect::NotApplied, retry), "{error:?}");
        between.await.unwrap();
    }
}

pub(crate) async fn what_is_said_in_the_clear_is_not_taken_for_what_is_protected() {
    let secured = Secured::named("localhost");
    let (listener, port) = listen().await;
    let server = secured.server.port();
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).await.unwrap();
        let mut asked = [0; 8];
        client.read_exact(&mut asked).await.unwrap();
        server.write_all(&asked).await.unwrap();
        assert_eq!(server.read_u8().await.unwrap(), b'S');
        // With a welcome of its own behind it.
        client.write_all(b"SR\0\0\0\x08\0\0\0\0Z\0\0\0\x05I").await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
    });
    let uri = uri("larder", "localhost", port, &secured.authority);
    let opened = within(LIMIT, PostgresCache::open(&uri)).await;
    no_tls(opened, "");
}

pub(crate) async fn a_server_that_is_silent_about_tls_fails_calls_in_time() {
    let authority = Authority::new().unwrap();
    let (listener, port) = listen().await;
    let limit = Duration::from_millis(300);
    let uri = format!("{}&timeout=300ms", uri("larder", "localhost", port, &authority));
    let cache = PostgresCache::builder(&uri).unwrap().attach();
    let error = within(limit, cache.read(key("k").as_ref())).await.unwrap_err();
    assert_eq!((error.effect(), error.retry()), (Effect::NotApplied, Retry::Later), "{error:?}");
    drop(listener);
}

/// Connects over TLS to whomever the authorities of a file know.
fn connector(authorities: &Path) -> TlsConnector {
    let mut trusted = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(authorities).unwrap() {
        trusted.add(certificate.unwrap()).unwrap();
    }
    let settings = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(trusted)
        .with_no_client_auth();
    Arc::new(settings).into()
}

/// Somebody with a certificate that is as good as the server's own, from a careless authority: a login is
/// bound to the connection, and does not pass.
pub(crate) async fn a_login_does_not_pass_through_somebody_with_a_good_certificate() {
    let secured = Secured::named("localhost");
    secured.server.query("CREATE ROLE me LOGIN SUPERUSER PASSWORD 'hush'").unwrap();
    let as_server = acceptor(&secured.authority.certify("localhost").unwrap());
    let as_client = connector(secured.authority.file());
    let (listener, port) = listen().await;
    let server = secured.server.port();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let (as_server, as_client) = (as_server.clone(), as_client.clone());
            tokio::spawn(async move {
                let mut asked = [0; 8];
                client.read_exact(&mut asked).await.unwrap();
                client.write_all(b"S").await.unwrap();
                let mut client = as_server.accept(client).await.unwrap();
                let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).await.unwrap();
                server.write_all(&QUESTION).await.unwrap();
                assert_eq!(server.read_u8().await.unwrap(), b'S');
                let name = "localhost".try_into().unwrap();
                let mut server = as_client.connect(name, server).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    // The way is good: who needs no password gets through.
    PostgresCache::open(&uri("larder", "localhost", port, &secured.authority)).await.unwrap();
    let opened = PostgresCache::open(&uri("me:hush", "localhost", port, &secured.authority)).await;
    let error = opened.unwrap_err();
    let told = larder::error::chain(&error);
    assert_eq!((error.effect(), error.retry()), (Effect::NotApplied, Retry::Never), "{told}");
    assert!(told.contains("28000") && !told.contains("hush"), "{told}");
}
