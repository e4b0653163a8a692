//! One request after the other that fails, in every way, and what becomes of the call.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use larder::consensus::ObjectConsensus;
use larder::{CaSResult, Clock as _, Consensus, Effect, Retry, SeqNo, SystemClock};
use larder_testkit::service::{S3Fault, S3Refusal, S3Server};

use crate::place::{assert_fails, cas, commit, mismatch, store, version, versions};

async fn opened(parameters: &str) -> (S3Server, ObjectConsensus) {
    let server = S3Server::start().unwrap();
    let store = store(&server, parameters).await;
    commit(&store, None, 1, "one").await;
    (server, store)
}

fn now() -> Instant {
    SystemClock.instant()
}

pub(crate) async fn a_lost_reply_is_settled_by_reading() {
    let (server, store) = opened("timeout=10s").await;
    server.next_put(S3Fault::ReplyLost);
    let puts = server.puts();
    commit(&store, Some(1), 2, "two").await;
    // It was not sent again: reading was enough.
    assert_eq!(server.puts(), puts + 1);
    // The first of a key as well.
    server.next_put(S3Fault::ReplyLost);
    let first = store.compare_and_set("new", None, version(5, "five")).await.unwrap();
    assert_eq!(first, CaSResult::Committed);
    assert_eq!(versions(&store).await, [version(1, "one"), version(2, "two")]);
}

pub(crate) async fn a_lost_request_is_sent_again() {
    let (server, store) = opened("timeout=10s").await;
    for seqno in 2..6 {
        server.next_put(S3Fault::RequestLost);
        commit(&store, Some(seqno - 1), seqno, "again").await;
    }
    assert_eq!(versions(&store).await.len(), 5);
    assert_eq!(server.failed(), 4);
}

/// Those that pass.
const REFUSALS: [S3Refusal; 5] = [
    S3Refusal::Conflict,
    S3Refusal::Precondition,
    S3Refusal::Internal,
    S3Refusal::SlowDown,
    S3Refusal::Unavailable,
];

pub(crate) async fn every_refusal_is_settled_by_reading() {
    let (server, store) = opened("timeout=10s").await;
    let mut head = 1;
    for refusal in REFUSALS {
        for fault in [S3Fault::Refused(refusal), S3Fault::DoneButRefused(refusal)] {
            server.next_put(fault);
            let puts = server.puts();
            commit(&store, Some(head), head + 1, "in the end").await;
            assert_eq!(server.puts(), puts + 1, "{fault:?} was carried out twice");
            head += 1;
        }
        // And when there is nothing to be done, nothing is.
        server.next_put(S3Fault::Refused(refusal));
        assert_eq!(cas(&store, None, 1, "never").await.unwrap(), mismatch(Some(head)));
        server.calm();
    }
    // A refusal for good is told at once.
    for refusal in [S3Refusal::Denied, S3Refusal::NotImplemented] {
        server.next_put(S3Fault::Refused(refusal));
        let answer = cas(&store, Some(head), head + 1, "hush").await;
        assert_fails(answer, Effect::NotApplied, Retry::Never);
    }
    assert_eq!(store.head("k").await.unwrap().unwrap().seqno, SeqNo(head));
}

/// What a call says at the end of its time.
pub(crate) async fn what_is_settled_by_no_time_is_unknown_or_not_as_the_case_may_be() {
    use Effect::{NotApplied, Unknown};
    let table = [
        (S3Fault::Refused(S3Refusal::TooMany), NotApplied, "429"),
        (S3Fault::Refused(S3Refusal::SlowDown), Unknown, "SlowDown"),
        (S3Fault::Refused(S3Refusal::Unavailable), Unknown, "503"),
        (S3Fault::Refused(S3Refusal::Internal), Unknown, "InternalError"),
        (S3Fault::Refused(S3Refusal::Conflict), Unknown, "409"),
        (S3Fault::Refused(S3Refusal::Precondition), Unknown, "412"),
        (S3Fault::RequestLost, Unknown, "ended before the answer"),
        (S3Fault::Late, Unknown, "ended before the answer"),
    ];
    let rows = table.map(async |(fault, effect, words)| {
        let (server, store) = opened("timeout=1500ms").await;
        for _ in 0..1_000 {
            server.next_put(fault);
        }
        // By the same timer as its own limit: what stops the whole process for a while stops both.
        let ended = tokio::time::timeout(Duration::from_secs(4), cas(&store, Some(1), 2, "hush"));
        let ended = ended.await.unwrap_or_else(|_| panic!("{fault:?}: it goes on"));
        let told = assert_fails(ended, effect, Retry::Later);
        assert!(told.contains(words), "{fault:?}: {told}");
        server.calm();
        let expected = if fault == S3Fault::Late { 2 } else { 1 };
        server.let_late_ones_come().await;
        assert_eq!(store.head("k").await.unwrap().unwrap().seqno, SeqNo(expected), "{fault:?}");
    });
    join_all(rows).await;
    // Carried out, and nobody can be asked any more.
    let (server, store) = opened("timeout=1500ms").await;
    server.next_get(S3Fault::Slow(Duration::ZERO));
    server.next_put(S3Fault::ReplyLost);
    for _ in 0..1_000 {
        server.next_get(S3Fault::Refused(S3Refusal::SlowDown));
    }
    assert_fails(cas(&store, Some(1), 2, "hush").await, Unknown, Retry::Later);
    server.calm();
    assert_eq!(store.head("k").await.unwrap().unwrap(), version(2, "hush"));
}

