//! `larder consensus`: versioned keys.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use larder::{CaSResult, Consensus, SeqNo, SharedConsensus, VersionedData};
use larder_core::consensus::check_compare_and_set;
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
            for version in versions.map_err(|error| Exit::from(error).at(&uri))? {
                let (seqno, data) = (version.seqno.0, STANDARD.encode(&version.data));
                output
                    .line(&json!({ "seqno": seqno, "data": data }), &format!("{seqno} {data}"))?;
            }
            Ok(())
        }
        ConsensusAction::Truncate { uri, key, seqno } => {
            let store = stores::open_existing_consensus(&uri).await?;
            let deleted = store.truncate(&key, seqno).await;
            let deleted = deleted.map_err(|error| Exit::from(error).at(&uri))?;
            output.line(&json!({ "deleted": deleted }), &deleted.to_string())
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
