//! A server that says no.

use larder::cache::PostgresCache;
use larder::consensus::PostgresConsensus;
use larder::registry::OpenError;
use larder::{Condition, Consensus, Durability, Effect, Failure, Retry, Tier};
use larder_testkit::service::PostgresServer;

use crate::place::{assert_fails, cache, data, in_the_end, key, number, text, uri, version};

pub(crate) async fn every_refusal_has_its_effect_over_the_wire() {
    use Effect::{NotApplied, Unknown};
    use Retry::{Later, Never};
    let server = PostgresServer::shared().unwrap();
    let cache = cache(&server, "schema=refused&timeout=10s");
    let k = key("hush");
    cache.write(k.as_ref(), text("old"), Condition::Always).await.unwrap();
    let table = [
        ("40001", NotApplied, Later),
        ("40P01", NotApplied, Later),
        ("53100", NotApplied, Later),
        ("57014", NotApplied, Later),
        ("25006", NotApplied, Later),
        ("23505", NotApplied, Never),
        ("22001", NotApplied, Never),
        ("40003", Unknown, Later),
        ("57P01", Unknown, Later),
        ("58030", Unknown, Later),
        ("P0001", Unknown, Never),
        ("XX000", Unknown, Never),
    ];
    for (code, effect, retry) in table {
        let raising = format!(
            "CREATE OR REPLACE FUNCTION refused.refuse() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN RAISE EXCEPTION 'hush' USING ERRCODE = '{code}', DETAIL = 'hush'; END $$; \
             CREATE OR REPLACE TRIGGER refuse BEFORE INSERT OR UPDATE OR DELETE ON refused.cache \
             FOR EACH ROW EXECUTE FUNCTION refused.refuse()"
        );
        server.query(&raising).unwrap();
        let newer = Condition::IfNewerThan(version(1));
        let entries = vec![(k.clone(), text("hush"))];
        for told in [
            assert_fails(
                cache.write(k.as_ref(), text("hush"), Condition::Always).await,
                effect,
                retry,
            ),
            assert_fails(cache.write_many(entries, newer).await, effect, retry),
            assert_fails(cache.remove(k.as_ref(), newer).await, effect, retry),
        ] {
            assert!(told.contains(code) && !told.contains("hush"), "{told}");
        }
        assert_eq!(data(&cache, &k).await.unwrap(), "old", "{code}");
    }
}

#[track_caller]
fn refused(opened: Result<PostgresCache, OpenError>, retry: Retry, words: &str) {
    let error = opened.unwrap_err();
    assert_eq!((error.effect(), error.retry()), (Effect::NotApplied, retry), "{error:?}");
    let told = format!("{} {error:?}", larder::error::chain(&error));
    assert!(told.contains(words), "{told}");
    assert!(!told.contains("hush"), "{told}");
}

pub(crate) async fn a_wrong_login_is_told_at_once_and_not_shown() {
    let server = PostgresServer::shared().unwrap();
    server.query("CREATE ROLE reader LOGIN PASSWORD 'hush'").unwrap();
    server.query("GRANT CREATE ON DATABASE postgres TO reader").unwrap();
    let at = |login: &str, database: &str| {
        format!("postgres://{login}@127.0.0.1:{}/{database}?schema=login", server.port())
    };
    let never = Retry::Never;
    refused(PostgresCache::open(&at("reader", "postgres")).await, never, "28P01");
    refused(PostgresCache::open(&at("reader:hush-not", "postgres")).await, never, "28P01");
    refused(PostgresCache::open(&at("nobody:hush", "postgres")).await, never, "28P01");
    refused(PostgresCache::open(&at("reader:hush", "nowhere")).await, never, "3D000");
    let cache = PostgresCache::open(&at("reader:hush", "postgres")).await.unwrap();
    cache.write(key("k").as_ref(), text("x"), Condition::Always).await.unwrap();
    assert!(!format!("{cache:?}").contains("hush"));
}