pub(crate) async fn a_request_that_hangs_leaves_time_to_find_out() {
    let (server, store) = opened("timeout=3s").await;
    server.next_put(S3Fault::Hangs);
    let begun = now();
    commit(&store, Some(1), 2, "two").await;
    assert!(now() - begun >= Duration::from_millis(900), "it did not wait for an answer");
    server.next_get(S3Fault::Hangs);
    assert_eq!(store.head("k").await.unwrap().unwrap(), version(2, "two"));
    server.calm();
    assert_eq!(versions(&store).await, [version(1, "one"), version(2, "two")]);
}

pub(crate) async fn a_late_put_does_not_break_the_chain() {
    let (server, store) = opened("timeout=10s").await;
    // The first PUT is late, the second one is carried out in its place.
    server.next_put(S3Fault::Late);
    commit(&store, Some(1), 2, "two").await;
    commit(&store, Some(2), 3, "three").await;
    assert_eq!(server.let_late_ones_come().await, [412]);
    assert_eq!(versions(&store).await, [version(1, "one"), version(2, "two"), version(3, "three")]);

    // It is all that was sent, and comes when its caller has given up.
    let brief = crate::place::store(&server, "timeout=900ms").await;
    server.next_put(S3Fault::Late);
    for _ in 0..100 {
        server.next_put(S3Fault::RequestLost);
    }
    assert_fails(cas(&brief, Some(3), 4, "late").await, Effect::Unknown, Retry::Later);
    server.calm();
    // Somebody else looks in between: it is not there yet.
    assert_eq!(store.head("k").await.unwrap().unwrap().seqno, SeqNo(3));
    assert_eq!(server.let_late_ones_come().await, [200]);
    assert_eq!(store.head("k").await.unwrap().unwrap(), version(4, "late"));

    // It comes after somebody else has gone on: never.
    server.next_put(S3Fault::Late);
    for _ in 0..100 {
        server.next_put(S3Fault::RequestLost);
    }
    assert_fails(cas(&brief, Some(4), 5, "too late").await, Effect::Unknown, Retry::Later);
    server.calm();
    commit(&store, Some(4), 6, "six").await;
    assert_eq!(server.let_late_ones_come().await, [412]);
    assert_eq!(store.head("k").await.unwrap().unwrap(), version(6, "six"));
}

/// It was sent twice, and the first one comes before the second.
pub(crate) async fn a_late_put_that_comes_first_is_recognised() {
    let (server, store) = opened("timeout=30s").await;
    let faults = server.failed();
    server.next_put(S3Fault::Late);
    server.next_put(S3Fault::Hangs);
    let overtaking = async {
        while server.failed() < faults + 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(server.let_late_ones_come().await, [200]);
        server.calm();
    };
    let (mine, ()) = tokio::join!(cas(&store, Some(1), 2, "two"), overtaking);
    assert_eq!(mine.unwrap(), CaSResult::Committed);
    assert_eq!(versions(&store).await, [version(1, "one"), version(2, "two")]);
}

pub(crate) async fn a_late_first_put_makes_nothing_again_that_was_truncated() {
    let server = S3Server::start().unwrap();
    let store = store(&server, "timeout=10s").await;
    server.next_put(S3Fault::Late);
    commit(&store, None, 0, "zero").await;
    commit(&store, Some(0), 1, "one").await;
    assert_eq!(store.truncate("k", SeqNo(1)).await.unwrap(), 1);
    assert_eq!(server.let_late_ones_come().await, [412]);
    assert_eq!(versions(&store).await, [version(1, "one")]);
    assert_eq!(cas(&store, None, 0, "zero").await.unwrap(), mismatch(Some(1)));
}

