//! `larder consensus`: versioned keys.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use larder::error::chain;
use larder::recipes::Watch;
use larder::{CaSResult, Consensus, Failure, Retry, SeqNo, SharedConsensus, VersionedData};
use larder_core::consensus::{check_compare_and_set, check_consensus_key};
use serde_json::json;

use crate::args::{ConsensusAction, ConsensusArgs, Expected};
use crate::exit::{Code, Exit, say};
use crate::output::Output;
use crate::{payload, stores};

pub(crate) async fn run(args: ConsensusArgs, output: &mut Output) -> Result<(), Exit> {
    match args.action {
        ConsensusAction::Head { uri, key } => {
            let store = stores::open_existing_consensus(&uri).await?;
            let head = store.head(&key).await.map_err(|error| Exit::from(error).at(&uri))?;
            let head = head
                .ok_or_else(|| Exit::new(Code::NotFound, format!("{uri}: the key has no data")))?;
            show_head(&head, output)
        }
        ConsensusAction::Cas { uri, key, file, expected, seqno } => {
            let new = new_version(&file, expected, seqno).await?;
            // What is wrong with the call is told before a store is touched.
            check_compare_and_set(&key, expected.0, &new)
                .map_err(|error| Exit::usage(error.to_string()))?;
            let store = stores::open_consensus(&uri).await?;
            cas(&store, &key, expected.0, new, output).await.map_err(|exit| exit.at(&uri))
        }
        ConsensusAction::Scan { uri, key, from, limit } => {
            let store = stores::open_existing_consensus(&uri).await?;
            let versions = store.scan(&key, from, limit).await;
            let versions = versions.map_err(|error| Exit::from(error).at(&uri))?;
            versions.iter().try_for_each(|version| show_version(version, output))
        }
        ConsensusAction::Truncate { uri, key, seqno } => {
            let store = stores::open_existing_consensus(&uri).await?;
            let deleted = store.truncate(&key, seqno).await;
            let deleted = deleted.map_err(|error| Exit::from(error).at(&uri))?;
            output.line(&json!({ "deleted": deleted }), &deleted.to_string())
        }
        ConsensusAction::Watch { uri, key, after, count, within } => {
            // What is wrong with the key is told before a store is touched.
            check_consensus_key(&key).map_err(|error| Exit::usage(error.to_string()))?;
            let store = stores::open_existing_consensus(&uri).await?;
            let mut watch = Watch::new(store, key);
            if let Some(after) = after {
                watch = watch.after(after);
            }
            for _ in 0..count.unwrap_or(u64::MAX) {
                let head = newer(&mut watch, within).await.map_err(|exit| exit.at(&uri))?;
                show_version(&head, output)?;
                output.flush()?;
            }
            Ok(())
        }
        ConsensusAction::Keys { uri } => {
            let store = stores::open_existing_consensus(&uri).await?;
            let mut keys = store.list_keys();
            while let Some(key) = keys.next().await {
                let key = key.map_err(|error| Exit::from(error).at(&uri))?;
                output.line(&json!({ "key": key }), &key)?;
            }
            Ok(())
        }
    }
}

/// The next head, in time; a store that is away is asked again until then.
async fn newer(
    watch: &mut Watch<SharedConsensus>,
    within: Option<Duration>,
) -> Result<VersionedData, Exit> {
    let found = async {
        loop {
            let found = watch.next().await;
            let Err(error) = &found else { return found };
            if error.retry() == Retry::Never {
                return found;
            }
            say(&format!("{}; asking again", chain(error)));
        }
    };
    let Some(within) = within else { return Ok(found.await?) };
    if let Ok(found) = tokio::time::timeout(within, found).await {
        return Ok(found?);
    }
    let message = format!("no newer head within {}", humantime::format_duration(within));
    Err(Exit::new(Code::ConditionNotMet, message))
}

/// A version in one line.
fn show_version(version: &VersionedData, output: &mut Output) -> Result<(), Exit> {
    let (seqno, data) = (version.seqno.0, STANDARD.encode(&version.data));
    output.line(&json!({ "seqno": seqno, "data": data }), &format!("{seqno} {data}"))
}

fn show_head(head: &VersionedData, output: &mut Output) -> Result<(), Exit> {
    if output.json() {
        let data = STANDARD.encode(&head.data);
        return output.object(&json!({ "seqno": head.seqno.0, "data": data }));
    }
    output.bytes(&head.data)?;
    output.flush()?;
    say(&format!("seqno {}", head.seqno));
    Ok(())
}

async fn new_version(
    file: &std::path::Path,
    expected: Expected,
    seqno: Option<SeqNo>,
) -> Result<VersionedData, Exit> {
    let next = || match expected.0 {
        None => Ok(SeqNo::MIN),
        Some(expected) => expected
            .next()
            .ok_or_else(|| Exit::usage(format!("there is no seqno above {expected}"))),
    };
    let seqno = seqno.map_or_else(next, Ok)?;
    Ok(VersionedData { seqno, data: payload::read(file).await? })
}

async fn cas(
    store: &SharedConsensus,
    key: &str,
    expected: Option<SeqNo>,
    new: VersionedData,
    output: &mut Output,
) -> Result<(), Exit> {
    let seqno = new.seqno.0;
    match store.compare_and_set(key, expected, new).await? {
        CaSResult::Committed => {
            output.line(&json!({ "committed": true, "seqno": seqno }), &seqno.to_string())
        }
        CaSResult::ExpectationMismatch { current } => {
            let current = current.map(|current| current.0);
            let text = current.map_or_else(|| "none".to_owned(), |current| current.to_string());
            output.line(&json!({ "committed": false, "current": current }), &text)?;
            output.flush()?;
            let message = match current {
                Some(current) => format!("the condition does not hold: the seqno is {current}"),
                None => "the condition does not hold: the key has no data".to_owned(),
            };
            Err(Exit::new(Code::ConditionNotMet, message))
        }
    }
}
