//! Compare-and-sets on a key for each client, and reads of their heads.

use std::sync::Arc;
use std::time::Duration;

use larder_testkit::service::{EtcdServer, PostgresServer};

use crate::agreed::{Agreed, BareTxn, Isolation, Larder, StatementEach, SyncStore};
use crate::args::ConsensusArgs;
use crate::bench::{Bench, say};
use crate::clients::{self, Step};
use crate::error::Result;
use crate::payload::{Payloads, Source};
use crate::plan::Workload;
use crate::row::Row;

/// What the subjects are called.
pub(crate) const POSTGRES: &str = "larder, postgres";
pub(crate) const SERIALIZABLE: &str = "statement each, SERIALIZABLE";
pub(crate) const READ_COMMITTED: &str = "statement each, READ COMMITTED";
pub(crate) const ETCD: &str = "larder, etcd";
pub(crate) const BARE_TXN: &str = "etcd client, Txn each";
pub(crate) const LOG: &str = "larder, log";
pub(crate) const SYNC_STORE: &str = "larder's spool, sync store";

/// The size of data.
const SIZE: usize = 512;
/// Writers of the cells, and readers of the only one.
const WRITERS: [usize; 4] = [1, 16, 64, 256];
const READERS: usize = 64;
/// Connections to PostgreSQL, ours and the peer's.
const CONNECTIONS: usize = 8;

type Subject = (&'static str, Arc<dyn Agreed>);

/// One client with a key of its own.
struct Client {
    store: Arc<dyn Agreed>,
    key: String,
    head: Option<u64>,
    source: Source,
    reads: bool,
}

impl Step for Client {
    async fn step(&mut self) -> Result<usize> {
        if self.reads {
            self.store.head(&self.key).await?;
            return Ok(0);
        }
        let data = self.source.payload();
        self.store.swap(&self.key, self.head, data).await?;
        self.head = Some(crate::agreed::next(self.head));
        Ok(SIZE)
    }
}

/// Measures every cell in every round, servers with their defaults.
pub(crate) async fn run(arguments: &ConsensusArgs, bench: &mut Bench) -> Result<()> {
    let postgres = PostgresServer::start_with(&["fsync=on"])?;
    let etcd = EtcdServer::start()?;
    let (rounds, cell) = if arguments.smoke {
        (1, Duration::from_millis(5))
    } else {
        (arguments.rounds.max(1), Duration::from_millis(arguments.cell_ms.max(1)))
    };
    let uri = format!("{}?schema=bench&timeout=60s", postgres.uri());
    let peer = async |isolation| {
        let peer = StatementEach::connect(&postgres.uri(), isolation, CONNECTIONS).await?;
        Ok::<_, crate::error::Error>(Arc::new(peer) as Arc<dyn Agreed>)
    };
    let ours = Larder::open(&uri).await?;
    let log = format!("log:{}", bench.fresh().display());
    let mut swapping: Vec<Subject> = vec![
        (POSTGRES, Arc::new(ours)),
        (SERIALIZABLE, peer(Isolation::Serializable).await?),
        (READ_COMMITTED, peer(Isolation::ReadCommitted).await?),
        (ETCD, Arc::new(Larder::open(&format!("{}/bench?timeout=60s", etcd.uri())).await?)),
        (BARE_TXN, Arc::new(BareTxn::connect(etcd.port()).await?)),
        (LOG, Arc::new(Larder::open(&log).await?)),
        (SYNC_STORE, Arc::new(SyncStore::open(&bench.fresh())?)),
    ];
    if !arguments.subjects.is_empty() {
        let wanted =
            |(name, _): &Subject| arguments.subjects.iter().any(|word| name.contains(word));
        swapping.retain(wanted);
    }
    let mut turn = 0;
    for round in 0..rounds {
        for writers in WRITERS {
            say(&format!("swap, round {} of {rounds}, {writers} writers", round + 1));
            turn += 1;
            let name = format!("{SIZE} B x {writers}");
            measure(
                bench,
                Workload::Swap,
                &swapping,
                (round, &name),
                |subject, payloads| clients(subject, payloads, writers, &format!("{turn}"), false),
                cell,
            )
            .await?;
            swapping.rotate_left(1);
        }
    }
    heads(bench, &swapping, (rounds, cell)).await
}

/// Reads of heads that were written for it.
async fn heads(
    bench: &mut Bench,
    subjects: &[Subject],
    (rounds, cell): (usize, Duration),
) -> Result<()> {
    let mut subjects: Vec<Subject> = subjects
        .iter()
        .filter(|(name, _)| ![SYNC_STORE, SERIALIZABLE].contains(name))
        .cloned()
        .collect();
    for subject in &subjects {
        for mut client in clients(subject, &bench.payloads, READERS, "read", false) {
            client.step().await?;
        }
    }
    let name = format!("{SIZE} B x {READERS}");
    for round in 0..rounds {
        say(&format!("heads, round {} of {rounds}", round + 1));
        measure(
            bench,
            Workload::Head,
            &subjects,
            (round, &name),
            |subject, payloads| clients(subject, payloads, READERS, "read", true),
            cell,
        )
        .await?;
        subjects.rotate_left(1);
    }
    Ok(())
}

fn clients(
    (_, store): &Subject,
    payloads: &Payloads,
    count: usize,
    name: &str,
    reads: bool,
) -> Vec<Client> {
    let client = |at| Client {
        store: Arc::clone(store),
        key: format!("{name}/{at}"),
        head: None,
        source: payloads.source(SIZE),
        reads,
    };
    (0..count).map(client).collect()
}

/// Measures every subject once.
async fn measure(
    bench: &mut Bench,
    workload: Workload,
    subjects: &[Subject],
    (round, cell): (usize, &str),
    clients: impl Fn(&Subject, &Payloads) -> Vec<Client>,
    limit: Duration,
) -> Result<()> {
    for subject in subjects {
        bench.settle()?;
        let clients = clients(subject, &bench.payloads);
        let measured = clients::tasks(clients, limit, bench.dir()).await?;
        let row = Row::new(workload.as_str(), subject.0, cell, round).with_measured(&measured);
        bench.rows.push(row);
    }
    Ok(())
}
