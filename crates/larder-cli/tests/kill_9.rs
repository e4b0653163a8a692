//! The real daemon is killed at random moments, again and again on one folder, while clients store,
//! remove and compare-and-set. What was acknowledged has to hold after each restart.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test fails by panicking, watches a real process, and says where it is"
)]

mod support;

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use larder::clock::random_u64;
use support::{Answer, Call, Client, Daemon, run};

/// How often the daemon is killed, unless `LARDER_KILLS` says otherwise.
const ROUNDS: u64 = 50;
/// So many rounds have to end within this time: one that hangs is found, one on a busy machine is not.
const TIME_LIMIT: Duration = Duration::from_mins(10);
const SPOOLERS: u64 = 8;
const RIVALS: u64 = 4;
const KEYS: u64 = 2;

/// What one client of the spool knows.
#[derive(Debug, Default)]
struct Known {
    /// Acknowledged, and not removed since.
    stored: HashMap<String, Bytes>,
    /// Removed durably, and acknowledged.
    removed: Vec<String>,
    /// Asked for, without an answer: it may be there or not, but as a whole.
    open: HashMap<String, Bytes>,
}

/// One compare-and-set that was acknowledged, or may have happened.
#[derive(Clone, Debug)]
struct Attempt {
    key: String,
    expected: Option<u64>,
    seqno: u64,
    data: String,
    committed: bool,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_daemon_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let mut known = Known::default();
    let mut attempts: Vec<Attempt> = Vec::new();
    let (mut stores, mut removes, mut commits) = (0, 0, 0);
    let rounds = rounds();
    let limit = TIME_LIMIT.mul_f64((rounds as f64 / ROUNDS as f64).max(1.0));
    for round in 0..rounds {
        let daemon = Daemon::start(folder.path());
        check_spool(&daemon, &mut known).await;
        check_consensus(&daemon, &attempts).await;

        let address = daemon.address.clone();
        let share = split(&mut known);
        let spoolers: Vec<_> = share
            .into_iter()
            .map(|known| tokio::spawn(spool_until_killed(address.clone(), known)))
            .collect();
        let rivals: Vec<_> = (0..RIVALS)
            .map(|rival| tokio::spawn(rival_until_killed(address.clone(), round, rival)))
            .collect();
        tokio::time::sleep(Duration::from_millis(random_u64() % 200)).await;
        daemon.kill_9();

        for spooler in spoolers {
            let (mine, put, gone) = spooler.await.unwrap();
            known.stored.extend(mine.stored);
            known.removed.extend(mine.removed);
            known.open.extend(mine.open);
            stores += put;
            removes += gone;
        }
        for rival in rivals {
            attempts.extend(rival.await.unwrap());
        }
        commits = attempts.iter().filter(|attempt| attempt.committed).count();
        assert!(started.elapsed() < limit, "too slow: round {round}");
    }
    let daemon = Daemon::start(folder.path());
    check_spool(&daemon, &mut known).await;
    check_consensus(&daemon, &attempts).await;
    assert_eq!(daemon.terminate().code(), Some(0));
    for contract in ["spool", "consensus"] {
        run(&["verify", folder.path().join(contract).to_str().unwrap()]).ok();
    }
    println!("{stores} stores, {removes} removes and {commits} commits were acknowledged");
    assert!(stores > 500 && removes > 100 && commits > 100, "the clients hardly got to work");
}

fn rounds() -> u64 {
    let set = std::env::var("LARDER_KILLS").ok();
    set.map_or(ROUNDS, |text| text.parse().expect("LARDER_KILLS is not a number"))
}

/// Hands every client its part of the entries, so that no two remove the same one.
fn split(known: &mut Known) -> Vec<Known> {
    let mut shares: Vec<Known> = (0..SPOOLERS).map(|_| Known::default()).collect();
    let clients = shares.len();
    for (index, (id, data)) in known.stored.drain().enumerate() {
        shares[index % clients].stored.insert(id, data);
    }
    shares
}

/// Stores, replaces and removes until the connection breaks; returns what was acknowledged.
async fn spool_until_killed(address: String, mut known: Known) -> (Known, u64, u64) {
    let (mut stores, mut removes) = (0, 0);
    let Ok(mut client) = Client::connect(&address).await else { return (known, 0, 0) };
    loop {
        let choice = random_u64() % 100;
        let picked = known.stored.keys().next().cloned();
        if let Some(id) = picked.filter(|_| choice < 45) {
            let path = format!("/v1/spool/default/{id}");
            let before = known.stored.remove(&id).unwrap();
            // Until it is answered the entry may be there or not.
            known.open.insert(id.clone(), before);
            match client.send(Call::delete(path)).await {
                Ok(answer) => assert_eq!(answer.status, 204),
                Err(_) => return (known, stores, removes),
            }
            known.open.remove(&id);
            known.removed.push(id);
            removes += 1;
        } else {
            let id = larder::SpoolId::new(&larder::SystemClock).to_string();
            let data = payload(&id);
            known.open.insert(id.clone(), data.clone());
            let call = Call::put(format!("/v1/spool/default/{id}"), data);
            match client.send(call).await {
                Ok(answer) => assert_eq!(answer.status, 204, "{:?}", answer.body),
                Err(_) => return (known, stores, removes),
            }
            let data = known.open.remove(&id).unwrap();
            known.stored.insert(id, data);
            stores += 1;
        }
    }
}

