//! The statements on the table of a cache, each of which commits by itself.
//!
//! A row whose life is over does not count: for conditions it is not there. Rows are always locked in
//! the order of their keys, so that two batches never wait for one another in a circle.

use std::collections::HashMap;

use larder_core::{Condition, Timestamp, Version};

use super::change::{Change, Done, Then};
use crate::driver::postgres::{Pool, Schema, Trouble};

/// The number of the layout below, written into the schema.
pub(super) const LAYOUT: u32 = 1;

/// Makes the table. Keys are bytes, so that the order of locks is everybody's. Values are compressed by
/// whoever wants that, not by the server as well.
pub(super) fn create(schema: &Schema) -> String {
    format!(
        "CREATE UNLOGGED TABLE IF NOT EXISTS {schema}.cache \
         (key bytea PRIMARY KEY, value bytea NOT NULL, version bytea, expire bigint, stale bigint); \
         ALTER TABLE {schema}.cache ALTER COLUMN value SET STORAGE EXTERNAL; \
         CREATE INDEX IF NOT EXISTS cache_expire ON {schema}.cache (expire) WHERE expire >= 0"
    )
}

/// A time as it is stored: nanoseconds since the epoch; from the year 2262 on they are negative, and
/// count as never for the server, but not for those who read.
pub(super) const fn time(time: Timestamp) -> i64 {
    time.as_nanos().cast_signed()
}

/// The texts of the statements.
#[derive(Debug)]
pub(super) struct Statements {
    pub(super) read: String,
    pub(super) sweep: String,
    pub(super) clear: String,
    write: [String; 3],
    remove: [String; 3],
}

/// In the order of [`Statements::write`] and [`Statements::remove`].
fn number(condition: Condition) -> (usize, Option<Version>) {
    match condition {
        Condition::IfNewerThan(version) => (1, Some(version)),
        Condition::IfVersionIs(version) => (2, version),
        _ => (0, None),
    }
}

impl Statements {
    pub(super) fn on(schema: &Schema) -> Self {
        let table = format!("{schema}.cache");
        Self {
            read: format!(
                "SELECT r.at, c.value, c.version, c.expire, c.stale \
                 FROM unnest($1::bytea[]) WITH ORDINALITY AS r(key, at) \
                 JOIN {table} c ON c.key = r.key"
            ),
            // Both clocks have to agree: that of a client may be wrong, and entries belong to all.
            sweep: format!(
                "WITH gone AS (DELETE FROM {table} WHERE key IN (\
                 SELECT key FROM {table} WHERE expire >= 0 AND expire <= least($1::bigint, \
                 (extract(epoch FROM clock_timestamp()) * 1000000000)::bigint) \
                 ORDER BY expire LIMIT $2::bigint FOR UPDATE SKIP LOCKED) RETURNING 1) \
                 SELECT count(*) FROM gone"
            ),
            clear: format!("TRUNCATE {table}"),
            write: [upsert(&table, ALWAYS), upsert(&table, NEWER), update(&table)],
            remove: [remove(&table, ALWAYS), remove(&table, NEWER), remove(&table, IS)],
        }
    }

