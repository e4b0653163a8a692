//! A PostgreSQL server as a consensus store.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use larder_core::consensus::{check_compare_and_set, check_consensus_key, check_seqno};
use larder_core::{
    CaSResult, Consensus, ConsensusError, Determinate, Durability, KeyStream, SeqNo, VersionedData,
};

use crate::address::{Address, AddressError};
use crate::driver::postgres::{
    Endpoint, Limits, Pool, SERVER_BYTES_MAX, Schema, Tables as Layout, Trouble, Way, parameters,
};
use crate::registry::OpenError;

mod look;
mod statement;
mod trim;

use super::coalesce::{Bounds, Coalescer, Unanswered};
use look::{Look, SCAN_MAX};
use statement::{LAYOUT, Statements, Swap, Tables, number, unread, version, written};
use trim::Trim;

/// A consensus store in a PostgreSQL server, for any number of processes on any number of machines.
///
/// Heads and versions are two tables in a schema of their own, made at the first connection. Calls that
/// arrive while all statements of this process are on their way are put together: one statement, one commit
/// and one sync for many keys. A call that finds a free place goes alone and at once.
///
/// # Guarantees
/// | | |
/// |---|---|
/// | durability | [`Durability::Power`]; [`Durability::Machine`] where `synchronous_standby_names` is set |
/// | consistency | linearizable: one statement each, READ COMMITTED, heads replaced under the lock of their row |
/// | time limits | `timeout` of the address for each call, waiting included |
/// | limits | `max_payload` of the address for data; 10,000 calls and 64 MiB that wait |
///
/// Refused at open: a standby, a release before 14, a database that is not in UTF8, `fsync=off`, tables of another
/// layout. `synchronous_commit` is raised to `on` if it is less. Standbys that nobody waits for are warned
/// about: a failover to one of them takes back what was committed, and no client can notice. All of that is looked
/// at again with every connection, and every write tells by which settings it was kept: once standbys are not
/// waited for any more, that is warned about and [`Consensus::durability`] says so; `fsync=off` ends in a refusal.
///
/// # Errors
/// | what happened | error of a write | retry |
/// |---|---|---|
/// | no connection, in time or at all; a standby | `Determinate` | `Later` |
/// | no TLS though it was asked for: none there, or a certificate that is not to be trusted | `Determinate` | `Never` |
/// | too many calls wait, or its turn did not come in time | `Determinate` | `Later` |
/// | connection lost, or no answer in time, after the statement was handed over | `Indeterminate` | `Later` |
/// | 40001 40P01 55P03 57014 57P03 25006 53...: conflicts, limits, a full disk | `Determinate` | `Later` |
/// | 28... 42... 3D000: login, rights, names | `Determinate` | `Never` |
/// | 57P01 57P02 08... 58...: it is being shut down, or its system failed it | `Indeterminate` | `Later` |
/// | it committed and warned: somebody told it not to wait for a standby any longer | `Indeterminate` | `Later` |
/// | it committed, and by then with `fsync=off` | `Indeterminate` | `Later` |
/// | any other code | `Indeterminate` | `Never` |
///
/// What is known of a statement is known of each call in it. [`resolve`](crate::recipes::resolve) finds out
/// about single ones, by what this server has: of a write that a standby may not have it says that it is committed.
///
/// ```no_run
/// use larder::consensus::PostgresConsensus;
/// use larder::{CaSResult, Consensus, SeqNo, VersionedData};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = PostgresConsensus::open("postgres://me@127.0.0.1/shop?schema=state").await?;
/// let mine = VersionedData { seqno: SeqNo(1), data: "me".into() };
/// assert_eq!(store.compare_and_set("leader", None, mine).await?, CaSResult::Committed);
/// # Ok(()) }
/// ```
pub struct PostgresConsensus {
    swaps: Coalescer<Swap>,
    looks: Coalescer<Look>,
    trims: Coalescer<Trim>,
    payload_bytes_max: u64,
}

/// What an address says.
#[derive(Debug)]
pub(crate) struct Settings {
    endpoint: Endpoint,
    schema: Schema,
    limits: Limits,
    payload_bytes_max: u64,
}

