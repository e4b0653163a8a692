//! Reads that take more than one request.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::join_all;
use larder::{CaSResult, Consensus, SeqNo};
use larder_testkit::service::EtcdServer;

use crate::place::{cas, in_the_end, number, open, version, within};

pub(crate) async fn a_long_scan_is_one_slice_while_others_write_truncate_and_compact() {
    /// More than a page.
    const LONG: u64 = 90;
    let server = Arc::new(EtcdServer::start().unwrap());
    let store = Arc::new(open(&format!("{}/x?timeout=20s", server.uri())).await);
    let data = "x".repeat(2_000);
    cas(&*store, "k", None, version(0, &data)).await.unwrap();
    let writing = {
        let (store, server) = (Arc::clone(&store), Arc::clone(&server));
        tokio::spawn(async move {
            let mut head = 0;
            for turn in 0..15 {
                for _ in 0..LONG {
                    cas(&*store, "k", Some(head), version(head + 1, &data)).await.unwrap();
                    head += 1;
                }
                // Everything but the head: whoever reads on now finds a hole.
                store.truncate("k", SeqNo(head)).await.unwrap();
                if turn % 3 > 0 {
                    continue;
                }
                let server = Arc::clone(&server);
                let compact = move || {
                    let status = server.post("/v3/maintenance/status", "{}").unwrap();
                    let json = format!("{{\"revision\":{}}}", number(&status, "revision"));
                    server.post("/v3/kv/compaction", &json).unwrap();
                };
                tokio::task::spawn_blocking(compact).await.unwrap();
            }
            // Another history in steps.
            for _ in 0..LONG {
                cas(&*store, "k", Some(head), version(head + 1, &data)).await.unwrap();
                head += 1;
            }
        })
    };
    let mut longest = 0;
    while !writing.is_finished() {
        let slice = store.scan("k", SeqNo(0), usize::MAX).await.unwrap();
        let seqnos: Vec<u64> = slice.iter().map(|version| version.seqno.0).collect();
        let (first, last) = (seqnos[0], *seqnos.last().unwrap());
        assert_eq!(seqnos, (first..=last).collect::<Vec<_>>());
        longest = longest.max(seqnos.len());
    }
    writing.await.unwrap();
    assert!(longest > 64, "no scan was longer than a page: {longest}");
    // Cut, in the middle of a page that is not the first.
    let head = store.head("k").await.unwrap().unwrap().seqno.0;
    let some = store.scan("k", SeqNo(head - LONG + 1), 80).await.unwrap();
    let seqnos: Vec<u64> = some.iter().map(|version| version.seqno.0).collect();
    assert_eq!(seqnos, (head - LONG + 1..head - LONG + 81).collect::<Vec<_>>());
}

pub(crate) async fn large_heads_are_read_while_others_truncate() {
    let server = EtcdServer::start().unwrap();
    let store = Arc::new(open(&format!("{}/x?timeout=20s", server.uri())).await);
    // One byte more than what is kept with a head, and one less.
    let data =
        |seqno: u64| format!("{seqno:<width$}", width = 4095 + usize::try_from(seqno % 3).unwrap());
    cas(&*store, "k", None, version(0, &data(0))).await.unwrap();
    let writer = {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for head in 0..300 {
                cas(&*store, "k", Some(head), version(head + 1, &data(head + 1))).await.unwrap();
                store.truncate("k", SeqNo(head + 1)).await.unwrap();
            }
        })
    };
    let mut last = 0;
    while !writer.is_finished() {
        for head in join_all((0..8).map(|_| store.head("k"))).await {
            let head = head.unwrap().unwrap();
            assert_eq!(head, version(head.seqno.0, &data(head.seqno.0)));
            last = last.max(head.seqno.0);
        }
    }
    writer.await.unwrap();
    assert!(last > 10, "hardly anything was read");
    assert_eq!(store.scan("k", SeqNo(0), 9).await.unwrap(), [version(300, &data(300))]);
}

pub(crate) async fn many_keys_are_listed_page_by_page() {
    let server = EtcdServer::start().unwrap();
    let store = open(&format!("{}/x?timeout=20s", server.uri())).await;
    let keys: BTreeSet<String> = (0..2_500).map(|at| format!("key/{at:05}")).collect();
    for swapped in join_all(keys.iter().map(|key| cas(&store, key, None, version(1, "x")))).await {
        assert_eq!(swapped.unwrap(), CaSResult::Committed);
    }
    let (mut listed, mut listing) = (Vec::new(), store.list_keys());
    while let Some(key) = listing.next().await {
        listed.push(key.unwrap());
    }
    assert_eq!(listed, keys.into_iter().collect::<Vec<_>>());
}

pub(crate) async fn prefixes_do_not_meet_and_are_dropped_alone() {
    let server = EtcdServer::start().unwrap();
    let at = |prefix: &str| format!("{}/{prefix}", server.uri());
    let prefixes = ["a", "a/h", "a/v", "a0", "b"];
    let stores = join_all(prefixes.iter().map(|prefix| open_at(at(prefix)))).await;
    for (store, prefix) in stores.iter().zip(prefixes) {
        assert_eq!(store.head("k").await.unwrap(), None);
        cas(store, "k", None, version(1, prefix)).await.unwrap();
    }
    larder::registry::drop_prefix(&at("a")).await.unwrap();
    for (store, prefix) in stores.iter().zip(prefixes) {
        let left = (prefix != "a").then(|| version(1, prefix));
        assert_eq!(store.head("k").await.unwrap(), left, "{prefix}");
    }
}

pub(crate) async fn changes_of_other_processes_are_heard_of_and_restarts_outlived() {
    let server = Arc::new(EtcdServer::start().unwrap());
    let uri = format!("{}/x", server.uri());
    let (ours, theirs) = (open(&uri).await, open(&uri).await);
    for seqno in 0..20_u64 {
        let from = seqno.checked_sub(1);
        let write = async {
            if seqno % 2 == 0 {
                // Often enough after the watch was made.
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            cas(&theirs, "k", from, version(seqno, "x")).await.unwrap();
        };
        let wait = within(LIMIT, ours.changed("k", from.map(SeqNo)));
        tokio::join!(wait, write);
        assert_eq!(ours.head("k").await.unwrap(), Some(version(seqno, "x")));
    }
    // Nothing has happened since.
    let quiet = std::time::Duration::from_millis(200);
    assert!(tokio::time::timeout(quiet, ours.changed("k", Some(SeqNo(19)))).await.is_err());
    assert!(tokio::time::timeout(quiet, ours.changed("other", None)).await.is_err());
    // Nor while the server is away; then it is heard of, whoever was connected.
    let restart = async {
        let again = Arc::clone(&server);
        tokio::task::spawn_blocking(move || again.restart()).await.unwrap().unwrap();
        in_the_end(async || cas(&theirs, "k", Some(19), version(20, "x")).await).await;
    };
    tokio::join!(within(LIMIT, ours.changed("k", Some(SeqNo(19)))), restart);
}

const LIMIT: std::time::Duration = std::time::Duration::from_secs(20);

async fn open_at(uri: String) -> larder::consensus::EtcdConsensus {
    open(&uri).await
}