pub(crate) async fn a_lost_truncation_is_counted_once() {
    let (server, store) = opened("timeout=10s").await;
    for seqno in 2..6 {
        commit(&store, Some(seqno - 1), seqno, "more").await;
    }
    server.next_put(S3Fault::ReplyLost);
    assert_eq!(store.truncate("k", SeqNo(3)).await.unwrap(), 2);
    server.next_put(S3Fault::RequestLost);
    assert_eq!(store.truncate("k", SeqNo(5)).await.unwrap(), 2);
    assert_eq!(store.truncate("k", SeqNo(5)).await.unwrap(), 0);
    assert_eq!(versions(&store).await, [version(5, "more")]);
}

/// The caller hears nothing of its PUT, and before it can look others go on, and truncate.
pub(crate) async fn a_put_that_others_have_built_upon_is_found() {
    for others in [1_u64, 40, 70] {
        let (server, store) = opened("timeout=20s").await;
        let other = crate::place::store(&server, "timeout=20s").await;
        let faults = server.failed();
        server.next_get(S3Fault::Slow(Duration::ZERO));
        server.next_put(S3Fault::ReplyLost);
        // The look that would settle it comes when the others are done.
        server.next_get(S3Fault::Hangs);
        let going_on = async {
            while server.failed() < faults + 3 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            for seqno in 2..2 + others {
                commit(&other, Some(seqno), seqno + 1, "other").await;
            }
            other.truncate("k", SeqNo(2 + others)).await.unwrap();
            server.calm();
        };
        let (mine, ()) = tokio::join!(cas(&store, Some(1), 2, "mine"), going_on);
        if others < 64 {
            assert_eq!(mine.unwrap(), CaSResult::Committed, "{others} others");
        } else {
            let told = assert_fails(mine, Effect::Unknown, Retry::Later);
            assert!(told.contains("nobody knows who came first"), "{told}");
        }
    }
}

pub(crate) async fn an_object_that_was_taken_away_is_told() {
    let (server, store) = opened("timeout=20s").await;
    let faults = server.failed();
    server.next_get(S3Fault::Slow(Duration::ZERO));
    server.next_put(S3Fault::RequestLost);
    server.next_get(S3Fault::Hangs);
    let taking_away = async {
        while server.failed() < faults + 3 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        for name in server.names().iter().filter(|name| name.contains("/keys/")) {
            server.remove(name).unwrap();
        }
        server.calm();
    };
    let (mine, ()) = tokio::join!(cas(&store, Some(1), 2, "mine"), taking_away);
    let told = assert_fails(mine, Effect::Unknown, Retry::Never);
    assert!(told.contains("has been removed"), "{told}");
}

pub(crate) async fn a_read_is_repeated() {
    let (server, store) = opened("timeout=10s").await;
    for fault in [
        S3Fault::Refused(S3Refusal::Internal),
        S3Fault::Refused(S3Refusal::SlowDown),
        S3Fault::Refused(S3Refusal::Unavailable),
        S3Fault::RequestLost,
        S3Fault::ReplyLost,
        S3Fault::Late,
    ] {
        server.next_get(fault);
        assert_eq!(store.head("k").await.unwrap().unwrap(), version(1, "one"), "{fault:?}");
        server.next_get(fault);
        let mut keys = store.list_keys();
        assert_eq!(keys.next().await.unwrap().unwrap(), "k", "{fault:?}");
        assert!(keys.next().await.is_none());
    }
    server.next_get(S3Fault::Refused(S3Refusal::Denied));
    assert_fails(store.head("k").await, Effect::NotApplied, Retry::Never);
}

pub(crate) async fn a_damaged_object_is_an_error_and_stays() {
    let (server, store) = opened("timeout=10s").await;
    let name = "test/keys/by-name/k";
    let sound = server.object(name).unwrap();
    let mut rotten = sound.clone();
    *rotten.last_mut().unwrap() ^= 1;
    let other = server.object(name).unwrap();
    for bytes in [&rotten[..], b"", b"something else", &sound[..sound.len() - 1]] {
        server.overwrite(name, bytes).unwrap();
        assert_fails(store.head("k").await, Effect::NotApplied, Retry::Never);
        assert_fails(store.scan("k", SeqNo::MIN, 9).await, Effect::NotApplied, Retry::Never);
        assert_fails(cas(&store, Some(1), 2, "hush").await, Effect::NotApplied, Retry::Never);
        assert_fails(store.truncate("k", SeqNo(1)).await, Effect::NotApplied, Retry::Never);
        assert_eq!(server.object(name).unwrap(), bytes);
    }
    // One that is sound, and of another key.
    server.overwrite("test/keys/by-name/j", &other).unwrap();
    let told = assert_fails(store.head("j").await, Effect::NotApplied, Retry::Never);
    assert!(told.contains("another key"), "{told}");
    server.overwrite(name, &sound).unwrap();
    commit(&store, Some(1), 2, "two").await;
    let mut listed = store.list_keys();
    assert_eq!(listed.next().await.unwrap().unwrap(), "j");
}
