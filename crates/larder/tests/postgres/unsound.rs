//! Statements that let two writers win: the check of histories has to find them out.

use std::sync::atomic::{AtomicUsize, Ordering};

use larder::{
    BoxError, CaSResult, Consensus, ConsensusError, Durability, KeyStream, SeqNo, SharedConsensus,
    VersionedData,
};
use larder_testkit::service::PostgresServer;
use larder_testkit::{CheckOptions, Contract, Outcome, Place, Subject, try_law};
use tokio_postgres::{Client, NoTls};

/// A store that looks whether a version is the newest and inserts the next one in one statement, under READ
/// COMMITTED: the snapshot of a statement does not show what commits while it runs.
struct Unsound {
    clients: Vec<Client>,
    next: AtomicUsize,
}

const TABLE: &str =
    "CREATE TABLE unsound (key text, seqno bigint, data bytea, PRIMARY KEY (key, seqno))";
/// It takes its time between looking and inserting, as a server under load does.
const INSERT: &str = "\
INSERT INTO unsound SELECT $1, $2, $3 FROM (SELECT pg_sleep(0.002)) AS pause \
WHERE ($4::bigint IS NULL OR EXISTS (SELECT 1 FROM unsound WHERE key = $1 AND seqno = $4)) \
AND NOT EXISTS (SELECT 1 FROM unsound WHERE key = $1 AND seqno > coalesce($4, -1)) \
ON CONFLICT DO NOTHING";

impl Unsound {
    async fn connect(server: &PostgresServer) -> Self {
        let mut clients = Vec::new();
        for _ in 0..6 {
            let (client, connection) = tokio_postgres::connect(&server.uri(), NoTls).await.unwrap();
            tokio::spawn(connection);
            clients.push(client);
        }
        clients[0].batch_execute(TABLE).await.unwrap();
        Self { clients, next: AtomicUsize::new(0) }
    }

    fn client(&self) -> &Client {
        &self.clients[self.next.fetch_add(1, Ordering::Relaxed) % self.clients.len()]
    }
}

fn number(seqno: SeqNo) -> i64 {
    i64::try_from(seqno.0).unwrap()
}

impl Consensus for Unsound {
    fn list_keys(&self) -> KeyStream {
        KeyStream::from_keys(Vec::new())
    }

    async fn head(&self, key: &str) -> Result<Option<VersionedData>, ConsensusError> {
        Ok(self.scan(key, SeqNo::MIN, usize::MAX).await?.pop())
    }

    async fn compare_and_set(
        &self,
        key: &str,
        expected: Option<SeqNo>,
        new: VersionedData,
    ) -> Result<CaSResult, ConsensusError> {
        let (seqno, data) = (number(new.seqno), &new.data[..]);
        let values: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
            [&key, &seqno, &data, &expected.map(number)];
        if self.client().execute(INSERT, &values).await.unwrap() == 1 {
            return Ok(CaSResult::Committed);
        }
        let current = self.head(key).await?.map(|head| head.seqno);
        Ok(CaSResult::ExpectationMismatch { current })
    }

    async fn scan(
        &self,
        key: &str,
        from: SeqNo,
        limit: usize,
    ) -> Result<Vec<VersionedData>, ConsensusError> {
        let sql = "SELECT seqno, data FROM unsound WHERE key = $1 AND seqno >= $2 ORDER BY seqno \
                   LIMIT $3";
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self.client().query(sql, &[&key, &number(from), &limit]).await.unwrap();
        let version = |row: &tokio_postgres::Row| VersionedData {
            seqno: SeqNo(row.get::<_, i64>(0).unsigned_abs()),
            data: row.get::<_, Vec<u8>>(1).into(),
        };
        Ok(rows.iter().map(version).collect())
    }

    async fn truncate(&self, _: &str, _: SeqNo) -> Result<usize, ConsensusError> {
        Ok(0)
    }

    fn durability(&self) -> Durability {
        Durability::Power
    }
}

impl std::fmt::Debug for Unsound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Unsound")
    }
}

pub(crate) async fn a_statement_that_looks_and_then_inserts_is_found_out() {
    let server = PostgresServer::start().unwrap();
    let store = SharedConsensus::new(Unsound::connect(&server).await);
    let open = move || std::future::ready(Ok::<_, BoxError>(store.clone()));
    let subject = Subject::shared("unsound", Place::new(open));
    let laws = SharedConsensus::laws();
    let law = laws.iter().find(|law| law.name == "concurrent_histories_are_linearizable").unwrap();
    let outcome = try_law(&subject, law, CheckOptions::default()).await.outcome;
    assert!(matches!(outcome, Outcome::Broken(_)), "{outcome:?}");
}
