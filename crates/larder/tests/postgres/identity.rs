//! A server that wants to know over TLS who we are.

use larder::bus::{Bus, PostgresBus, Topic};
use larder::cache::PostgresCache;
use larder::consensus::PostgresConsensus;
use larder::{Condition, Consensus, Effect, Failure, Retry, Tier};
use larder_testkit::service::{Authority, PostgresServer};

use crate::place::{key, text};

#[path = "../support/identity.rs"]
mod ours;

use ours::Ours;

const NAMES: [&str; 2] = ["sslcert", "sslkey"];

/// A server that wants certificates of `authority`, of which one is for the user `me`.
fn demanding() -> (PostgresServer, Authority, Ours) {
    let authority = Authority::new().unwrap();
    let identity = authority.certify("localhost").unwrap();
    let settings = ["fsync=on"];
    let server = PostgresServer::start_with_tls_for(&identity, authority.file(), &settings);
    let server = server.unwrap();
    server.query("CREATE ROLE me LOGIN; GRANT CREATE ON DATABASE postgres TO me").unwrap();
    let ours = Ours::named("me", &authority, NAMES);
    (server, authority, ours)
}

fn uri(server: &PostgresServer, user: &str, authority: &Authority, ours: &str) -> String {
    let (port, ca) = (server.port(), authority.file().display());
    format!("postgres://{user}@localhost:{port}/postgres?sslmode=verify-full&ca={ca}&{ours}")
        .trim_end_matches('&')
        .to_owned()
}

#[track_caller]
fn refused<T: std::fmt::Debug, E: Failure + 'static>(ended: Result<T, E>, words: &str) {
    let error = ended.unwrap_err();
    let told = larder::error::chain(&error);
    assert_eq!((error.effect(), error.retry()), (Effect::NotApplied, Retry::Never), "{told}");
    assert!(told.contains(words), "{words:?} is not in {told}");
}

pub(crate) async fn a_server_that_wants_a_certificate_is_shown_ours() {
    let (server, authority, ours) = demanding();
    let uri = uri(&server, "me", &authority, &ours.parameters());
    let cache = PostgresCache::open(&uri).await.unwrap();
    cache.write(key("k").as_ref(), text("x"), Condition::Always).await.unwrap();
    let store = PostgresConsensus::open(&uri).await.unwrap();
    assert_eq!(store.head("k").await.unwrap(), None);
    let bus = PostgresBus::attach(&uri).unwrap();
    let topic = Topic::new("news").unwrap();
    let mut subscription = bus.subscribe(&topic).await.unwrap();
    bus.publish(&topic, "heard".into()).await.unwrap();
    assert_eq!(subscription.next().await.unwrap(), "heard");
    let known = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                 WHERE usename = 'me' AND client_dn = '/CN=me'";
    assert!(crate::place::number(&server, known) >= 4, "one each, and one that listens");
    larder::registry::drop_schema(&uri).await.unwrap();
}

pub(crate) async fn whoever_has_not_the_right_certificate_is_not_let_in() {
    let (server, authority, ours) = demanding();
    let open = async |user: &str, ours: &str| {
        PostgresConsensus::open(&uri(&server, user, &authority, ours)).await
    };
    refused(open("me", "").await, "28000");
    // That of somebody else, and one from an authority that the server does not know.
    server.query("CREATE ROLE you LOGIN").unwrap();
    refused(open("you", &ours.parameters()).await, "28000");
    let strange = Ours::named("me", &Authority::new().unwrap(), NAMES);
    refused(open("me", &strange.parameters()).await, "no TLS with postgres://localhost:");
    open("me", &ours.parameters()).await.unwrap();
}

pub(crate) async fn a_certificate_that_is_of_no_use_is_named() {
    let (server, authority, ours) = demanding();
    let other = Ours::named("me", &authority, NAMES);
    for (parameters, words) in ours.useless(&other) {
        let uri = uri(&server, "me", &authority, &parameters);
        refused(PostgresCache::open(&uri).await, &words);
    }
    // It is read for each connection: one that was renewed is used.
    let cache = PostgresCache::open(&uri(&server, "me", &authority, &other.parameters())).await;
    let (cache, k) = (cache.unwrap(), key("k"));
    other.replace("me", &Authority::new().unwrap());
    server.terminate("larder").unwrap();
    let error = loop {
        match cache.read(k.as_ref()).await {
            Err(error) if error.retry() == Retry::Later => {}
            ended => break ended.unwrap_err(),
        }
    };
    assert!(larder::error::chain(&error).contains("no TLS with"), "{error:?}");
    other.replace("me", &authority);
    // What was wrong is remembered for a moment.
    while let Err(error) = cache.read(k.as_ref()).await {
        assert!(larder::error::chain(&error).contains("no TLS with"), "{error:?}");
    }
}
