//! A PostgreSQL server as a cache tier.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use larder_core::{
    Age, CacheError, CacheValue, Condition, Conditions, DeleteStatus, Durability, Found, Key,
    KeyRef, Now, RepairListener, SharedClock, Source, Tier, TierStats, TierUsage, Timestamp,
    Version, WriteStatus,
};
use metrics::{Counter, counter};
use tokio_postgres::Row;

use crate::address::AddressError;
use crate::driver::postgres::{Pool, Trouble};
use crate::registry::OpenError;

mod builder;
mod change;
mod statement;

pub use builder::PostgresCacheBuilder;
use change::{Change, Done, Then, rounds};
use statement::Statements;

/// A cache in a PostgreSQL server: a far tier for services that have such a server and no other.
///
/// It holds bytes; put an [`Encoded`](super::Encoded) over it for typed values. Entries are rows of the table
/// `cache` in a schema of their own, made at the first connection. Calls for many keys are one statement.
///
/// The table is `UNLOGGED`: writes do not wait for the disk and do not go to standbys, and a server
/// that crashes comes back with an empty table. What has expired is deleted in the background, some rows
/// at a time, by whoever writes; nothing else bounds the table, so give every entry a life.
///
/// # Guarantees
/// | | |
/// |---|---|
/// | durability | [`Durability::Process`] |
/// | conditions | all, each decided in one statement |
/// | precision of times | one nanosecond |
/// | largest value | `max_value` of the address; a larger one is [`CacheError::TooLarge`], and what was stored stays |
/// | time limit | `timeout` of the address for each statement, connecting and waiting for a connection included; a call for more than a thousand keys is several |
///
/// Two caches with different `schema`s do not meet. A remove leaves nothing behind: a conditional write that
/// comes after it finds nothing stored, however old it is.
///
/// # Errors
/// All are [`CacheError::Backend`], with a text that has neither keys nor values nor the password.
///
/// | what happened | effect of a write | retry |
/// |---|---|---|
/// | no connection, in time or at all; a standby | `NotApplied` | `Later` |
/// | no TLS though it was asked for: none there, or a certificate that is not to be trusted | `NotApplied` | `Never` |
/// | connection lost, or no answer in time, after the statement was handed over | `Unknown` | `Later` |
/// | 40001 40P01 55P03 57014 57P03 25006 53...: conflicts, limits, a full disk | `NotApplied` | `Later` |
/// | 28... 42... 3D000: login, rights, names | `NotApplied` | `Never` |
/// | 57P01 57P02 08... 58...: it is being shut down, or its system failed it | `Unknown` | `Later` |
/// | any other code | `Unknown` | `Never` |
///
/// A statement that was given up may still be carried out. It lands over a later one only without versions:
/// writes under [`Condition::IfNewerThan`], which [`Cache`](super::Cache) makes, are judged when they land.
///
/// Counters: `larder_cache_unread_records_total` (`reason`=`foreign`: rows that somebody else wrote, which are
/// misses), `larder_cache_too_large_total`, `larder_cache_swept_total` (rows that had expired; all with the
/// label `tier`) and `larder_postgres_connects_total`.
///
/// ```no_run
/// use larder::cache::PostgresCache;
/// use larder_core::{CacheValue, Condition, KeyRef, Tier};
/// use bytes::Bytes;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let far = PostgresCache::open("postgres://me@127.0.0.1/shop?schema=cache&timeout=100ms").await?;
/// let key = KeyRef::new("greeting")?;
/// far.write(key, CacheValue::new(Bytes::from("hello")), Condition::Always).await?;
/// assert_eq!(far.read(key).await?.map(|found| found.value.data), Some(Bytes::from("hello")));
/// # Ok(()) }
/// ```
pub struct PostgresCache(Arc<Inner>);

struct Inner {
    label: String,
    clock: SharedClock,
    pool: Pool,
    statements: Statements,
    value_bytes_max: u64,
    foreign: Counter,
    too_large: Counter,
    swept: Counter,
    written: AtomicU64,
    is_sweeping: AtomicBool,
}

impl PostgresCache {
    /// Connects to `postgres://USER[:PASSWORD]@HOST[:PORT][/DATABASE]`, with the parameters `schema`,
    /// `timeout`, `connections` and `max_value`; see [`PostgresCacheBuilder`] for what they are without.
    /// `sslmode=verify-full` (feature `postgres-tls`) is TLS, with `ca` for a file of authorities and
    /// `sslcert` and `sslkey` for those of a certificate of ours and its key.
    ///
    /// # Errors
    /// [`OpenError::Address`], and those of [`PostgresCacheBuilder::open`].
    ///
    /// # Cancel safety
    /// As [`PostgresCacheBuilder::open`].
    pub async fn open(uri: &str) -> Result<Self, OpenError> {
        Self::builder(uri)?.open().await
    }

