//! A server that is spoken to over TLS.

use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use larder::cache::RedisCache;
use larder::{Condition, Effect, Failure, Retry, Tier};
use larder_testkit::service::{Authority, RedisServer};

use crate::place::{data, in_the_end, key, text, within};

/// A server with a certificate for `name`, and the authority that signed it.
struct Secured {
    server: RedisServer,
    port: u16,
    authority: Authority,
    _folder: tempfile::TempDir,
}

impl Secured {
    fn named(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |file: &str| folder.path().join(file).display().to_string();
        let authority = Authority::new().unwrap();
        authority.certify(name).unwrap().write_to(folder.path()).unwrap();

        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let server = RedisServer::start_with(&[
            "--tls-port",
            &port.to_string(),
            "--tls-cert-file",
            &at("cert.pem"),
            "--tls-key-file",
            &at("key.pem"),
            "--tls-auth-clients",
            "no",
            "--tls-ca-cert-file",
            &authority.file().display().to_string(),
        ]);
        let server = server.unwrap();
        Self { server, port, authority, _folder: folder }
    }

    fn uri(&self, host: &str, authority: &str) -> String {
        format!("rediss://{host}:{}/0?timeout=2s&ca={authority}", self.port)
    }
}

pub(crate) async fn a_server_with_a_good_certificate_is_used_and_found_again() {
    for host in ["localhost", "127.0.0.1"] {
        let secured = Secured::named(host);
        let uri = secured.uri(host, &secured.authority.file().display().to_string());
        let cache = RedisCache::open(&uri).await.unwrap();
        let k = key("k");
        let large = text(&"x".repeat(1 << 20));
        cache.write(k.as_ref(), large.clone(), Condition::Always).await.unwrap();
        assert_eq!(data(&cache, &k).await, Some(large.data));
        secured.server.command("CLIENT KILL TYPE normal SKIPME yes").unwrap();
        in_the_end(async || cache.read(k.as_ref()).await).await;
    }
}

pub(crate) async fn a_server_that_is_somebody_else_is_not_used() {
    let secured = Secured::named("localhost");
    let other = Secured::named("localhost");
    let [own, strange] = [&secured, &other].map(|one| one.authority.file().display().to_string());
    for (host, authority, words) in [
        ("127.0.0.1", own.as_str(), "not valid for name"),
        ("localhost", strange.as_str(), "UnknownIssuer"),
        ("localhost", "/nowhere/ca.pem", "cannot read ca=/nowhere/ca.pem"),
    ] {
        let error = RedisCache::open(&secured.uri(host, authority)).await.unwrap_err();
        let told = larder::error::chain(&error);
        assert_eq!(error.retry(), Retry::Never, "{told}");
        assert!(told.contains("no TLS with rediss://") && told.contains(words), "{told}");
    }
    // The authorities of the machine do not know it either.
    let uri = format!("rediss://localhost:{}/0", secured.port);
    assert_eq!(RedisCache::open(&uri).await.unwrap_err().retry(), Retry::Never);
    assert_eq!(secured.server.command("DBSIZE").unwrap(), ":0\r\n");
}

pub(crate) async fn plain_and_tls_do_not_mix() {
    let secured = Secured::named("localhost");
    let limit = Duration::from_secs(3);
    let authority = secured.authority.file().display();
    let plain = format!("redis://localhost:{}/0", secured.port);
    let tls = format!("rediss://localhost:{}/0?ca={authority}", secured.server.port());
    for uri in [plain, tls] {
        let error = within(limit, RedisCache::open(&uri)).await.unwrap_err();
        assert_eq!(error.effect(), Effect::NotApplied, "{error:?}");
    }
    // Authorities without TLS are a misunderstanding.
    let error = RedisCache::open("redis://localhost/0?ca=/ca.pem").await.unwrap_err();
    assert!(error.to_string().contains("ca (with rediss)"), "{error}");
}