/// With all eight connections, 64 writers got 0.8 of the rate; two are no faster, and a statement that hangs
/// would leave a single one to all others.
const EAGER_WRITES: usize = 3;
/// Reads wait for no lock. With three, 64 readers got 0.95 of the rate and 8 readers 0.6.
const EAGER_READS: usize = 2;
/// The most keys that are listed with one statement.
const KEYS_MAX: i64 = 1_000;

impl PostgresConsensus {
    /// The time limit of a call, of an address that states none.
    pub const TIMEOUT: Duration = Duration::from_secs(5);
    /// The most connections at once, of an address that states none.
    pub const CONNECTIONS: usize = 8;
    /// The largest data, of an address that states none: 64 MiB.
    pub const PAYLOAD_BYTES_MAX: u64 = 64 << 20;

    /// Connects to `postgres://USER[:PASSWORD]@HOST[:PORT][/DATABASE]`, with the parameters `schema`
    /// (larder), `timeout` (5s), `connections` (8) and `max_payload` (64MiB), and makes the tables unless
    /// they are there. `sslmode=verify-full` (feature `postgres-tls`) is TLS, with `ca` for a file of authorities and
    /// `sslcert` and `sslkey` for those of a certificate of ours and its key.
    ///
    /// # Errors
    /// [`OpenError::Address`]. [`OpenError::Unavailable`]: no server there, one that is refused, wrong
    /// password, no such database, no right to make the schema; its source says whether repeating helps.
    /// [`OpenError::Newer`]: another release keeps its versions there in another way. After at most five
    /// seconds.
    ///
    /// # Cancel safety
    /// Dropping the future harms nothing.
    pub async fn open(uri: &str) -> Result<Self, OpenError> {
        Self::at(Self::settings(uri.parse()?)?).await
    }

    pub(crate) fn settings(mut address: Address) -> Result<Settings, AddressError> {
        let endpoint = Endpoint::take(&mut address)?;
        let schema = Schema::take(&mut address)?;
        let otherwise = Limits { timeout: Self::TIMEOUT, connections: Self::CONNECTIONS };
        let limits = Limits::take(&mut address, otherwise)?;
        let payload_bytes_max = address.take_bytes_max("max_payload", SERVER_BYTES_MAX)?;
        let payload_bytes_max = payload_bytes_max.unwrap_or(Self::PAYLOAD_BYTES_MAX);
        address.finish(&parameters(&["max_payload"]))?;
        Ok(Settings { endpoint, schema, limits, payload_bytes_max })
    }

    pub(crate) async fn at(settings: Settings) -> Result<Self, OpenError> {
        let Settings { endpoint, schema, limits, payload_bytes_max } = settings;
        let statements = Statements::on(&schema);
        let create = statement::create(&schema);
        let tables = Some(Layout { schema, what: "consensus", layout: LAYOUT, create });
        let way = Way { endpoint, tables, settings: SETTINGS, durable: true };
        let pool = Pool::new(way, limits.timeout, limits.connections);
        pool.open().await?;
        let tables = Arc::new(Tables { pool, statements });
        let bounds = Bounds {
            statements: limits.connections,
            eager: EAGER_WRITES.min(limits.connections),
            jobs: 256,
            bytes: 1 << 20,
            waiting: 10_000,
            waiting_bytes: 64 << 20,
            limit: limits.timeout,
        };
        Ok(Self {
            swaps: Coalescer::new(Arc::clone(&tables), bounds),
            trims: Coalescer::new(Arc::clone(&tables), bounds),
            looks: Coalescer::new(
                tables,
                Bounds { eager: EAGER_READS.min(limits.connections), ..bounds },
            ),
            payload_bytes_max,
        })
    }

    fn tables(&self) -> &Arc<Tables> {
        self.swaps.tools()
    }

    async fn look(&self, look: Look) -> Result<Vec<VersionedData>, ConsensusError> {
        self.looks.submit(look).await.unwrap_or_else(|why| match why {
            Unanswered::Full => Err(FULL.into()),
            // It changes nothing, however far it came.
            Unanswered::NotBegun | Unanswered::Begun => Err(LATE.into()),
        })
    }

    /// What is known of a write without an answer.
    fn undone(&self, operation: &'static str, why: Unanswered) -> ConsensusError {
        match why {
            Unanswered::Full => FULL.into(),
            Unanswered::NotBegun => LATE.into(),
            Unanswered::Begun => written(self.tables().pool.late(), operation),
        }
    }
}

