use Effect::{NotApplied, Unknown};
use Retry::{Later, Never};

use super::*;

#[test]
fn every_error_of_the_server_has_an_effect_and_a_retry() {
    let table = [
        (Code::InvalidArgument, "etcdserver: request is too large", NotApplied, Never),
        (
            Code::InvalidArgument,
            "etcdserver: too many operations in txn request",
            NotApplied,
            Never,
        ),
        (
            Code::InvalidArgument,
            "etcdserver: duplicate key given in txn request",
            NotApplied,
            Never,
        ),
        (Code::InvalidArgument, "etcdserver: revision in header is old", NotApplied, Later),
        (
            Code::InvalidArgument,
            "etcdserver: authentication failed, invalid user ID or password",
            NotApplied,
            Never,
        ),
        (Code::InvalidArgument, "etcdserver: user name is empty", NotApplied, Never),
        (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded", Unknown, Later),
        (Code::ResourceExhausted, "etcdserver: too many requests", NotApplied, Later),
        (
            Code::ResourceExhausted,
            "grpc: received message larger than max (9 vs. 8)",
            NotApplied,
            Never,
        ),
        (Code::PermissionDenied, "etcdserver: permission denied", NotApplied, Never),
        (Code::Unauthenticated, "etcdserver: invalid auth token", NotApplied, Later),
        (Code::FailedPrecondition, "etcdserver: authentication is not enabled", NotApplied, Never),
        (Code::Unimplemented, "unknown service etcdserverpb.KV", NotApplied, Never),
        (
            Code::OutOfRange,
            "etcdserver: mvcc: required revision has been compacted",
            NotApplied,
            Later,
        ),
        (Code::DataLoss, "etcdserver: corrupt cluster", NotApplied, Never),
        (Code::Unavailable, "etcdserver: not capable", NotApplied, Later),
        (Code::Unavailable, "etcdserver: request timed out", Unknown, Later),
        (
            Code::Unavailable,
            "etcdserver: request timed out, possibly due to connection lost",
            Unknown,
            Later,
        ),
        (Code::Unavailable, "etcdserver: leader changed", Unknown, Later),
        (Code::Unavailable, "etcdserver: no leader", Unknown, Later),
        (Code::Unavailable, "etcdserver: server stopped", Unknown, Later),
        (Code::DeadlineExceeded, "context deadline exceeded", Unknown, Later),
        (Code::Cancelled, "context canceled", Unknown, Later),
        (Code::Unknown, "context deadline exceeded", Unknown, Later),
        (Code::Unknown, "raft: stopped", Unknown, Later),
        (Code::Unknown, "etcdserver: server stopped", Unknown, Later),
        // Nobody has looked at these.
        (Code::OutOfRange, "Error, decoded message length too large", Unknown, Never),
        (Code::ResourceExhausted, "something else", Unknown, Never),
        (Code::FailedPrecondition, "something else", Unknown, Never),
        (Code::DataLoss, "something else", Unknown, Never),
        (Code::Internal, "something else", Unknown, Never),
        (Code::Unknown, "something else", Unknown, Never),
        (Code::Aborted, "something else", Unknown, Never),
    ];
    for (code, text, effect, retry) in table {
        let trouble = Trouble::refused(code, text);
        assert_eq!((trouble.effect(), trouble.retry()), (effect, retry), "{code:?} {text}");
        // Before the request itself was sent, nothing can have come of it.
        let early = trouble.before_sending();
        assert_eq!((early.effect(), early.retry()), (NotApplied, retry), "{code:?} {text}");
    }
    for row in MEANINGS {
        let own = |code: &Code, text: &str| {
            let found = MEANINGS.iter().find(|row| row.code == *code && text.contains(row.text));
            found.is_some_and(|found| (found.code, found.text) == (row.code, row.text))
        };
        let is_tried = table.iter().any(|(code, text, ..)| own(code, text));
        assert!(is_tried, "{:?} {:?} is in no row", row.code, row.text);
    }
}

#[test]
fn what_goes_over_the_quota_is_unknown_until_somebody_has_looked() {
    let trouble = Trouble::refused(Code::ResourceExhausted, "mvcc: database space exceeded");
    assert_eq!((trouble.effect(), trouble.about()), (Unknown, About::NoSpace));
    assert_eq!(trouble.without_effect().effect(), NotApplied);
}

#[test]
fn words_that_nobody_has_looked_at_are_not_told() {
    let told = Trouble::refused(Code::Internal, "the value of hush is hush").to_string();
    assert!(!told.contains("hush"), "{told}");
}

#[test]
fn troubles_of_the_connection_tell_sent_from_not_sent() {
    let place = String::from("etcd://h:1");
    let (limit, why) = (Duration::from_secs(1), String::from("refused"));
    let table = [
        (Trouble::Unreachable { place: place.clone(), why: why.clone() }, NotApplied),
        (Trouble::NotConnected { place: place.clone(), limit }, NotApplied),
        (Trouble::Late { place: place.clone(), limit }, Unknown),
        (Trouble::Lost { place: place.clone(), why: why.clone() }, Unknown),
    ];
    for (trouble, effect) in table {
        assert_eq!((trouble.effect(), trouble.retry()), (effect, Later), "{trouble}");
    }
    let odd = Trouble::Odd { what: "an answer too many" };
    assert_eq!((odd.effect(), odd.retry()), (Unknown, Never));
    let foreign = Trouble::Foreign { place: place.clone(), what: why.clone() };
    let distrusted = Trouble::Distrusted { place, why };
    for trouble in [foreign, distrusted] {
        assert_eq!((trouble.effect(), trouble.retry()), (NotApplied, Never), "{trouble}");
    }
}