    /// The cache at `uri`, to be refined.
    ///
    /// # Errors
    /// [`AddressError`] when the address makes no sense; nothing was done.
    pub fn builder(uri: &str) -> Result<PostgresCacheBuilder, AddressError> {
        PostgresCacheBuilder::of(uri.parse()?)
    }

    fn over(pool: Pool, settings: PostgresCacheBuilder) -> Self {
        let PostgresCacheBuilder { schema, label, clock, value_bytes_max, .. } = settings;
        let statements = Statements::on(&schema);
        let foreign = counter!("larder_cache_unread_records_total", "tier" => label.clone(), "reason" => "foreign");
        Self(Arc::new(Inner {
            foreign,
            too_large: counter!("larder_cache_too_large_total", "tier" => label.clone()),
            swept: counter!("larder_cache_swept_total", "tier" => label.clone()),
            label,
            clock,
            pool,
            statements,
            value_bytes_max,
            written: AtomicU64::new(0),
            is_sweeping: AtomicBool::new(false),
        }))
    }

    async fn find(&self, keys: &[KeyRef<'_>]) -> Result<Vec<Option<Found<Bytes>>>, Trouble> {
        let Inner { pool, statements, clock, foreign, .. } = &*self.0;
        let mut found = vec![None; keys.len()];
        for (chunk, found) in keys.chunks(KEYS_MAX).zip(found.chunks_mut(KEYS_MAX)) {
            let keys: Vec<&[u8]> = chunk.iter().map(|key| key.as_str().as_bytes()).collect();
            for row in pool.query(&statements.read, &[&keys]).await? {
                let odd = Trouble::Odd { what: "a row for no key" };
                let at = row.try_get::<_, i64>(0).ok().and_then(|at| usize::try_from(at - 1).ok());
                let place = at.and_then(|at| found.get_mut(at));
                let place = place.ok_or(odd)?;
                match value(&row) {
                    Some(value) if value.age(&**clock) != Age::Expired => {
                        *place = Some(Found::here(value));
                    }
                    Some(_) => {}
                    None => foreign.increment(1),
                }
            }
        }
        Ok(found)
    }

    /// What is to become of `key` when `value` is written.
    fn change<'a>(
        &self,
        now: Timestamp,
        key: KeyRef<'a>,
        value: &'a CacheValue<Bytes>,
    ) -> Result<Change<'a>, CacheError> {
        if value.age_at(now) == Age::Expired {
            return Ok(Change { key, then: Then::Remove });
        }
        let (bytes, bytes_max) = (value.data.len() as u64, self.0.value_bytes_max);
        if bytes > bytes_max {
            self.0.too_large.increment(1);
            return Err(CacheError::TooLarge { bytes, bytes_max });
        }
        Ok(Change { key, then: Then::Write(value) })
    }

    /// Makes changes, each under the condition, in as few statements as they allow.
    async fn apply(
        &self,
        now: Timestamp,
        changes: &[Change<'_>],
        condition: Condition,
    ) -> Result<Vec<Done>, Trouble> {
        let Inner { pool, statements, .. } = &*self.0;
        let mut done = Vec::with_capacity(changes.len());
        for round in rounds(changes) {
            done.extend(statements.apply(pool, round, condition, now).await?);
        }
        self.0.consider_sweeping(changes.len());
        Ok(done)
    }

    async fn apply_one(
        &self,
        now: Timestamp,
        change: Change<'_>,
        condition: Condition,
    ) -> Result<Done, Trouble> {
        let done = self.apply(now, &[change], condition).await?;
        done.into_iter().next().ok_or(Trouble::Odd { what: "no answer" })
    }
}

/// The most keys of one statement.
const KEYS_MAX: usize = 1_000;

impl Inner {
    /// After so many changes, what has expired is deleted.
    const SWEEP_EVERY: u64 = 256;
    /// The most rows that one statement deletes, so that nobody waits long for a lock.
    const SWEEP_ROWS: i64 = 1_000;

    /// Deletes in the background what has expired, once in a while and one task at a time.
    fn consider_sweeping(self: &Arc<Self>, changes: usize) {
        let changes = changes as u64;
        let before = self.written.fetch_add(changes, Ordering::Relaxed);
        let is_due = before / Self::SWEEP_EVERY != (before + changes) / Self::SWEEP_EVERY;
        if !is_due || self.is_sweeping.swap(true, Ordering::Relaxed) {
            return;
        }
        let inner = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(trouble) = inner.sweep().await {
                // What was not deleted is deleted next time.
                tracing::debug!(target: "larder::postgres", "expired rows stay for now: {trouble}");
            }
            inner.is_sweeping.store(false, Ordering::Relaxed);
        });
    }

    async fn sweep(&self) -> Result<(), Trouble> {
        loop {
            let now = statement::time(self.clock.now());
            let rows = self.pool.query(&self.statements.sweep, &[&now, &Self::SWEEP_ROWS]).await?;
            let count: i64 = rows.first().and_then(|row| row.try_get(0).ok()).unwrap_or_default();
            self.swept.increment(count.unsigned_abs());
            if count < Self::SWEEP_ROWS {
                return Ok(());
            }
        }
    }
}