/// What is committed has to last, whatever the server does for others. Said for the session even where it is so
/// already: what a session has said no change of the server's settings takes away.
const SETTINGS: &str = "\
SELECT set_config('synchronous_commit', CASE current_setting('synchronous_commit') \
WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false)";

impl Consensus for PostgresConsensus {
    /// Reads page by page: keys that are made meanwhile may or may not come.
    fn list_keys(&self) -> KeyStream {
        let tables = Arc::clone(self.tables());
        let pages = stream::try_unfold(Some(String::new()), move |after| {
            let tables = Arc::clone(&tables);
            async move {
                let Some(after) = after else { return Ok::<_, ConsensusError>(None) };
                let page = page(&tables, &after).await;
                let page = page.map_err(|trouble| unread(trouble, "list_keys"))?;
                let is_full = i64::try_from(page.len()).unwrap_or(i64::MAX) == KEYS_MAX;
                let next = page.last().filter(|_| is_full).cloned();
                Ok(Some((stream::iter(page.into_iter().map(Ok)), next)))
            }
        });
        KeyStream::new(futures_util::TryStreamExt::try_flatten(pages))
    }

    async fn head(&self, key: &str) -> Result<Option<VersionedData>, ConsensusError> {
        check_consensus_key(key)?;
        Ok(self.look(Look::Head(key.into())).await?.pop())
    }

    async fn compare_and_set(
        &self,
        key: &str,
        expected: Option<SeqNo>,
        new: VersionedData,
    ) -> Result<CaSResult, ConsensusError> {
        check_compare_and_set(key, expected, &new)?;
        let bytes = u64::try_from(new.data.len()).unwrap_or(u64::MAX);
        if bytes > self.payload_bytes_max {
            let bytes_max = self.payload_bytes_max;
            return Err(Determinate::TooLarge { bytes, bytes_max }.into());
        }
        let swapped = self.swaps.submit(Swap { key: key.into(), expected, new }).await;
        swapped.unwrap_or_else(|why| Err(self.undone("compare_and_set", why)))
    }

    async fn scan(
        &self,
        key: &str,
        from: SeqNo,
        limit: usize,
    ) -> Result<Vec<VersionedData>, ConsensusError> {
        check_consensus_key(key)?;
        check_seqno(from)?;
        let most = i64::try_from(limit).unwrap_or(i64::MAX);
        if limit <= SCAN_MAX {
            return self.look(Look::Scan { key: key.into(), from, limit: most }).await;
        }
        let tables = self.tables();
        let rows = tables.pool.query(&tables.statements.scan, &[&key, &number(from), &most]).await;
        let rows = rows.map_err(|trouble| unread(trouble, "scan"))?;
        let versions = rows.iter().map(|row| version(row, 0));
        let odd = || unread(Trouble::Odd { what: "no row about a version" }, "scan");
        versions.collect::<Option<_>>().ok_or_else(odd)
    }

    async fn truncate(&self, key: &str, seqno: SeqNo) -> Result<usize, ConsensusError> {
        check_consensus_key(key)?;
        check_seqno(seqno)?;
        let trimmed = self.trims.submit(Trim { key: key.into(), below: seqno }).await;
        trimmed.unwrap_or_else(|why| Err(self.undone("truncate", why)))
    }

    /// By what the server was set to when a connection was last made or a version written.
    fn durability(&self) -> Durability {
        if self.tables().pool.waits_for_standbys() {
            Durability::Machine
        } else {
            Durability::Power
        }
    }
}

const FULL: Determinate = Determinate::Unavailable { reason: "too many calls are waiting" };
const LATE: Determinate = Determinate::Unavailable { reason: "its turn did not come in time" };

/// The keys after one, in order.
async fn page(tables: &Tables, after: &str) -> Result<Vec<String>, Trouble> {
    let rows = tables.pool.query(&tables.statements.keys, &[&after, &KEYS_MAX]).await?;
    let keys = rows.iter().map(|row| row.try_get(0).ok());
    keys.collect::<Option<_>>().ok_or(Trouble::Odd { what: "no row about a key" })
}

impl fmt::Debug for PostgresConsensus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresConsensus")
            .field("swaps", &self.swaps)
            .field("durability", &self.durability())
            .finish_non_exhaustive()
    }
}
