//! The tables of a consensus store, and the statements on them, each of which commits by itself under
//! READ COMMITTED.
//!
//! Why one winner: only who holds the lock of a head's row changes it, and whoever has waited for that lock
//! is judged by the row as it is then. Why no two batches wait for one another in a circle: rows are
//! locked in the order of their keys, and heads that are there and heads that are new are never touched by one
//! statement. Why nothing comes back: rows of heads are never deleted.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use larder_core::{CaSResult, ConsensusError, Determinate, Effect, SeqNo, VersionedData};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::consensus::coalesce::Job;
use crate::driver::postgres::{Care, Pool, Schema, Trouble};

/// The number of the layout and of the statements: those of another number must not be mixed with these.
pub(super) const LAYOUT: u32 = 1;

/// Makes the tables. Half of a page of heads stays free for their new versions.
pub(super) fn create(schema: &Schema) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {schema}.consensus_head \
         (key text COLLATE \"C\" PRIMARY KEY, seqno bigint NOT NULL) WITH (fillfactor = 50); \
         CREATE TABLE IF NOT EXISTS {schema}.consensus_version \
         (key text COLLATE \"C\", seqno bigint, data bytea NOT NULL, PRIMARY KEY (key, seqno))"
    )
}

/// How a winner was kept, in the place of the head that a loser lost to. Found out once for a statement.
const CARE: &str = "(SELECT CASE WHEN current_setting('fsync') <> 'on' THEN 0::bigint \
                    WHEN current_setting('synchronous_standby_names') = '' THEN 1 ELSE 2 END)";

/// The way to the tables, and the statements on them.
#[derive(Debug)]
pub(super) struct Tables {
    pub(super) pool: Pool,
    pub(super) statements: Statements,
}

/// The texts of the statements.
#[derive(Debug)]
pub(super) struct Statements {
    pub(super) scan: String,
    pub(super) scans: String,
    pub(super) truncate: String,
    pub(super) keys: String,
    pub(super) heads: String,
    replace: String,
    replace_one: String,
    initialise: String,
    initialise_one: String,
    current: String,
}

