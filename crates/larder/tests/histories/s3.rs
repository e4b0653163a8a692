//! An S3 endpoint that fails, loses replies, carries out requests late and is killed, behind a way that is cut.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use larder::SharedConsensus;
use larder::consensus::ObjectConsensus;
use larder_testkit::service::{S3Process, S3Quirk, S3Server};
use larder_testkit::{Direction, Proxy, Random};
use tokio::time::sleep;

use crate::clients::{Signals, Tally};
use crate::outage::history;
use crate::served::{Behind, aside, moment};
use crate::{Engine, Test, Wrong, first_seed, runs, setting, stores, way};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("s3::broken_connections_leave_one_order", || Box::pin(broken_connections())),
    ("s3::restarts_leave_one_order", || Box::pin(restarts())),
    ("s3::faults_of_every_kind_leave_one_order", || Box::pin(faults_of_every_kind())),
    ("s3::late_puts_leave_one_order", || Box::pin(late_puts())),
    ("s3::an_endpoint_that_is_killed_leaves_one_order", || Box::pin(a_killed_endpoint())),
    ("s3::a_process_that_is_killed_leaves_one_order", || Box::pin(a_killed_process())),
    ("s3::cut_connections_leave_one_order", || Box::pin(cut_connections())),
    ("s3::a_store_that_forgets_conditions_is_found_out", || Box::pin(a_forgetful_store())),
];

/// An endpoint of this process, which fails on demand.
struct Endpoint {
    server: Arc<S3Server>,
    proxy: Proxy,
    timeout: &'static str,
    /// How those requests ended that came late.
    came: Mutex<Vec<u16>>,
}

impl Endpoint {
    fn start(timeout: &'static str) -> Self {
        let server = Arc::new(S3Server::start().unwrap());
        let proxy = Proxy::to_port(server.port()).unwrap();
        Self { proxy, server, timeout, came: Mutex::default() }
    }

    async fn let_late_ones_come(&self) {
        let came = self.server.let_late_ones_come().await;
        self.came.lock().unwrap().extend(came);
    }
}

/// Two stores at `uri`, through the proxy.
async fn open(uri: &str, port: u16, proxy: &Proxy, timeout: &str) -> Vec<SharedConsensus> {
    let (from, to) = (format!(":{port}"), format!(":{}", proxy.address().port()));
    let uri = format!("{}&timeout={timeout}", uri.replace(&from, &to));
    stores::two(async || ObjectConsensus::open(&uri).await).await
}

impl Engine for Endpoint {
    async fn open(&self, _: &mut Random) -> Vec<SharedConsensus> {
        let uri = self.server.uri("histories");
        open(&uri, self.server.port(), &self.proxy, self.timeout).await
    }

    async fn disturb(&self, random: &mut Random) {
        let moment = moment(random);
        match random.below(way::KINDS + 3) {
            kind @ ..way::KINDS => way::disturb(&self.proxy, kind, random),
            // It refuses, and says things that are not true.
            _ => self.server.disturb(30, random.word()),
        }
        sleep(moment).await;
        self.calm().await;
    }

    async fn restart(&self, random: &mut Random) {
        sleep(Duration::from_millis(random.word() % 60)).await;
        aside(&self.server, S3Server::restart).await.unwrap();
    }

    async fn calm(&self) {
        self.proxy.restore();
        self.let_late_ones_come().await;
        self.server.calm();
    }
}

/// An endpoint in a process of its own, which can be killed.
struct Process(Behind<S3Process>);

impl Process {
    fn start() -> Self {
        let server = S3Process::start().unwrap();
        let port = server.port();
        Self(Behind::new(server, port))
    }
}

impl Engine for Process {
    async fn open(&self, _: &mut Random) -> Vec<SharedConsensus> {
        let server = self.0.server();
        open(&server.uri("histories"), server.port(), &self.0.proxy, "500ms").await
    }

    async fn disturb(&self, random: &mut Random) {
        way::disturb(&self.0.proxy, random.below(way::KINDS), random);
        sleep(moment(random)).await;
        self.calm().await;
    }

    async fn restart(&self, random: &mut Random) {
        self.0.kill_soon(random).await;
    }

    async fn calm(&self) {
        self.0.proxy.restore();
    }
}

async fn broken_connections() {
    let tally = runs(&Endpoint::start("500ms"), "LARDER_HISTORIES", 8, false).await;
    assert!(tally.committed > 0 && tally.resolved() > 0, "{tally:?}");
}

async fn restarts() {
    let tally = runs(&Process::start(), "LARDER_HISTORY_RESTARTS", 2, true).await;
    assert!(tally.committed > 0 && tally.unknown > 0, "{tally:?}");
}

