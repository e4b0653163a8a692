//! From an address to an open store: what the commands and the daemon share.

use bytes::Bytes;
use larder::{SharedConsensus, SharedSpool, SharedTier, Spool};

use crate::exit::Exit;

/// Opens the spool at `uri`.
pub(crate) async fn open_spool(uri: &str) -> Result<SharedSpool, Exit> {
    Ok(larder::open_spool(uri).await?)
}

/// Opens the consensus store at `uri`.
pub(crate) async fn open_consensus(uri: &str) -> Result<SharedConsensus, Exit> {
    Ok(larder::open_consensus(uri).await?)
}

/// Opens the cache tier at `uri`.
pub(crate) async fn open_cache(uri: &str) -> Result<SharedTier<Bytes>, Exit> {
    Ok(larder::open_cache(uri).await?)
}

/// Runs `work` on the spool at `uri` and closes it, so that everything is on disk at the end.
pub(crate) async fn with_spool<T>(
    uri: &str,
    work: impl AsyncFnOnce(&SharedSpool) -> Result<T, Exit>,
) -> Result<T, Exit> {
    let spool = open_spool(uri).await?;
    let done = work(&spool).await;
    let closed = spool.shutdown().await;
    let done = done.map_err(|exit| exit.at(uri))?;
    closed.map_err(|error| Exit::from(error).at(uri))?;
    Ok(done)
}

/// The address of the embedded engine in `folder`.
pub(crate) fn log_uri(folder: &std::path::Path) -> Result<String, Exit> {
    let text = folder.to_str().ok_or_else(|| {
        Exit::usage(format!("the folder {} has to be named in UTF-8", folder.display()))
    })?;
    Ok(format!("log:{}", text.replace('%', "%25").replace('?', "%3F")))
}
