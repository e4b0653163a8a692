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

/// A client and its server, which have heard of one another through a proxy.
struct Pair {
    proxy: larder_testkit::Proxy,
    listener: std::net::TcpListener,
    client: std::net::TcpStream,
    server: std::net::TcpStream,
}

impl Pair {
    fn new() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = larder_testkit::Proxy::start(listener.local_addr().unwrap()).unwrap();
        let (client, server) = Self::connected(&proxy, &listener);
        Self { proxy, listener, client, server }
    }

    fn connected(
        proxy: &larder_testkit::Proxy,
        listener: &std::net::TcpListener,
    ) -> (std::net::TcpStream, std::net::TcpStream) {
        let mut client = std::net::TcpStream::connect(proxy.address()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        for stream in [&client, &server] {
            stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
        }
        passes(&mut client, &mut server);
        passes(&mut server, &mut client);
        (client, server)
    }
}

/// What one sends the other one receives.
fn passes(from: &mut std::net::TcpStream, to: &mut std::net::TcpStream) {
    use std::io::{Read as _, Write as _};
    from.write_all(b"hello").unwrap();
    let mut heard = [0; 5];
    to.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"hello");
}

/// The next thing that is heard is the end.
fn hears_the_end(stream: &mut std::net::TcpStream) {
    use std::io::Read as _;
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_proxy_passes_on_that_one_side_sends_no_more() {
    for client_ends in [true, false] {
        let Pair { proxy: _proxy, mut client, mut server, .. } = Pair::new();
        let (one, other) =
            if client_ends { (&mut client, &mut server) } else { (&mut server, &mut client) };
        one.shutdown(std::net::Shutdown::Write).unwrap();
        hears_the_end(other);
        passes(other, one);
        other.shutdown(std::net::Shutdown::Write).unwrap();
        hears_the_end(one);
    }
}

#[test]
fn a_proxy_ends_one_direction_and_not_the_other() {
    use larder_testkit::Direction;
    use std::io::Write as _;
    for direction in [Direction::Request, Direction::Answer] {
        let Pair { proxy, listener, mut client, mut server } = Pair::new();
        proxy.half_close(direction);
        let (sender, receiver) = match direction {
            Direction::Request => (&mut client, &mut server),
            Direction::Answer => (&mut server, &mut client),
        };
        hears_the_end(receiver);
        for _ in 0..200 {
            // Who is not heard is not told, and does not block.
            sender.write_all(&[7; 4_096]).unwrap();
            passes(receiver, sender);
        }
        receiver.shutdown(std::net::Shutdown::Write).unwrap();
        hears_the_end(sender);
        // Those who come later are whole, and `restore` brings nothing back.
        Pair::connected(&proxy, &listener);
        proxy.restore();
        hears_the_end(receiver);
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