/// How many histories of a kind: more on demand.
fn seeds(variable: &str, otherwise: u64) -> std::ops::Range<u64> {
    first_seed()..first_seed() + setting(variable).unwrap_or(otherwise)
}

/// What came of the history of a seed.
#[track_caller]
fn told(seed: u64, told: Result<Tally, Wrong>) -> Tally {
    told.unwrap_or_else(|wrong| panic!("LARDER_HISTORY_SEED={seed}: {wrong}"))
}

async fn for_a_while() {
    sleep(Duration::from_millis(500)).await;
}

async fn faults_of_every_kind() {
    let engine = Endpoint::start("600ms");
    let mut committed = 0;
    for seed in seeds("LARDER_HISTORIES", 6) {
        let disturb = async |random: &mut Random, signals: Signals| {
            engine.server.disturb(if seed % 2 == 0 { 20 } else { 50 }, random.word());
            for_a_while().await;
            signals.enough();
        };
        committed += told(seed, history(&engine, seed, disturb).await).committed;
    }
    let failed = engine.server.failed();
    assert!(committed > 20 && failed > 100, "{committed} {failed}");
}

/// Calls give up soon, and what they have sent comes when they have.
async fn late_puts() {
    let engine = Endpoint::start("60ms");
    let mut unknown = 0;
    for seed in seeds("LARDER_HISTORIES", 6) {
        let disturb = async |random: &mut Random, signals: Signals| {
            engine.server.disturb(60, random.word());
            for _ in 0..25 {
                sleep(Duration::from_millis(20)).await;
                engine.let_late_ones_come().await;
            }
            signals.enough();
        };
        unknown += told(seed, history(&engine, seed, disturb).await).resolved();
    }
    assert!(unknown > 0, "no call was left without an answer");
    let came = engine.came.lock().unwrap();
    assert!(came.contains(&200) && came.contains(&412), "{came:?}");
}

async fn a_killed_endpoint() {
    let engine = Endpoint::start("500ms");
    for seed in seeds("LARDER_HISTORY_RESTARTS", 3) {
        let disturb = async |random: &mut Random, signals: Signals| {
            for _ in 0..6 {
                sleep(Duration::from_millis(50)).await;
                engine.restart(random).await;
            }
            signals.enough();
        };
        let tally = told(seed, history(&engine, seed, disturb).await);
        assert!(tally.committed > 5, "{tally:?}");
    }
}

async fn a_killed_process() {
    let engine = Process::start();
    for seed in seeds("LARDER_HISTORY_RESTARTS", 3) {
        let disturb = async |random: &mut Random, signals: Signals| {
            for _ in 0..5 {
                sleep(Duration::from_millis(50 + random.word() % 50)).await;
                engine.0.kill().await;
            }
            signals.enough();
        };
        let tally = told(seed, history(&engine, seed, disturb).await);
        assert!(tally.committed > 5, "{tally:?}");
    }
}

async fn cut_connections() {
    let engine = Endpoint::start("500ms");
    let proxy = &engine.proxy;
    for seed in seeds("LARDER_HISTORY_RESTARTS", 3) {
        let disturb = async |random: &mut Random, signals: Signals| {
            for turn in 0..15 {
                sleep(Duration::from_millis(20 + random.word() % 40)).await;
                match turn % 5 {
                    0 => proxy.kill(),
                    1 => proxy.kill_after(Direction::Answer, 0),
                    2 => proxy.kill_after(Direction::Request, 300),
                    3 => proxy.half_close(Direction::Request),
                    _ => proxy.hang(),
                }
                sleep(Duration::from_millis(20)).await;
                proxy.restore();
            }
            signals.enough();
        };
        let tally = told(seed, history(&engine, seed, disturb).await);
        assert!(tally.committed > 5, "{tally:?}");
    }
}

/// The control: stores that would be refused, had they shown what they are when they were opened.
async fn a_forgetful_store() {
    for quirk in [S3Quirk::IgnoresIfMatch, S3Quirk::LooksThenWrites] {
        let engine = Endpoint::start("2s");
        let mut caught = false;
        for seed in 1..=10 {
            engine.server.behave_as(None);
            let disturb = async |_: &mut Random, signals: Signals| {
                engine.server.behave_as(Some(quirk));
                for_a_while().await;
                signals.enough();
            };
            caught |= matches!(history(&engine, seed, disturb).await, Err(Wrong::Order(_)));
            if caught {
                break;
            }
        }
        assert!(caught, "{quirk:?} went unnoticed");
    }
}
