//! A server that says no.

use std::time::Duration;

use larder::cache::RedisCache;
use larder::registry::OpenError;
use larder::{Condition, Effect, Failure, Retry, Tier};
use larder_testkit::service::RedisServer;

use crate::fake::{Answer, Fake};
use crate::place::{assert_fails, cache, data, in_the_end, key, text, version};

pub(crate) async fn every_refusal_has_its_effect_over_the_wire() {
    use Effect::{NotApplied, Unknown};
    use Retry::{Later, Never};
    let table = [
        ("-LOADING Redis is loading the dataset in memory", NotApplied, Later),
        ("-READONLY You can't write against a read only replica.", NotApplied, Later),
        ("-OOM command not allowed when used memory > 'maxmemory'.", NotApplied, Later),
        ("-MISCONF Redis is configured to save RDB snapshots", NotApplied, Later),
        ("-CLUSTERDOWN Hash slot not served", NotApplied, Later),
        ("-NOAUTH Authentication required.", NotApplied, Never),
        ("-NOPERM this user has no permissions", NotApplied, Never),
        ("-MOVED 3999 127.0.0.1:6381", NotApplied, Never),
        ("-ERR unknown command 'x', with args beginning with: 'hush'", NotApplied, Never),
        ("-SOMETHING nobody has looked at", Unknown, Never),
        // Not what was asked for at all.
        ("+hush", Unknown, Never),
        ("*1\r\n+hush", Unknown, Never),
    ];
    for (line, effect, retry) in table {
        let fake = Fake::start(Answer::Says(line), Answer::Says(line)).await;
        let cache = RedisCache::open(&fake.uri).await.unwrap();
        let k = key("hush");
        let newer = Condition::IfNewerThan(version(1));
        let told = [
            assert_fails(
                cache.write(k.as_ref(), text("x"), Condition::Always).await,
                effect,
                retry,
            ),
            assert_fails(cache.write(k.as_ref(), text("x"), newer).await, effect, retry),
            assert_fails(cache.remove(k.as_ref(), newer).await, effect, retry),
            assert_fails(cache.remove_many(&[k.as_ref()], newer).await, effect, retry),
            assert_fails(cache.read(k.as_ref()).await, NotApplied, retry),
            assert_fails(cache.read_many(&[k.as_ref()]).await, NotApplied, retry),
        ];
        assert!(told.iter().all(|told| !told.contains("hush")), "{told:?}");
    }
}

#[track_caller]
fn refused(opened: Result<RedisCache, OpenError>, words: &str) {
    let error = opened.unwrap_err();
    assert_eq!((error.effect(), error.retry()), (Effect::NotApplied, Retry::Never), "{error:?}");
    let told = format!("{} {error:?}", larder::error::chain(&error));
    assert!(told.contains(words), "{told}");
    assert!(!told.contains("hush"), "{told}");
}

pub(crate) async fn a_wrong_login_is_told_at_once_and_not_shown() {
    let server = RedisServer::start_with(&["--requirepass", "hush"]).unwrap();
    let at = |login: &str| format!("redis://{login}127.0.0.1:{}/0", server.port());
    refused(RedisCache::open(&at("")).await, "NOAUTH");
    refused(RedisCache::open(&at(":hush-not@")).await, "WRONGPASS");
    refused(RedisCache::open(&at("nobody:hush@")).await, "WRONGPASS");
    for login in [":hush@", "default:hush@"] {
        let cache = RedisCache::open(&at(login)).await.unwrap();
        cache.write(key("k").as_ref(), text("x"), Condition::Always).await.unwrap();
        assert!(!format!("{cache:?}").contains("hush"));
    }
}

pub(crate) async fn a_database_that_is_not_there_is_told_at_once() {
    let server = RedisServer::shared().unwrap();
    refused(RedisCache::open(&server.uri(99)).await, "DB index is out of range");
    let [one, two] = [server.uri(1), server.uri(2)];
    let [one, two] = [RedisCache::open(&one).await.unwrap(), RedisCache::open(&two).await.unwrap()];
    one.write(key("k").as_ref(), text("x"), Condition::Always).await.unwrap();
    assert_eq!(data(&two, &key("k")).await, None);
}

pub(crate) async fn a_full_server_refuses_writes_and_keeps_what_it_has() {
    let server = RedisServer::start().unwrap();
    let cache = cache(&server, "timeout=5s");
    let (k, newer) = (key("k"), Condition::IfNewerThan(version(1)));
    cache.write(k.as_ref(), text("old"), newer).await.unwrap();
    server.command("CONFIG SET maxmemory 1").unwrap();
    for condition in [Condition::Always, newer] {
        let written = cache.write(k.as_ref(), text("new"), condition).await;
        let told = assert_fails(written, Effect::NotApplied, Retry::Later);
        assert!(told.contains("OOM"), "{told}");
        assert_eq!(data(&cache, &k).await.unwrap(), "old");
    }
    server.command("CONFIG SET maxmemory 0").unwrap();
    cache.write(k.as_ref(), text("new"), newer).await.unwrap();
    assert_eq!(data(&cache, &k).await.unwrap(), "new");
}