impl Statements {
    pub(super) fn on(schema: &Schema) -> Self {
        let head = format!("{schema}.consensus_head");
        let version = format!("{schema}.consensus_version");
        let kept_one = format!(
            "kept AS (INSERT INTO {version} (key, seqno, data) SELECT key, $2, $3 FROM won RETURNING true) \
             SELECT $1::text, EXISTS (SELECT FROM kept), CASE WHEN EXISTS (SELECT FROM kept) \
             THEN {CARE} ELSE (SELECT seqno FROM {head} WHERE key = $1) END"
        );
        Self {
            // A loser that the snapshot still shows its expectation is in neither part of the answer.
            replace: format!(
                "WITH req AS MATERIALIZED (SELECT * FROM \
                 unnest($1::text[], $2::bigint[], $3::bytea[], $4::bigint[]) \
                 AS r(key, new, data, expected)), \
                 held AS MATERIALIZED (SELECT r.* FROM req r JOIN {head} h ON h.key = r.key \
                 WHERE h.seqno = r.expected ORDER BY h.key FOR NO KEY UPDATE OF h), \
                 won AS (UPDATE {head} h SET seqno = r.new FROM held r \
                 WHERE h.key = r.key AND h.seqno = r.expected RETURNING h.key, r.new, r.data), \
                 kept AS (INSERT INTO {version} (key, seqno, data) SELECT key, new, data FROM won) \
                 SELECT key, true, {CARE} FROM won UNION ALL \
                 SELECT r.key, false, h.seqno FROM req r LEFT JOIN {head} h ON h.key = r.key \
                 WHERE h.seqno IS DISTINCT FROM r.expected"
            ),
            // One row needs no order of locks and no arrays, and a winner no look at what made it lose.
            replace_one: format!(
                "WITH won AS (UPDATE {head} SET seqno = $2 WHERE key = $1 AND seqno = $4 RETURNING key), \
                 {kept_one}"
            ),
            initialise_one: format!(
                "WITH won AS (INSERT INTO {head} (key, seqno) VALUES ($1, $2) \
                 ON CONFLICT (key) DO NOTHING RETURNING key), {kept_one}"
            ),
            initialise: format!(
                "WITH req AS MATERIALIZED (SELECT * FROM \
                 unnest($1::text[], $2::bigint[], $3::bytea[]) AS r(key, new, data)), \
                 won AS (INSERT INTO {head} (key, seqno) SELECT key, new FROM req ORDER BY key \
                 ON CONFLICT (key) DO NOTHING RETURNING key), \
                 kept AS (INSERT INTO {version} (key, seqno, data) \
                 SELECT r.key, r.new, r.data FROM req r JOIN won w ON w.key = r.key) \
                 SELECT key, true, {CARE} FROM won UNION ALL \
                 SELECT r.key, false, h.seqno FROM req r JOIN {head} h ON h.key = r.key"
            ),
            current: format!("SELECT key, false, seqno FROM {head} WHERE key = ANY ($1::text[])"),
            // A head and its version are written by one statement, and the newest version is never truncated: it
            // is the head, and one look-up in one index finds it.
            heads: format!(
                "SELECT r.at, v.seqno, v.data FROM unnest($1::text[]) WITH ORDINALITY AS r(key, at) \
                 CROSS JOIN LATERAL (SELECT seqno, data FROM {version} v WHERE v.key = r.key \
                 ORDER BY v.seqno DESC LIMIT 1) v"
            ),
            scan: format!(
                "SELECT seqno, data FROM {version} WHERE key = $1 AND seqno >= $2 \
                 ORDER BY seqno LIMIT $3"
            ),
            scans: format!(
                "SELECT r.at, v.seqno, v.data FROM unnest($1::text[], $2::bigint[], $3::bigint[]) \
                 WITH ORDINALITY AS r(key, first, most, at) CROSS JOIN LATERAL \
                 (SELECT seqno, data FROM {version} v WHERE v.key = r.key AND v.seqno >= r.first \
                 ORDER BY v.seqno LIMIT r.most) v ORDER BY r.at, v.seqno"
            ),
            // The head that the snapshot shows only grows, so it goes on being enough. Versions are locked in
            // one order, so that batches of two processes do not wait for one another in a circle.
            truncate: format!(
                "WITH top AS MATERIALIZED (SELECT r.key, r.below, h.seqno \
                 FROM unnest($1::text[], $2::bigint[]) AS r(key, below) JOIN {head} h ON h.key = r.key), \
                 doomed AS MATERIALIZED (SELECT v.key, v.seqno FROM top t JOIN {version} v \
                 ON v.key = t.key AND v.seqno < t.below WHERE t.seqno >= t.below \
                 ORDER BY v.key, v.seqno FOR UPDATE OF v), \
                 gone AS (DELETE FROM {version} v USING doomed d \
                 WHERE v.key = d.key AND v.seqno = d.seqno RETURNING v.key), \
                 counts AS (SELECT key, count(*) AS gone FROM gone GROUP BY key) \
                 SELECT t.key, t.seqno, coalesce(c.gone, 0) FROM top t LEFT JOIN counts c ON c.key = t.key"
            ),
            keys: format!("SELECT key FROM {head} WHERE key > $1 ORDER BY key LIMIT $2"),
        }
    }
}

/// One compare-and-set, with its arguments checked.
#[derive(Clone, Debug)]
pub(super) struct Swap {
    pub(super) key: Arc<str>,
    pub(super) expected: Option<SeqNo>,
    pub(super) new: VersionedData,
}

/// The heads that are to be replaced, and those that are to be made.
const REPLACE: usize = 0;
const INITIALISE: usize = 1;

impl Job for Swap {
    type Answer = Result<CaSResult, ConsensusError>;
    type Tools = Arc<Tables>;

    fn lane(&self) -> usize {
        if self.expected.is_some() { REPLACE } else { INITIALISE }
    }

    fn owner(&self) -> Option<&Arc<str>> {
        Some(&self.key)
    }

    fn bytes(&self) -> usize {
        self.key.len() + self.new.data.len()
    }

    async fn run(tables: &Arc<Tables>, swaps: &[Self]) -> Vec<Self::Answer> {
        match swap(tables, swaps).await {
            Ok(answers) => answers,
            // The statement is one transaction: what is known of it is known of each.
            Err(trouble) => {
                let told = |_: &Self| Err(written(trouble.clone(), "compare_and_set"));
                swaps.iter().map(told).collect()
            }
        }
    }
}

