//! Truncations: many keys in one statement.

use std::collections::HashMap;
use std::sync::Arc;

use larder_core::{ConsensusError, Determinate, SeqNo};

use super::super::coalesce::Job;
use super::statement::{Tables, number, written};
use crate::driver::postgres::Trouble;

/// One truncation, with its arguments checked.
#[derive(Clone, Debug)]
pub(super) struct Trim {
    pub(super) key: Arc<str>,
    pub(super) below: SeqNo,
}

impl Job for Trim {
    type Answer = Result<usize, ConsensusError>;
    type Tools = Arc<Tables>;

    fn lane(&self) -> usize {
        0
    }

    fn owner(&self) -> Option<&Arc<str>> {
        Some(&self.key)
    }

    fn bytes(&self) -> usize {
        self.key.len()
    }

    async fn run(tables: &Arc<Tables>, trims: &[Self]) -> Vec<Self::Answer> {
        match trim(tables, trims).await {
            Ok(answers) => answers,
            // The statement is one transaction: what is known of it is known of each.
            Err(trouble) => {
                trims.iter().map(|_| Err(written(trouble.clone(), "truncate"))).collect()
            }
        }
    }
}

/// Truncates different keys in one statement.
async fn trim(
    tables: &Tables,
    trims: &[Trim],
) -> Result<Vec<Result<usize, ConsensusError>>, Trouble> {
    let keys: Vec<&str> = trims.iter().map(|trim| &*trim.key).collect();
    let below: Vec<i64> = trims.iter().map(|trim| number(trim.below)).collect();
    let rows = tables.pool.query(&tables.statements.truncate, &[&keys, &below]).await?;
    let mut told: HashMap<&str, (SeqNo, usize)> = HashMap::new();
    for row in &rows {
        let odd = || Trouble::Odd { what: "no row about a truncation" };
        let key: &str = row.try_get(0).map_err(|_| odd())?;
        let head: i64 = row.try_get(1).map_err(|_| odd())?;
        let gone: i64 = row.try_get(2).map_err(|_| odd())?;
        told.insert(key, (SeqNo(head.unsigned_abs()), usize::try_from(gone).map_err(|_| odd())?));
    }
    let answer = |trim: &Trim| {
        let seqno = trim.below;
        let (head, gone) = *told.get(&*trim.key).ok_or(Determinate::NoSuchKey)?;
        if seqno > head {
            return Err(Determinate::AboveHead { seqno, head }.into());
        }
        Ok(gone)
    };
    Ok(trims.iter().map(answer).collect())
}