pub(crate) async fn a_replica_refuses_writes_and_answers_reads() {
    let server = RedisServer::start().unwrap();
    let cache = cache(&server, "timeout=5s");
    let (k, newer) = (key("k"), Condition::IfNewerThan(version(1)));
    cache.write(k.as_ref(), text("old"), newer).await.unwrap();
    server.command("REPLICAOF 127.0.0.1 1").unwrap();
    for condition in [Condition::Always, newer] {
        let written = cache.write(k.as_ref(), text("new"), condition).await;
        let told = assert_fails(written, Effect::NotApplied, Retry::Later);
        assert!(told.contains("READONLY"), "{told}");
    }
    assert_eq!(data(&cache, &k).await.unwrap(), "old");
    // Another connection is tried from time to time: behind the name there may be another server.
    let first = clients(&server);
    for turn in 0.. {
        cache.write(k.as_ref(), text("new"), newer).await.unwrap_err();
        assert_eq!(data(&cache, &k).await.unwrap(), "old");
        if clients(&server) != first {
            break;
        }
        assert!(turn < 1_000, "the connection stays the same");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    server.command("REPLICAOF NO ONE").unwrap();
    cache.write(k.as_ref(), text("new"), newer).await.unwrap();
    assert_eq!(data(&cache, &k).await.unwrap(), "new");
}

/// The ids of the connections, but for the one that asks.
fn clients(server: &RedisServer) -> Vec<String> {
    let list = server.command("CLIENT LIST TYPE normal").unwrap();
    let others = list.lines().filter(|line| !line.contains("cmd=client"));
    others
        .filter_map(|line| line.split(' ').find(|word| word.starts_with("id=")))
        .map(str::to_owned)
        .collect()
}

pub(crate) async fn a_user_without_leave_is_refused() {
    let server = RedisServer::start().unwrap();
    server.command("ACL SETUSER reader on >hush ~mine:* +ping +get +mget").unwrap();
    let at = |namespace: &str| {
        format!("redis://reader:hush@127.0.0.1:{}/0?namespace={namespace}", server.port())
    };
    let mine = RedisCache::open(&at("mine")).await.unwrap();
    let k = key("hush");
    assert_eq!(data(&mine, &k).await, None);
    let other = RedisCache::open(&at("other")).await.unwrap();
    for told in [
        assert_fails(
            mine.write(k.as_ref(), text("x"), Condition::Always).await,
            Effect::NotApplied,
            Retry::Never,
        ),
        assert_fails(other.read(k.as_ref()).await, Effect::NotApplied, Retry::Never),
    ] {
        assert!(told.contains("NOPERM") && !told.contains("hush"), "{told}");
    }
}

pub(crate) async fn a_busy_server_is_waited_for() {
    let server = RedisServer::start().unwrap();
    server.command("CONFIG SET busy-reply-threshold 20").unwrap();
    let cache = cache(&server, "timeout=5s");
    let k = key("k");
    cache.write(k.as_ref(), text("x"), Condition::Always).await.unwrap();
    let script = std::thread::scope(|scope| {
        let busy = scope.spawn(|| server.command(r#"EVAL "while true do end" 0"#));
        let told = tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                // The script may not have come yet.
                let refused = loop {
                    let read = cache.read(k.as_ref()).await;
                    if read.is_err() {
                        break read;
                    }
                };
                assert_fails(refused, Effect::NotApplied, Retry::Later)
            })
        });
        assert!(told.contains("BUSY"), "{told}");
        server.command("SCRIPT KILL").unwrap();
        busy.join().unwrap()
    });
    assert!(script.unwrap().contains("ERR"));
    let found = in_the_end(async || cache.read(k.as_ref()).await).await;
    assert_eq!(found.unwrap().value.data, "x");
}

pub(crate) async fn a_cluster_is_refused() {
    let server = RedisServer::start_with(&["--cluster-enabled", "yes"]).unwrap();
    let cache = cache(&server, "timeout=5s");
    let k = key("k");
    let told = assert_fails(cache.read(k.as_ref()).await, Effect::NotApplied, Retry::Later);
    assert!(told.contains("CLUSTERDOWN"), "{told}");
    let written = cache.write(k.as_ref(), text("x"), Condition::Always).await;
    assert_fails(written, Effect::NotApplied, Retry::Later);
}
