//! `larder spool copy`: every entry of one spool into another.

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use larder::channel::{Receiver, channel};
use larder::error::chain;
use larder::{SharedSpool, Spool, SpoolEntry, SpoolId, Timestamp};
use serde_json::json;

use crate::args::SpoolWrite;
use crate::exit::{Exit, say};
use crate::output::Output;
use crate::{progress, stores};

/// Entries on their way at a time, the ones read ahead included twice.
const IN_FLIGHT: usize = 64;

pub(crate) async fn run(
    from: &str,
    to: &str,
    write: &SpoolWrite,
    output: &mut Output,
) -> Result<(), Exit> {
    if from == to {
        return Err(Exit::usage(format!("{from} cannot be copied onto itself")));
    }
    stores::with_spool(from, async |source| {
        stores::with_new_spool(to, async |target| copy(source, target, write, output).await).await
    })
    .await
}

async fn copy(
    source: &SharedSpool,
    target: &SharedSpool,
    write: &SpoolWrite,
    output: &mut Output,
) -> Result<(), Exit> {
    let (sender, entries) = channel(IN_FLIGHT);
    let end = source.enumerate(sender, Timestamp::MAX)?;
    let bar = progress::count("copying");
    let copies = items(entries).map(async |entry| {
        let (id, data) = entry?;
        target.store(id, data, write.force_sync(), write.deadline_from_now()).await?;
        Ok::<_, Exit>(())
    });
    let mut copies = std::pin::pin!(copies.buffer_unordered(IN_FLIGHT));
    let (mut done, mut failed) = (0_u64, 0_u64);
    while let Some(result) = copies.next().await {
        match result {
            Ok(()) => done += 1,
            Err(exit) => {
                failed += 1;
                bar.suspend(|| say(&exit.line(output.json())));
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let complete = end.await.map_err(|aborted| Exit::failed(chain(&aborted)));
    let object = json!({ "copied": done, "failed": failed, "complete": complete.is_ok() });
    output.line(&object, &format!("copied {done}, failed {failed}"))?;
    output.flush()?;
    complete?;
    match failed {
        0 => Ok(()),
        failed => Err(Exit::failed(format!("entries that were not copied: {failed}"))),
    }
}

fn items(
    entries: Receiver<SpoolEntry>,
) -> impl futures_util::Stream<Item = Result<(SpoolId, Bytes), Exit>> {
    stream::unfold(entries, async |mut entries| {
        let entry = match entries.recv().await? {
            SpoolEntry::Item { id, data } => Ok((id, data)),
            SpoolEntry::Corrupt { error, .. } => Err(Exit::from(error)),
        };
        Some((entry, entries))
    })
}
