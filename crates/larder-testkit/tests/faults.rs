//! The fault wrapper says the truth about effects, and histories recorded through it still have an
//! order.

#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

use std::sync::Arc;

use bytes::Bytes;
use larder_core::{
    CaSResult, Effect, Failure, MemoryConsensus, MemorySpool, SeqNo, Spool, SpoolError, SpoolId,
    Timestamp, VersionedData,
};
use larder_testkit::history::{Answer, Recorder};
use larder_testkit::{Random, Unreliable};

#[tokio::test]
async fn the_effect_of_a_failed_store_is_true() {
    let spool = Unreliable::new(MemorySpool::default(), 11, 60);
    let (mut applied, mut lost) = (0, 0);
    for number in 0..500_u64 {
        let id = SpoolId::created_at(Timestamp::from_millis(number));
        let stored = spool.store(id, Bytes::from_static(b"x"), true, None).await;
        let is_there = spool.inner().load(id).await.is_ok();
        match stored {
            Ok(()) => assert!(is_there),
            Err(error) if error.effect() == Effect::NotApplied => assert!(!is_there),
            Err(_) if is_there => applied += 1,
            Err(_) => lost += 1,
        }
    }
    assert!(spool.failed() > 200 && applied > 50 && lost > 50, "applied={applied} lost={lost}");
}

#[tokio::test]
async fn the_same_seed_fails_the_same_calls() {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let spool = Unreliable::new(MemorySpool::default(), 5, 50);
        let mut answers = Vec::new();
        for number in 0..100_u64 {
            let id = SpoolId::from_bytes([u8::try_from(number % 200).unwrap_or(0); 16]);
            answers.push(spool.remove(id).await.map_err(|error| error.effect()));
        }
        runs.push(answers);
    }
    assert_eq!(runs[0], runs[1]);
}

#[tokio::test]
async fn a_healed_store_does_not_fail() {
    let spool = Unreliable::new(MemorySpool::default(), 5, 100);
    let id = SpoolId::from_bytes([1; 16]);
    assert!(!matches!(spool.load(id).await, Err(SpoolError::NotFound { .. })));
    spool.heal();
    assert!(matches!(spool.load(id).await, Err(SpoolError::NotFound { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histories_through_faults_have_an_order() {
    let mut unknown = 0;
    for seed in 0..60 {
        let store = Arc::new(Unreliable::new(MemoryConsensus::default(), seed, 40));
        let recorder = Arc::new(Recorder::new("key"));
        let mut clients = tokio::task::JoinSet::new();
        for client in 0..4_u64 {
            let (store, recorder) = (Arc::clone(&store), Arc::clone(&recorder));
            clients.spawn(live(store, recorder, client, Random::seeded(seed * 4 + client)));
        }
        while let Some(ended) = clients.join_next().await {
            ended.unwrap();
        }
        store.heal();
        recorder.scan(&*store, SeqNo::MIN, usize::MAX).await.unwrap();
        let history = recorder.history();
        unknown += history.events.iter().filter(|event| event.answer == Answer::Unknown).count();
        assert!(history.check().is_ok(), "seed={seed} {:?}", history.check());
    }
    assert!(unknown > 500, "unknown={unknown}");
}

async fn live(
    store: Arc<Unreliable<MemoryConsensus>>,
    recorder: Arc<Recorder>,
    client: u64,
    mut random: Random,
) {
    let mut head = None;
    for turn in 0..25 {
        if random.happens(40) {
            if let Ok(seen) = recorder.head(&*store).await {
                head = seen.map(|seen| seen.seqno);
            }
            continue;
        }
        let seqno = SeqNo(head.map_or(0, |SeqNo(head)| head + 1) + random.word() % 2);
        let data = Bytes::from(format!("{client}.{turn}"));
        let answer = recorder.compare_and_set(&*store, head, VersionedData { seqno, data }).await;
        match answer {
            Ok(CaSResult::Committed) => head = Some(seqno),
            Ok(CaSResult::ExpectationMismatch { current }) => head = current,
            Err(_) => {}
        }
        tokio::task::yield_now().await;
    }
}

/// An echo server behind a proxy, and a client of it.
fn echo() -> (larder_testkit::Proxy, impl Fn() -> std::net::TcpStream) {
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    std::thread::spawn(move || {
        while let Ok((stream, _)) = server.accept() {
            std::thread::spawn(move || std::io::copy(&mut &stream, &mut &stream));
        }
    });
    let proxy = larder_testkit::Proxy::start(address).unwrap();
    let at = proxy.address();
    let connect = move || {
        let stream = std::net::TcpStream::connect(at).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_millis(300))).unwrap();
        stream
    };
    (proxy, connect)
}

/// What comes back of `words`; less when the connection ends or is silent.
fn answer(mut stream: &std::net::TcpStream, words: &[u8]) -> Vec<u8> {
    use std::io::{Read as _, Write as _};
    let mut answer = Vec::new();
    if stream.write_all(words).is_ok() {
        let mut byte = [0];
        while answer.len() < words.len() && stream.read(&mut byte).is_ok_and(|len| len > 0) {
            answer.push(byte[0]);
        }
    }
    answer
}

#[test]
fn a_proxy_cuts_kills_and_restores() {
    let (proxy, connect) = echo();
    let client = connect();
    assert_eq!(answer(&client, b"hello"), b"hello");
    proxy.cut();
    assert_eq!(answer(&client, b"hello"), b"");
    assert_eq!(answer(&connect(), b"hello"), b"", "while it is cut nobody gets through");
    proxy.restore();
    assert_eq!(answer(&client, b"hello"), b"", "what was cut stays so");
    let client = connect();
    assert_eq!(answer(&client, b"hello"), b"hello");
    proxy.kill();
    assert_eq!(answer(&client, b"hello"), b"");
    assert_eq!(answer(&connect(), b"hello"), b"hello");
    assert_eq!(proxy.accepted(), 4);
}

#[test]
fn a_proxy_hangs_and_then_passes_on_what_it_held() {
    let (proxy, connect) = echo();
    let client = connect();
    assert_eq!(answer(&client, b"1"), b"1");
    proxy.hang();
    assert_eq!(answer(&client, b"22"), b"");
    proxy.restore();
    assert_eq!(answer(&client, b"3"), b"2");
    let held = larder_testkit::Direction::Answer;
    proxy.hold(held);
    assert_eq!(answer(&client, b"4"), b"2", "that was on its way already");
}

#[test]
fn a_proxy_ends_a_connection_after_so_many_bytes() {
    use larder_testkit::Direction;
    for (direction, bytes, comes_back) in [
        (Direction::Request, 3, &b"hel"[..]),
        (Direction::Answer, 2, b"he"),
        (Direction::Answer, 0, b""),
    ] {
        let (proxy, connect) = echo();
        let client = connect();
        proxy.kill_after(direction, bytes);
        let back = answer(&client, b"hello");
        assert!(comes_back.starts_with(&back), "{direction:?} {bytes}: {back:?}");
        proxy.restore();
        assert_eq!(answer(&connect(), b"again"), b"again");
    }
}

#[test]
fn a_proxy_delays() {
    use larder_core::{Clock as _, SystemClock};
    let (proxy, connect) = echo();
    let client = connect();
    let delay = std::time::Duration::from_millis(40);
    proxy.delay(delay);
    let start = SystemClock.instant();
    assert_eq!(answer(&client, b"slow"), b"slow");
    assert!(SystemClock.instant() - start >= 2 * delay);
}