pub(crate) async fn a_user_without_rights_is_refused() {
    let server = PostgresServer::shared().unwrap();
    server.query("CREATE ROLE guest LOGIN PASSWORD 'hush'").unwrap();
    let at = format!("postgres://guest:hush@127.0.0.1:{}/postgres?schema=rights", server.port());
    refused(PostgresCache::open(&at).await, Retry::Never, "42501");
    // Where somebody else has made the tables, the right to use them is enough.
    cache(&server, "schema=rights").clear().await.unwrap();
    server.query("GRANT USAGE ON SCHEMA rights TO guest").unwrap();
    server.query("GRANT SELECT ON ALL TABLES IN SCHEMA rights TO guest").unwrap();
    let cache = PostgresCache::open(&at).await.unwrap();
    assert_eq!(data(&cache, &key("k")).await, None);
    let written = cache.write(key("hush").as_ref(), text("hush"), Condition::Always).await;
    let told = assert_fails(written, Effect::NotApplied, Retry::Never);
    assert!(told.contains("42501") && !told.contains("hush"), "{told}");
}

pub(crate) async fn a_table_of_another_release_is_refused_and_left_alone() {
    let server = PostgresServer::shared().unwrap();
    let first = cache(&server, "schema=newer");
    first.write(key("k").as_ref(), text("x"), Condition::Always).await.unwrap();
    server.query("UPDATE newer.larder_layout SET layout = 99").unwrap();
    let error = PostgresCache::open(&uri(&server, "schema=newer")).await.unwrap_err();
    assert!(matches!(error, OpenError::Newer { .. }), "{error:?}");
    assert!(error.to_string().contains("layout 99"), "{error}");
    let attached = cache(&server, "schema=newer");
    assert_fails(attached.read(key("k").as_ref()).await, Effect::NotApplied, Retry::Never);
    assert_eq!(number(&server, "SELECT count(*) FROM newer.cache"), 1);
}

pub(crate) async fn a_standby_is_refused() {
    let server = PostgresServer::start().unwrap();
    let cache = cache(&server, "timeout=5s");
    cache.write(key("k").as_ref(), text("x"), Condition::Always).await.unwrap();
    server.restart_as_standby().unwrap();
    refused(PostgresCache::open(&server.uri()).await, Retry::Later, "standby");
    let written = async || cache.write(key("k").as_ref(), text("y"), Condition::Always).await;
    let mut told = String::new();
    for _ in 0..3 {
        // The first may find that its connection has ended.
        told = larder::error::chain(&written().await.unwrap_err());
    }
    assert!(told.contains("standby"), "{told}");
    server.query("SELECT pg_promote()").unwrap();
    assert!(in_the_end(written).await.applied);
}

pub(crate) async fn those_who_open_at_once_make_the_tables_once() {
    let server = PostgresServer::shared().unwrap();
    for round in 0..5 {
        let opening = (0..8).map(|_| {
            let uri = uri(&server, &format!("schema=race_{round}&timeout=10s"));
            tokio::spawn(async move { PostgresCache::open(&uri).await.map(drop) })
        });
        for opened in opening.collect::<Vec<_>>() {
            opened.await.unwrap().unwrap();
        }
    }
}

pub(crate) async fn a_consensus_that_may_lose_what_it_committed_is_refused() {
    let server = PostgresServer::start().unwrap();
    let refused = |error: OpenError, retry, words: &str| {
        assert_eq!((error.effect(), error.retry()), (Effect::NotApplied, retry), "{error:?}");
        let told = larder::error::chain(&error);
        assert!(told.contains(words), "{told}");
    };
    let error = larder::open_consensus(&server.uri()).await.unwrap_err();
    refused(error, Retry::Never, "fsync=off");
    let server = PostgresServer::start_with(&["fsync=on", "synchronous_commit=off"]).unwrap();
    let store = PostgresConsensus::open(&server.uri()).await.unwrap();
    assert_eq!(store.durability(), Durability::Power);
    let raised = "SELECT count(*) FROM pg_stat_activity a WHERE application_name = 'larder'";
    assert_eq!(number(&server, raised), 1);
    server.query("UPDATE larder.larder_layout SET layout = 99").unwrap();
    let error = larder::open_consensus(&server.uri()).await.unwrap_err();
    assert!(matches!(error, OpenError::Newer { .. }), "{error:?}");
    server.query("UPDATE larder.larder_layout SET layout = 1").unwrap();
    server.restart_as_standby().unwrap();
    let error = larder::open_consensus(&server.uri()).await.unwrap_err();
    refused(error, Retry::Later, "standby");
}