/// Makes compare-and-sets of different keys and one lane in one statement.
async fn swap(
    tables: &Tables,
    swaps: &[Swap],
) -> Result<Vec<Result<CaSResult, ConsensusError>>, Trouble> {
    let keys: Vec<&str> = swaps.iter().map(|swap| &*swap.key).collect();
    let new: Vec<i64> = swaps.iter().map(|swap| number(swap.new.seqno)).collect();
    let data: Vec<&[u8]> = swaps.iter().map(|swap| &swap.new.data[..]).collect();
    let expected: Vec<i64> = swaps.iter().filter_map(|swap| swap.expected).map(number).collect();
    let Tables { pool, statements } = tables;
    let rows = match (swaps, &expected[..]) {
        ([_], []) => pool.query(&statements.initialise_one, &[&keys[0], &new[0], &data[0]]).await?,
        ([_], [expected]) => {
            let values: [&(dyn ToSql + Sync); 4] = [&keys[0], &new[0], &data[0], expected];
            pool.query(&statements.replace_one, &values).await?
        }
        (_, []) => pool.query(&statements.initialise, &[&keys, &new, &data]).await?,
        _ => pool.query(&statements.replace, &[&keys, &new, &data, &expected]).await?,
    };
    let places: HashMap<&str, usize> =
        keys.iter().enumerate().map(|(at, key)| (*key, at)).collect();
    let mut answers: Vec<Option<CaSResult>> = vec![None; swaps.len()];
    if let Some(care) = judge(&rows, &places, swaps, &mut answers)? {
        pool.heed(care)?;
    }
    let unsure: Vec<&str> = keys
        .iter()
        .zip(&answers)
        .filter(|(_, answer)| answer.is_none())
        .map(|(key, _)| *key)
        .collect();
    let mut trouble = None;
    if !unsure.is_empty() {
        // They lost to somebody whom the snapshot did not show: the head is somebody else's by now.
        match tables.pool.query(&tables.statements.current, &[&unsure]).await {
            Ok(rows) => drop(judge(&rows, &places, swaps, &mut answers)?),
            Err(why) => trouble = Some(why),
        }
    }
    let lost = || {
        let why = trouble.clone().unwrap_or(Trouble::Odd { what: "a head that nobody moved" });
        // That it lost is known, only not to whom.
        ConsensusError::from(Determinate::Backend(why.in_read("compare_and_set")))
    };
    Ok(answers.into_iter().map(|answer| answer.ok_or_else(lost)).collect())
}

/// Takes rows of key, whether it won, and the head that made it lose; how winners were kept, if there are any.
fn judge(
    rows: &[Row],
    places: &HashMap<&str, usize>,
    swaps: &[Swap],
    answers: &mut [Option<CaSResult>],
) -> Result<Option<Care>, Trouble> {
    let mut care = None;
    for row in rows {
        let odd = || Trouble::Odd { what: "no row about a compare-and-set" };
        let at = *row.try_get(0).ok().and_then(|key: &str| places.get(key)).ok_or_else(odd)?;
        let won: bool = row.try_get(1).map_err(|_| odd())?;
        let told: Option<i64> = row.try_get(2).map_err(|_| odd())?;
        let current = told.map(|seqno| SeqNo(seqno.unsigned_abs()));
        if won {
            answers[at] = Some(CaSResult::Committed);
            care = Some(match told {
                Some(1) => Care::Disk,
                Some(2) => Care::Standbys,
                _ => Care::None,
            });
        } else if current != swaps[at].expected {
            answers[at] = Some(CaSResult::ExpectationMismatch { current });
        }
    }
    Ok(care)
}

/// A version from the columns `at` and the one behind it.
pub(super) fn version(row: &Row, at: usize) -> Option<VersionedData> {
    let seqno: i64 = row.try_get(at).ok()?;
    let data = Bytes::copy_from_slice(row.try_get(at + 1).ok()?);
    Some(VersionedData { seqno: SeqNo(seqno.unsigned_abs()), data })
}

/// A sequence number that was checked, as the server has it.
pub(super) fn number(seqno: SeqNo) -> i64 {
    i64::try_from(seqno.0).unwrap_or(i64::MAX)
}

/// The error of a call that changes something.
pub(super) fn written(trouble: Trouble, operation: &'static str) -> ConsensusError {
    match trouble.effect() {
        Effect::NotApplied => Determinate::Backend(trouble.in_write(operation)).into(),
        Effect::Unknown => ConsensusError::Indeterminate(trouble.in_write(operation)),
    }
}

/// The error of a call that changes nothing.
pub(super) fn unread(trouble: Trouble, operation: &'static str) -> ConsensusError {
    Determinate::Backend(trouble.in_read(operation)).into()
}
