//! Reads: many heads, or many short scans, in one statement each.

use std::sync::Arc;

use larder_core::{ConsensusError, SeqNo, VersionedData};

use super::super::coalesce::Job;
use super::statement::{Tables, number, unread, version};
use crate::driver::postgres::Trouble;

/// One read of a key.
#[derive(Clone, Debug)]
pub(super) enum Look {
    /// Its newest version.
    Head(Arc<str>),
    /// So many versions from one on.
    Scan {
        key: Arc<str>,
        from: SeqNo,
        /// At most [`SCAN_MAX`].
        limit: i64,
    },
}

/// Longer scans go alone: what they bring would hold up the others.
pub(super) const SCAN_MAX: usize = 64;
/// What a version counts in a batch, whatever it holds: nobody knows before.
const VERSION_BYTES: usize = 64;

/// The kinds of reads.
const HEADS: usize = 0;
const SCANS: usize = 1;

impl Look {
    fn key(&self) -> &str {
        match self {
            Self::Head(key) | Self::Scan { key, .. } => key,
        }
    }
}

impl Job for Look {
    /// The versions in order; of a head one, or none.
    type Answer = Result<Vec<VersionedData>, ConsensusError>;
    type Tools = Arc<Tables>;

    fn lane(&self) -> usize {
        match self {
            Self::Head(_) => HEADS,
            Self::Scan { .. } => SCANS,
        }
    }

    fn owner(&self) -> Option<&Arc<str>> {
        None
    }

    fn bytes(&self) -> usize {
        let versions = match self {
            Self::Head(_) => 0,
            Self::Scan { limit, .. } => usize::try_from(*limit).unwrap_or(SCAN_MAX),
        };
        self.key().len() + versions * VERSION_BYTES
    }

    async fn run(tables: &Arc<Tables>, looks: &[Self]) -> Vec<Self::Answer> {
        let operation = match looks.first() {
            Some(Self::Scan { .. }) => "scan",
            _ => "head",
        };
        match look(tables, looks).await {
            Ok(found) => found.into_iter().map(Ok).collect(),
            Err(trouble) => looks.iter().map(|_| Err(unread(trouble.clone(), operation))).collect(),
        }
    }
}

/// Reads of one kind in one statement, which begins after each of them was asked for.
async fn look(tables: &Tables, looks: &[Look]) -> Result<Vec<Vec<VersionedData>>, Trouble> {
    let keys: Vec<&str> = looks.iter().map(Look::key).collect();
    let (mut from, mut limits) = (Vec::new(), Vec::new());
    for look in looks {
        if let Look::Scan { from: first, limit, .. } = look {
            from.push(number(*first));
            limits.push(*limit);
        }
    }
    let rows = if limits.is_empty() {
        tables.pool.query(&tables.statements.heads, &[&keys]).await?
    } else {
        tables.pool.query(&tables.statements.scans, &[&keys, &from, &limits]).await?
    };
    let mut found = vec![Vec::new(); looks.len()];
    for row in rows {
        let odd = || Trouble::Odd { what: "no row about a version" };
        let at = row.try_get::<_, i64>(0).ok().and_then(|at| usize::try_from(at - 1).ok());
        let place = at.and_then(|at| found.get_mut(at)).ok_or_else(odd)?;
        place.push(version(&row, 1).ok_or_else(odd)?);
    }
    Ok(found)
}
