//! A server that wants to know over TLS who we are.

use larder::consensus::EtcdConsensus;
use larder::{CaSResult, Effect, Failure, Retry};
use larder_testkit::service::{Authority, EtcdServer};

use crate::place::{cas, in_the_end, let_in_me, no_tls, open, version};

#[path = "../support/identity.rs"]
mod ours;

use ours::Ours;

const NAMES: [&str; 2] = ["cert", "key"];

/// A server that wants certificates of `authority`, of which one is for the user `me`.
fn demanding() -> (EtcdServer, Authority, Ours) {
    let authority = Authority::new().unwrap();
    let clients = format!("--trusted-ca-file={}", authority.file().display());
    let settings = ["--client-cert-auth", clients.as_str()];
    let server = EtcdServer::start_with_tls(&authority.certify("localhost").unwrap(), &settings);
    let ours = Ours::named("me", &authority, NAMES);
    (server.unwrap(), authority, ours)
}

fn uri(server: &EtcdServer, authority: &Authority, ours: &str) -> String {
    let (port, ca) = (server.tls_port().unwrap(), authority.file().display());
    format!("etcds://localhost:{port}/shop?ca={ca}&{ours}").trim_end_matches('&').to_owned()
}

pub(crate) async fn a_server_that_wants_a_certificate_is_shown_ours() {
    let (server, authority, ours) = demanding();
    let store = open(&uri(&server, &authority, &ours.parameters())).await;
    assert_eq!(cas(&store, "k", None, version(1, "x")).await.unwrap(), CaSResult::Committed);
    // It is the user that the certificate names.
    let_in_me(&server);
    in_the_end(async || cas(&store, "k", Some(1), version(2, "x")).await).await;
    let elsewhere = uri(&server, &authority, &ours.parameters()).replace("/shop?", "/shops?");
    let error = EtcdConsensus::open(&elsewhere).await.unwrap_err();
    assert!(larder::error::chain(&error).contains("may not do that"), "{error:?}");
}

/// The server says why, and the network may be faster in telling that it has gone: nothing was done in any case.
async fn refused(uri: &str) {
    for _ in 0..50 {
        let opened = EtcdConsensus::open(uri).await;
        let error = opened.as_ref().unwrap_err();
        assert_eq!(error.effect(), Effect::NotApplied, "{error:?}");
        if error.retry() == Retry::Never {
            return no_tls(opened, "alert");
        }
    }
    panic!("nobody says why");
}

pub(crate) async fn whoever_has_not_the_right_certificate_is_not_let_in() {
    let (server, authority, ours) = demanding();
    refused(&uri(&server, &authority, "")).await;
    let strange = Ours::named("me", &Authority::new().unwrap(), NAMES);
    let strange = uri(&server, &authority, &strange.parameters());
    refused(&strange).await;
    open(&uri(&server, &authority, &ours.parameters())).await;
}

pub(crate) async fn a_certificate_that_is_of_no_use_is_named() {
    let (server, authority, ours) = demanding();
    let other = Ours::named("me", &authority, NAMES);
    for (parameters, words) in ours.useless(&other) {
        no_tls(EtcdConsensus::open(&uri(&server, &authority, &parameters)).await, &words);
    }
    let refused = async |uri: &str| EtcdConsensus::open(uri).await.unwrap_err().to_string();
    let half = refused("etcds://h/x?cert=/cert.pem").await;
    assert!(half.contains("cert") && half.contains("alone"), "{half}");
    let half = refused("etcds://h/x?key=/key.pem").await;
    assert!(half.contains("key") && half.contains("alone"), "{half}");
    let plain = refused("etcd://h/x?cert=/cert.pem&key=/key.pem").await;
    assert!(plain.contains("cert (with etcds)"), "{plain}");
    // It is read for each connection: one that was renewed is used.
    let store = open(&uri(&server, &authority, &other.parameters())).await;
    other.replace("me", &Authority::new().unwrap());
    server.restart().unwrap();
    let never = async || cas(&store, "k", None, version(1, "never")).await.unwrap_err();
    let mut error = never().await;
    while error.retry() == Retry::Later {
        error = never().await;
    }
    assert!(larder::error::chain(&error).contains("no TLS with"), "{error:?}");
    other.replace("me", &authority);
    // What was wrong is remembered for a moment.
    while let Err(error) = cas(&store, "k", None, version(1, "x")).await {
        assert!(larder::error::chain(&error).contains("no TLS with"), "{error:?}");
    }
}