    /// Makes the changes of one round.
    pub(super) async fn apply(
        &self,
        pool: &Pool,
        round: &[Change<'_>],
        condition: Condition,
        now: Timestamp,
    ) -> Result<Vec<Done>, Trouble> {
        let keys: Vec<&[u8]> = round.iter().map(|change| change.key.as_str().as_bytes()).collect();
        let (number, version) = number(condition);
        let version = version.map(Version::to_bytes);
        let version: Option<&[u8]> = version.as_ref().map(|version| &version[..]);
        let now = time(now);
        let values = round.iter().filter_map(|change| match change.then {
            Then::Write(value) => Some(value),
            Then::Remove => None,
        });
        let values: Vec<_> = values.collect();
        if values.is_empty() {
            let rows = pool.query(&self.remove[number], &[&now, &version, &keys]).await?;
            // Only over what was there, or wherever nothing else was.
            let otherwise = match condition {
                Condition::IfVersionIs(_) => Done::Nothing,
                _ => Done::Applied { removed: false },
            };
            return each(&keys, &rows, otherwise);
        }
        let versions: Vec<_> =
            values.iter().map(|value| value.version.map(Version::to_bytes)).collect();
        let versions: Vec<Option<&[u8]>> =
            versions.iter().map(|version| version.as_ref().map(|version| &version[..])).collect();
        let expire: Vec<_> = values.iter().map(|value| value.expire.map(time)).collect();
        let stale: Vec<_> = values.iter().map(|value| value.stale.map(time)).collect();
        let data: Vec<&[u8]> = values.iter().map(|value| &value.data[..]).collect();
        let rows = pool
            .query(&self.write[number], &[&now, &version, &keys, &data, &versions, &expire, &stale])
            .await?;
        each(&keys, &rows, Done::Nothing)
    }
}

/// Tells each key what the rows say of it: whether it applied, and whether it removed something.
fn each(
    keys: &[&[u8]],
    rows: &[tokio_postgres::Row],
    otherwise: Done,
) -> Result<Vec<Done>, Trouble> {
    let odd = || Trouble::Odd { what: "no row about a change" };
    let places: HashMap<&[u8], usize> =
        keys.iter().enumerate().map(|(at, key)| (*key, at)).collect();
    let mut done = vec![otherwise; keys.len()];
    for row in rows {
        let at = row.try_get(0).ok().and_then(|key: &[u8]| places.get(key));
        let (applied, removed) = (row.try_get(1), row.try_get(2));
        let (Some(at), Ok(applied), Ok(removed)) = (at, applied, removed) else {
            return Err(odd());
        };
        done[*at] = if applied { Done::Applied { removed } } else { Done::Nothing };
    }
    Ok(done)
}

/// That a row's life is over at the time of the caller.
const DEAD: &str = "(c.expire >= 0 AND c.expire <= $1::bigint)";
/// The conditions, as they hold for a row that counts; the first names no version.
const ALWAYS: &str = "($2::bytea IS NULL)";
const NEWER: &str = "(c.version IS NULL OR c.version < $2::bytea)";
const IS: &str = "(c.version IS NOT DISTINCT FROM $2::bytea)";
/// What is written, a row for each key.
const VALUES: &str = "unnest($3::bytea[], $4::bytea[], $5::bytea[], $6::bigint[], $7::bigint[]) \
                      AS r(key, value, version, expire, stale)";

/// Writes where nothing is, or nothing that counts, or something for which `holds`.
fn upsert(table: &str, holds: &str) -> String {
    format!(
        "INSERT INTO {table} AS c (key, value, version, expire, stale) \
         SELECT * FROM {VALUES} ORDER BY key \
         ON CONFLICT (key) DO UPDATE SET value = excluded.value, version = excluded.version, \
         expire = excluded.expire, stale = excluded.stale \
         WHERE {holds} OR {DEAD} RETURNING c.key, true, false"
    )
}

/// Writes only over a row that counts and has this version.
///
/// Whoever waits for a lock judges the row as it is then.
fn update(table: &str) -> String {
    format!(
        "WITH held AS MATERIALIZED (\
         SELECT r.* FROM {VALUES} JOIN {table} c ON c.key = r.key \
         WHERE {IS} AND NOT coalesce({DEAD}, false) ORDER BY c.key FOR UPDATE OF c) \
         UPDATE {table} c SET value = r.value, version = r.version, expire = r.expire, \
         stale = r.stale FROM held r \
         WHERE c.key = r.key AND {IS} AND NOT coalesce({DEAD}, false) \
         RETURNING c.key, true, false"
    )
}

/// Removes rows for which `holds`, and those that do not count; tells of those that count which it removed and
/// which stay.
fn remove(table: &str, holds: &str) -> String {
    let dead = format!("coalesce({DEAD}, false)");
    let holds = format!("({holds} OR {dead})");
    format!(
        "WITH held AS MATERIALIZED (\
         SELECT c.key FROM unnest($3::bytea[]) AS r(key) JOIN {table} c ON c.key = r.key \
         WHERE {holds} ORDER BY c.key FOR UPDATE OF c), \
         gone AS (DELETE FROM {table} c USING held r WHERE c.key = r.key AND {holds} \
         RETURNING c.key, NOT {dead} AS counted) \
         SELECT key, true, true FROM gone WHERE counted \
         UNION ALL \
         SELECT c.key, false, false FROM unnest($3::bytea[]) AS r(key) \
         JOIN {table} c ON c.key = r.key WHERE NOT {holds}"
    )
}
