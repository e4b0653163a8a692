use bytes::Bytes;
use larder_core::{Effect, Failure, Retry, SharedSpool, Spool, SpoolError, Timestamp};

use super::gather::{answers, gather, is_missing, loads, size};
use crate::law::laws;
use crate::{Stage, Verdict, Violation, ensure, ensure_eq};

laws! { SharedSpool, "limits";
    /// A payload above the limit answers `TooLarge` with both sizes, effect `NotApplied`, retry
    /// `Never`; nothing is written and the old payload stays.
    a_payload_above_the_limit_is_too_large [PayloadLimit];
    /// A payload of exactly the largest size is taken and comes back byte for byte.
    a_payload_of_the_largest_size_is_taken [PayloadLimit, Exclusive];
    /// When one of many payloads is too large, an error that claims `NotApplied` is true of all of
    /// them.
    a_payload_too_large_among_many_is_told_truly [PayloadLimit];
    /// A spool at its bound sheds: stores answer `Full` with effect `NotApplied` and retry `Later`,
    /// everything stored before is kept, and load, remove and enumerate still work.
    a_full_spool_sheds_and_keeps_what_it_has [TightPlace, Exclusive];
    /// A full spool takes stores again as soon as something was removed.
    a_full_spool_takes_stores_again_after_a_remove [TightPlace, Exclusive];
}

/// Zeros, which cost no memory until somebody writes to them.
fn zeros(bytes: u64) -> Result<Bytes, Violation> {
    let len = usize::try_from(bytes)?;
    Ok(Bytes::from(vec![0; len]))
}

async fn a_payload_above_the_limit_is_too_large(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    let limit = stage.payload_max()?;
    let (id, old) = (stage.id(), stage.random().bytes(100));
    let over = zeros(limit + 1)?;
    for before in [None, Some(&old)] {
        if let Some(old) = before {
            spool.store(id, old.clone(), false, None).await?;
        }
        match spool.store(id, over.clone(), true, None).await {
            Err(error @ SpoolError::TooLarge { bytes, bytes_max }) => {
                answers(&error, Effect::NotApplied, Retry::Never)?;
                ensure_eq!((bytes, bytes_max), (limit + 1, limit), "the sizes in the error");
            }
            answer => {
                return Err(Violation::new(format!(
                    "{} bytes are above the limit and have to be TooLarge: {answer:?}",
                    limit + 1
                )));
            }
        }
        match before {
            None => is_missing(&spool, id, "that was too large").await?,
            Some(old) => loads(&spool, id, old, "after a replacement that was too large").await?,
        }
    }
    Ok(())
}

async fn a_payload_of_the_largest_size_is_taken(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    let (id, data) = (stage.id(), zeros(stage.payload_max()?)?);
    spool.store(id, data.clone(), false, None).await?;
    loads(&spool, id, &data, "of the largest size").await
}

async fn a_payload_too_large_among_many_is_told_truly(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    let ids = stage.ids(3);
    let over = zeros(stage.payload_max()? + 1)?;
    let small = Bytes::from_static(b"small");
    let entries = vec![(ids[0], small.clone()), (ids[1], over), (ids[2], small)];
    let Err(error) = spool.store_many(entries, false, None).await else {
        return Err(Violation::new("a payload above the limit was accepted among others"));
    };
    ensure!(matches!(error, SpoolError::TooLarge { .. }), "has to be TooLarge: {error:?}");
    if error.effect() == Effect::NotApplied {
        for id in ids {
            is_missing(&spool, id, "although the error said that nothing was written").await?;
        }
    }
    Ok(())
}

/// Stores 16 KiB entries until the spool is full and returns them.
async fn fill(
    stage: &Stage<SharedSpool>,
    spool: &SharedSpool,
) -> Result<Vec<(larder_core::SpoolId, Bytes)>, Violation> {
    let mut random = stage.random();
    let mut stored = Vec::new();
    for _ in 0..256 {
        let (id, data) = (stage.id(), random.bytes(16 << 10));
        match spool.store(id, data.clone(), false, None).await {
            Ok(()) => stored.push((id, data)),
            Err(error @ SpoolError::Full { .. }) => {
                answers(&error, Effect::NotApplied, Retry::Later)?;
                is_missing(spool, id, "that a full spool refused").await?;
                ensure!(!stored.is_empty(), "a tight spool was full before the first store");
                return Ok(stored);
            }
            Err(error) => {
                return Err(Violation::new(format!("a full spool has to say Full: {error:?}")));
            }
        }
    }
    Err(Violation::new(format!("a tight spool took {} entries of 16 KiB", stored.len())))
}

async fn a_full_spool_sheds_and_keeps_what_it_has(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    let stored = fill(stage, &spool).await?;
    for (id, data) in &stored {
        loads(&spool, *id, data, "in a full spool").await?;
    }
    let gathered = gather(&spool, Timestamp::MAX).await?;
    let sizes: u64 = stored.iter().map(|(_, data)| size(data)).sum();
    ensure_eq!(gathered.bytes, sizes, "the enumerated bytes of a full spool");
    for (id, _) in &stored {
        spool.remove(*id).await?;
        is_missing(&spool, *id, "removed from a full spool").await?;
    }
    Ok(())
}

async fn a_full_spool_takes_stores_again_after_a_remove(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    let stored = fill(stage, &spool).await?;
    for (id, data) in stored.iter().take(5) {
        spool.remove(*id).await?;
        let again = stage.id();
        spool.store(again, data.clone(), false, None).await?;
        loads(&spool, again, data, "stored after room was made").await?;
    }
    Ok(())
}
