//! `larder spool`: payloads by id.

use std::time::Instant;

use larder::channel::{DEFAULT_CAPACITY, channel};
use larder::error::chain;
use larder::{
    Clock, EnumerateAborted, EnumerateSummary, Listing, SharedSpool, Spool, SpoolEntry, SpoolId,
    SpoolStats, SystemClock, Timestamp,
};
use serde_json::{Value, json};

use super::{copy, put};
use crate::args::{SpoolAction, SpoolArgs, SpoolWrite};
use crate::exit::{Exit, say};
use crate::output::Output;
use crate::{progress, stores};

pub(crate) async fn run(args: SpoolArgs, output: &mut Output) -> Result<(), Exit> {
    match args.action {
        SpoolAction::Put { uri, sources, write } => put::run(&uri, sources, &write, output).await,
        SpoolAction::Get { uri, id } => {
            let data = stores::with_spool(&uri, async |spool| Ok(spool.load(id).await?)).await?;
            output.payload(&data)
        }
        SpoolAction::Rm { uri, ids, no_sync } => {
            let count = ids.len();
            stores::with_spool(&uri, async |spool| Ok(spool.remove_many(ids, !no_sync).await?))
                .await?;
            if output.json() { output.object(&json!({ "removed": count })) } else { Ok(()) }
        }
        SpoolAction::Ls { uri } => {
            stores::with_spool(&uri, async |spool| list(spool, output).await).await
        }
        SpoolAction::Stat { uri } => {
            let stats = stores::with_spool(&uri, async |spool| {
                Ok((spool.stats().await?, spool.unhealthy_reason()))
            });
            let (stats, unhealthy) = stats.await?;
            show_stats(&stats, unhealthy, output)
        }
        SpoolAction::Compact { uri } => {
            let bar = progress::spinner("compacting");
            let stats = stores::with_spool(&uri, async |spool| {
                spool.compact().await?;
                Ok((spool.stats().await?, spool.unhealthy_reason()))
            });
            let stats = stats.await;
            bar.finish_and_clear();
            let (stats, unhealthy) = stats?;
            show_stats(&stats, unhealthy, output)
        }
        SpoolAction::Verify { uri } => {
            stores::with_spool(&uri, async |spool| verify(spool, output).await).await
        }
        SpoolAction::Copy { uri, to, write } => copy::run(&uri, &to, &write, output).await,
        SpoolAction::Repair { uri } => {
            // Opened all the same: a wrong address should be told first.
            stores::with_spool(&uri, async |_| Ok(())).await?;
            let message = "there is nothing to repair: only a tiered spool has layers that can \
                           differ, and this is a single store";
            Err(Exit::usage(message).at(&uri))
        }
        SpoolAction::Acknowledge { uri } => {
            let accepted =
                stores::with_spool(&uri, async |spool| Ok(spool.acknowledge().await?)).await?;
            for place in &accepted {
                output.line(&json!({ "damage": place }), place)?;
            }
            let count = accepted.len();
            let text = match count {
                0 => "nothing to acknowledge".to_owned(),
                count => format!("acknowledged: {count} damaged places"),
            };
            output.line(&json!({ "acknowledged": count }), &text)
        }
    }
}

impl SpoolWrite {
    /// Whether to wait for the disk.
    pub(crate) fn force_sync(&self) -> bool {
        !self.no_sync
    }

    /// When to give up on a write that starts now.
    pub(crate) fn deadline_from_now(&self) -> Option<Instant> {
        self.deadline.and_then(|deadline| SystemClock.instant().checked_add(deadline))
    }
}

/// When an id was made, for listings; empty for ids that carry no time.
pub(crate) fn created(id: SpoolId) -> Option<String> {
    id.created().ok().map(|created| created.to_string())
}

/// One entry of a listing as an object; the same on the command line and over HTTP.
pub(crate) fn entry_object(entry: &Listing) -> Value {
    match entry {
        Listing::Item { id, size } => {
            json!({ "id": id.to_string(), "size": size, "created": created(*id) })
        }
        Listing::Corrupt { id, error } => {
            json!({ "id": id.map(|id| id.to_string()), "error": chain(error) })
        }
    }
}

