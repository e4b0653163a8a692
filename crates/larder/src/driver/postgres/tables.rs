//! Where things are kept: a schema, the tables of a contract in it, and their layout.

use std::fmt;

use tokio_postgres::Client;

use super::session::first_row;
use super::{Endpoint, Trouble};
use crate::address::{Address, AddressError};

/// The name of a schema, which may stand in a statement as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Schema(String);

impl Schema {
    /// The schema of an address that names none.
    pub(crate) const DEFAULT: &'static str = "larder";
    /// What the server keeps of a name.
    const LEN_MAX: usize = 63;

    /// Takes the parameter `schema` out of an address.
    pub(crate) fn take(address: &mut Address) -> Result<Self, AddressError> {
        let name = address.take("schema").unwrap_or_else(|| Self::DEFAULT.to_owned());
        let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let begins_well = name.starts_with(|first: char| first.is_ascii_lowercase());
        if begins_well
            && name.len() <= Self::LEN_MAX
            && name.bytes().all(known)
            && !name.starts_with("pg_")
        {
            return Ok(Self(name));
        }
        Err(AddressError::BadValue {
            name: "schema".into(),
            value: name,
            expected: "1 to 63 lower-case letters, digits and _, a letter first, and not pg_",
        })
    }
}

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}

/// The tables of one contract.
#[derive(Debug)]
pub(crate) struct Tables {
    pub(crate) schema: Schema,
    /// What is kept there, such as `cache`.
    pub(crate) what: &'static str,
    /// The number of their layout and of the statements that may be used on them together.
    pub(crate) layout: u32,
    /// The statements that make them.
    pub(crate) create: String,
}

impl Tables {
    /// Makes the tables unless they are there, and compares their layout with the one that is known here.
    pub(super) async fn enter(&self, client: &Client, endpoint: &Endpoint) -> Result<(), Trouble> {
        let Self { schema, what, layout, .. } = self;
        let early = |error| Trouble::of(endpoint, &error, false);
        if self.found(client).await.map_err(early)?.is_none() {
            client.batch_execute(&self.making()).await.map_err(early)?;
        }
        match self.found(client).await.map_err(early)? {
            Some(found) if found == *layout => Ok(()),
            found => Err(Trouble::Foreign {
                place: endpoint.to_string(),
                what: format!(
                    "the schema {schema} has layout {} of {what}, this one knows {layout}",
                    found.map_or_else(|| "none".to_owned(), |found| found.to_string())
                ),
            }),
        }
    }

    /// The layout that is there; `None` when there is nothing.
    async fn found(&self, client: &Client) -> Result<Option<u32>, tokio_postgres::Error> {
        let Self { schema, what, .. } = self;
        let is_there = format!("SELECT to_regclass('{schema}.larder_layout') IS NOT NULL");
        if first_row(client, &is_there).await?.first() != Some(&Some("t".to_owned())) {
            return Ok(None);
        }
        let layout = format!("SELECT layout FROM {schema}.larder_layout WHERE what = '{what}'");
        let row = first_row(client, &layout).await?;
        Ok(row.into_iter().next().flatten().and_then(|layout| layout.parse().ok()))
    }

    /// Makes everything in one transaction, one process at a time: `IF NOT EXISTS` alone lets two that
    /// begin together fail.
    fn making(&self) -> String {
        let Self { schema, what, layout, create } = self;
        format!(
            "BEGIN; \
             SELECT pg_advisory_xact_lock(hashtext('larder'), hashtext('{schema}')); \
             DO $$ BEGIN IF to_regnamespace('{schema}') IS NULL THEN CREATE SCHEMA {schema}; \
             END IF; END $$; \
             CREATE TABLE IF NOT EXISTS {schema}.larder_layout \
             (what text PRIMARY KEY, layout integer NOT NULL); \
             {create}; \
             INSERT INTO {schema}.larder_layout VALUES ('{what}', {layout}) ON CONFLICT DO NOTHING; \
             COMMIT"
        )
    }
}