/// A payload of random length that nobody else has.
fn payload(id: &str) -> Bytes {
    let len = usize::try_from(random_u64() % 6_000).unwrap();
    id.bytes().cycle().take(len).collect()
}

/// Competes for the keys until the connection breaks; returns what it tried.
async fn rival_until_killed(address: String, round: u64, rival: u64) -> Vec<Attempt> {
    let mut attempts = Vec::new();
    let Ok(mut client) = Client::connect(&address).await else { return attempts };
    for turn in 0_u64.. {
        let key = format!("key-{}", random_u64() % KEYS);
        let path = format!("/v1/consensus/{key}");
        let Ok(head) = client.send(Call::get(&path)).await else { return attempts };
        let expected = seqno_of(&head);
        let seqno = expected.map_or(0, |expected| expected + 1 + random_u64() % 2);
        let data = format!("{round}/{rival}/{turn}");
        let mut call = Call::put(format!("{path}?seqno={seqno}"), data.clone());
        call = match expected {
            None => call.with("if-none-match", "*"),
            Some(expected) => call.with("if-match", format!("\"{expected}\"")),
        };
        let mut attempt = Attempt { key, expected, seqno, data, committed: false };
        match client.send(call).await {
            Ok(answer) if answer.status == 200 => {
                attempt.committed = true;
                attempts.push(attempt);
            }
            Ok(answer) => assert_eq!(answer.status, 412, "{:?}", answer.body),
            Err(_) => {
                attempts.push(attempt);
                return attempts;
            }
        }
    }
    attempts
}

fn seqno_of(head: &Answer) -> Option<u64> {
    head.header("etag").map(|tag| tag.trim_matches('"').parse().unwrap())
}

async fn check_spool(daemon: &Daemon, known: &mut Known) {
    let mut client = daemon.client().await;
    let listing = client.send(Call::get("/v1/spool/default")).await.unwrap().is(200).lines();
    let (end, entries) = listing.split_last().unwrap();
    assert_eq!((&end["complete"], &end["corrupt"]), (&true.into(), &0.into()), "{end}");
    let mut sizes: HashMap<&str, u64> = HashMap::new();
    for entry in entries {
        let id = entry["id"].as_str().unwrap();
        let twice = sizes.insert(id, entry["size"].as_u64().unwrap()).is_some();
        assert!(!twice, "{id} is listed twice");
    }
    for (id, data) in &known.stored {
        let size = sizes.get(id.as_str());
        assert_eq!(size.copied(), u64::try_from(data.len()).ok(), "lost or cut: {id}");
    }
    for id in &known.removed {
        assert!(!sizes.contains_key(id.as_str()), "came back: {id}");
    }
    // What was open is one of two things now, and stays it.
    for (id, data) in known.open.drain() {
        match sizes.get(id.as_str()) {
            Some(_) => drop(known.stored.insert(id, data)),
            None => known.removed.push(id),
        }
    }
    assert_eq!(known.stored.len(), sizes.len(), "entries that nobody stored");
    for (id, data) in &known.stored {
        let loaded = client.send(Call::get(format!("/v1/spool/default/{id}"))).await.unwrap();
        assert!(loaded.status == 200 && loaded.body == data, "not byte-equal: {id}");
    }
}

/// No two winners for one expectation, and every acknowledged version is there as it was sent.
async fn check_consensus(daemon: &Daemon, attempts: &[Attempt]) {
    let mut client = daemon.client().await;
    let mut winners: HashMap<(&str, Option<u64>), &Attempt> = HashMap::new();
    for attempt in attempts.iter().filter(|attempt| attempt.committed) {
        let other = winners.insert((&attempt.key, attempt.expected), attempt);
        assert!(other.is_none(), "two winners: {attempt:?} and {other:?}");
    }
    let known: HashSet<(&str, u64, &str)> = attempts
        .iter()
        .map(|attempt| (attempt.key.as_str(), attempt.seqno, attempt.data.as_str()))
        .collect();
    for key in (0..KEYS).map(|key| format!("key-{key}")) {
        let versions = versions(&mut client, &key).await;
        for attempt in attempts.iter().filter(|attempt| attempt.key == key && attempt.committed) {
            let found = versions.get(&attempt.seqno);
            assert_eq!(found, Some(&attempt.data), "lost or overwritten: {attempt:?}");
        }
        for (seqno, data) in &versions {
            let written = known.contains(&(key.as_str(), *seqno, data.as_str()));
            assert!(written, "nobody wrote {key} {seqno}");
        }
    }
}

async fn versions(client: &mut Client, key: &str) -> HashMap<u64, String> {
    use base64::Engine as _;
    let mut all = HashMap::new();
    loop {
        let from = all.keys().max().map_or(0, |last| last + 1);
        let path = format!("/v1/consensus/{key}/versions?from={from}&limit=1000");
        let page = client.send(Call::get(path)).await.unwrap().is(200).json();
        let page = page.as_array().unwrap();
        if page.is_empty() {
            return all;
        }
        for version in page {
            let data = version["data"].as_str().unwrap();
            let data = base64::engine::general_purpose::STANDARD.decode(data).unwrap();
            let seqno = version["seqno"].as_u64().unwrap();
            all.insert(seqno, String::from_utf8(data).unwrap());
        }
    }
}
