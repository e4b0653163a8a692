//! PostgreSQL without larder: a statement for each call, on a connection that is the caller's meanwhile.

use std::sync::{Mutex, PoisonError};

use ::larder::clock::random_u64;
use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls, Statement};

use super::{Agreed, next};
use crate::error::Result;
use crate::subject::Work;

/// Which of the statements that are sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Isolation {
    /// Looks for the newest version; whoever is in the way of another one is told to begin again.
    Serializable,
    /// Holds the expected version, and the next one has to be new: sound where numbers have no gaps.
    ReadCommitted,
}

/// A table of versions, and as many connections as larder has.
pub(crate) struct StatementEach {
    idle: Mutex<Vec<Session>>,
    places: Semaphore,
}

struct Session {
    client: Client,
    first: Statement,
    swap: Statement,
    head: Statement,
}

impl StatementEach {
    pub(crate) async fn connect(
        uri: &str,
        isolation: Isolation,
        connections: usize,
    ) -> Result<Self> {
        let table = format!("peer_{:016x}", random_u64());
        let create = format!(
            "CREATE TABLE {table} (key text COLLATE \"C\", seqno bigint, data bytea NOT NULL, \
             PRIMARY KEY (key, seqno))"
        );
        let level = match isolation {
            Isolation::Serializable => "SERIALIZABLE",
            Isolation::ReadCommitted => "READ COMMITTED",
        };
        let level = format!("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL {level}");
        let swap = match isolation {
            Isolation::Serializable => format!(
                "INSERT INTO {table} SELECT $1, $2, $3 WHERE $4 = \
                 (SELECT seqno FROM {table} WHERE key = $1 ORDER BY seqno DESC LIMIT 1)"
            ),
            Isolation::ReadCommitted => format!(
                "WITH held AS (SELECT key FROM {table} WHERE key = $1 AND seqno = $4 FOR KEY SHARE) \
                 INSERT INTO {table} SELECT key, $2, $3 FROM held ON CONFLICT DO NOTHING"
            ),
        };
        let first = format!("INSERT INTO {table} VALUES ($1, $2, $3) ON CONFLICT DO NOTHING");
        let head =
            format!("SELECT seqno, data FROM {table} WHERE key = $1 ORDER BY seqno DESC LIMIT 1");
        let mut idle = Vec::new();
        for at in 0..connections {
            let (client, connection) = tokio_postgres::connect(uri, NoTls).await?;
            tokio::spawn(connection);
            if at == 0 {
                client.batch_execute(&create).await?;
            }
            // As larder has it: plans for a table that has statistics already.
            let plans = "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off";
            client.batch_execute(&format!("{level}; {plans}")).await?;
            let [first, swap, head] = [
                client.prepare(&first).await?,
                client.prepare(&swap).await?,
                client.prepare(&head).await?,
            ];
            idle.push(Session { client, first, swap, head });
        }
        Ok(Self { idle: Mutex::new(idle), places: Semaphore::new(connections) })
    }

    fn take(&self) -> Option<Session> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn give(&self, session: Session) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
    }
}

fn number(seqno: u64) -> i64 {
    seqno.cast_signed()
}

impl Session {
    async fn swap(&self, key: &str, from: Option<u64>, data: &[u8]) -> Result<()> {
        loop {
            let new = number(next(from));
            let inserted = match from.map(number) {
                None => self.client.execute(&self.first, &[&key, &new, &data]).await,
                Some(from) => self.client.execute(&self.swap, &[&key, &new, &data, &from]).await,
            };
            match inserted {
                Ok(1) => return Ok(()),
                Ok(_) => return Err("a mismatch, and nobody else writes".into()),
                // The price of SERIALIZABLE.
                Err(error) if error.code() == Some(&SqlState::T_R_SERIALIZATION_FAILURE) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Agreed for StatementEach {
    fn swap<'a>(&'a self, key: &'a str, from: Option<u64>, data: Bytes) -> Work<'a, ()> {
        Box::pin(async move {
            let _place = self.places.acquire().await?;
            let session = self.take().ok_or("there is no connection")?;
            let swapped = session.swap(key, from, &data).await;
            self.give(session);
            swapped
        })
    }

    fn head<'a>(&'a self, key: &'a str) -> Work<'a, ()> {
        Box::pin(async move {
            let _place = self.places.acquire().await?;
            let session = self.take().ok_or("there is no connection")?;
            let found = session.client.query_one(&session.head, &[&key]).await;
            self.give(session);
            let data: Vec<u8> = found?.try_get(1)?;
            if data.is_empty() { Err("a head without data".into()) } else { Ok(()) }
        })
    }
}