/// The value of a row that was read; `None` when it is none of ours.
fn value(row: &Row) -> Option<CacheValue<Bytes>> {
    let version = match row.try_get::<_, Option<&[u8]>>(2).ok()? {
        Some(bytes) => Some(Version::from_bytes(bytes.try_into().ok()?)?),
        None => None,
    };
    let time = |at: usize| {
        let time = row.try_get::<_, Option<i64>>(at).ok()?;
        Some(time.map(|time| Timestamp::from_nanos(time.cast_unsigned())))
    };
    let data = Bytes::copy_from_slice(row.try_get(1).ok()?);
    Some(CacheValue { data, expire: time(3)?, stale: time(4)?, version })
}

impl Tier<Bytes> for PostgresCache {
    async fn read(&self, key: KeyRef<'_>) -> Result<Option<Found<Bytes>>, CacheError> {
        let found = self.find(&[key]).await.map_err(|trouble| trouble.in_read("read"))?;
        Ok(found.into_iter().next().flatten())
    }

    /// The server has to be asked, so there is no answer without waiting.
    fn read_now(&self, _: KeyRef<'_>) -> Now<Bytes> {
        Now::Ask
    }

    async fn write(
        &self,
        key: KeyRef<'_>,
        value: CacheValue<Bytes>,
        condition: Condition,
    ) -> Result<WriteStatus, CacheError> {
        let now = self.0.clock.now();
        let done = self.apply_one(now, self.change(now, key, &value)?, condition).await;
        Ok(done.map_err(|trouble| trouble.in_write("write"))?.written())
    }

    async fn remove(
        &self,
        key: KeyRef<'_>,
        condition: Condition,
    ) -> Result<DeleteStatus, CacheError> {
        let change = Change { key, then: Then::Remove };
        let done = self.apply_one(self.0.clock.now(), change, condition).await;
        Ok(done.map_err(|trouble| trouble.in_write("remove"))?.removed())
    }

    async fn read_many(
        &self,
        keys: &[KeyRef<'_>],
    ) -> Result<Vec<Option<Found<Bytes>>>, CacheError> {
        Ok(self.find(keys).await.map_err(|trouble| trouble.in_read("read"))?)
    }

    async fn write_many(
        &self,
        entries: Vec<(Key, CacheValue<Bytes>)>,
        condition: Condition,
    ) -> Result<Vec<WriteStatus>, CacheError> {
        let now = self.0.clock.now();
        let changes = entries.iter().map(|(key, value)| self.change(now, key.as_ref(), value));
        // The others are written before the first error is told.
        let (mut fit, mut refused) = (Vec::with_capacity(entries.len()), None);
        for change in changes {
            match change {
                Ok(change) => fit.push(change),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        let done = self.apply(now, &fit, condition).await;
        let done = done.map_err(|trouble| trouble.in_write("write"))?;
        refused.map_or_else(|| Ok(done.into_iter().map(Done::written).collect()), Err)
    }

    async fn remove_many(
        &self,
        keys: &[KeyRef<'_>],
        condition: Condition,
    ) -> Result<Vec<DeleteStatus>, CacheError> {
        let changes: Vec<_> =
            keys.iter().map(|key| Change { key: *key, then: Then::Remove }).collect();
        let done = self.apply(self.0.clock.now(), &changes, condition).await;
        let done = done.map_err(|trouble| trouble.in_write("remove"))?;
        Ok(done.into_iter().map(Done::removed).collect())
    }

    /// Empties the table at once; it waits for those who are using it.
    async fn clear(&self) -> Result<(), CacheError> {
        let Inner { pool, statements, .. } = &*self.0;
        let cleared = pool.query(&statements.clear, &[]).await;
        Ok(cleared.map(drop).map_err(|trouble| trouble.in_write("clear"))?)
    }

    /// The server is shared: there is nothing of this process alone.
    async fn forget(&self, _: KeyRef<'_>, _: Condition) -> Result<(), CacheError> {
        Ok(())
    }

    async fn forget_all(&self) -> Result<(), CacheError> {
        Ok(())
    }

    fn label(&self) -> &str {
        &self.0.label
    }

    fn describe(&self, _: Source) -> String {
        self.0.label.clone()
    }

    fn conditions(&self) -> Conditions {
        Conditions::ALL
    }

    fn durability(&self) -> Durability {
        Durability::Process
    }

    /// Only the server knows, and it is shared.
    fn usage(&self) -> Option<TierUsage> {
        None
    }

    fn tier_stats(&self) -> Vec<TierStats> {
        vec![TierStats::new(Tier::label(self), None)]
    }

    fn on_repair(&self, _: &RepairListener) {}
}

impl fmt::Debug for PostgresCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresCache")
            .field("label", &self.0.label)
            .field("pool", &self.0.pool)
            .finish_non_exhaustive()
    }
}