/// The last line of a listing as an object; the same on the command line and over HTTP.
pub(crate) fn end_object(end: &Result<EnumerateSummary, EnumerateAborted>) -> Value {
    match end {
        Ok(sent) => json!({ "complete": true, "items": sent.items, "corrupt": sent.corrupt }),
        Err(aborted) => json!({
            "complete": false, "items": aborted.so_far.items, "corrupt": aborted.so_far.corrupt,
            "error": chain(aborted),
        }),
    }
}

async fn list(spool: &SharedSpool, output: &mut Output) -> Result<(), Exit> {
    let (sender, mut entries) = channel(DEFAULT_CAPACITY);
    let end = spool.list(sender, Timestamp::MAX)?;
    while let Some(entry) = entries.recv().await {
        let text = match &entry {
            Listing::Item { id, size } => {
                format!("{id} {size} {}", created(*id).unwrap_or_else(|| "-".into()))
            }
            Listing::Corrupt { id, error } => {
                let id = id.map_or_else(|| "-".into(), |id| id.to_string());
                format!("{id} corrupt: {}", chain(error))
            }
        };
        output.line(&entry_object(&entry), &text)?;
    }
    let end = end.await;
    let text = match &end {
        Ok(sent) => format!("complete: {} items, {} corrupt", sent.items, sent.corrupt),
        Err(aborted) => format!("incomplete: {}", chain(aborted)),
    };
    output.line(&end_object(&end), &text)?;
    output.flush()?;
    end.map(drop).map_err(|aborted| Exit::failed(format!("the listing is not complete: {aborted}")))
}

async fn verify(spool: &SharedSpool, output: &mut Output) -> Result<(), Exit> {
    let (sender, mut entries) = channel(16);
    let end = spool.enumerate(sender, Timestamp::MAX)?;
    let bar = progress::count("reading");
    while let Some(entry) = entries.recv().await {
        bar.inc(1);
        if let SpoolEntry::Corrupt { error, .. } = entry {
            bar.suspend(|| say(&format!("larder: {}", chain(&error))));
        }
    }
    bar.finish_and_clear();
    let sent = end.await.map_err(|aborted| Exit::failed(chain(&aborted)))?;
    let object = json!({
        "complete": true, "items": sent.items, "corrupt": sent.corrupt, "bytes": sent.bytes,
    });
    let text = format!("{} items, {} bytes, {} corrupt", sent.items, sent.bytes, sent.corrupt);
    output.line(&object, &text)?;
    output.flush()?;
    match sent.corrupt {
        0 => Ok(()),
        damaged => Err(Exit::failed(format!("damaged entries: {damaged}"))),
    }
}

/// The numbers of a spool as an object; the same on the command line and over HTTP.
pub(crate) fn stats_object(stats: &SpoolStats, unhealthy: Option<&str>) -> Value {
    let details: serde_json::Map<_, _> =
        stats.details.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
    json!({
        "entries": stats.entries, "bytes": stats.bytes, "corrupt": stats.corrupt,
        "disk_bytes": stats.disk_bytes, "unhealthy": unhealthy, "details": details,
        "health": { "state": stats.health().as_str(), "conditions": conditions(stats) },
    })
}

/// The conditions that hold.
fn conditions(stats: &SpoolStats) -> Value {
    let standing = stats.conditions.iter().filter_map(|condition| {
        let since = condition.since?.to_string();
        Some(json!({
            "name": condition.name, "what": condition.what,
            "state": condition.state.as_str(), "since": since,
        }))
    });
    standing.collect()
}

fn show_stats(
    stats: &SpoolStats,
    unhealthy: Option<&str>,
    output: &mut Output,
) -> Result<(), Exit> {
    if output.json() {
        return output.object(&stats_object(stats, unhealthy));
    }
    output.text(&format!("entries     {}", stats.entries))?;
    output.text(&format!("bytes       {}", stats.bytes))?;
    output.text(&format!("corrupt     {}", stats.corrupt))?;
    output.text(&format!("disk_bytes  {}", stats.disk_bytes))?;
    for (name, value) in &stats.details {
        output.text(&format!("{name:<11} {value}"))?;
    }
    output.text(&format!("health      {}", stats.health().as_str()))?;
    for condition in &stats.conditions {
        if let Some(since) = condition.since {
            let word = condition.state.as_str();
            output.text(&format!("{word:<11} {}, since {since}", condition.what))?;
        }
    }
    Ok(())
}
