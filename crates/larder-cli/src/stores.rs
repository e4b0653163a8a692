//! From an address to an open store: what the commands and the daemon share.

use bytes::Bytes;
use larder::{Address, SharedConsensus, SharedSpool, SharedTier, Spool};

use crate::exit::{Code, Exit};

/// Opens the spool at `uri`.
pub(crate) async fn open_spool(uri: &str) -> Result<SharedSpool, Exit> {
    Ok(larder::open_spool(uri).await?)
}

/// Opens the consensus store at `uri`, which has to be there.
pub(crate) async fn open_existing_consensus(uri: &str) -> Result<SharedConsensus, Exit> {
    must_exist(uri)?;
    open_consensus(uri).await
}

/// Opens the consensus store at `uri`.
pub(crate) async fn open_consensus(uri: &str) -> Result<SharedConsensus, Exit> {
    Ok(larder::open_consensus(uri).await?)
}

/// Refuses an address whose folder is not there: reading must not make one.
pub(crate) fn must_exist(uri: &str) -> Result<(), Exit> {
    let address: Address = uri.parse()?;
    let folder = std::path::Path::new(address.place());
    if address.scheme() != "log" || address.place().is_empty() || folder.exists() {
        return Ok(());
    }
    Err(Exit::new(Code::NotFound, format!("{uri}: there is no folder {}", folder.display())))
}

/// Opens the cache tier at `uri`.
pub(crate) async fn open_cache(uri: &str) -> Result<SharedTier<Bytes>, Exit> {
    Ok(larder::open_cache(uri).await?)
}

/// Opens the cache tier at `uri`, which has to be there if it is in a folder.
pub(crate) async fn open_existing_cache(uri: &str) -> Result<SharedTier<Bytes>, Exit> {
    must_exist(uri)?;
    open_cache(uri).await
}

/// An address as it may be shown: without user, password and parameters of one that has them.
pub(crate) fn shown(uri: &str) -> String {
    match uri.parse::<Address>() {
        Ok(address) if uri.contains('@') => address.to_string(),
        _ => uri.to_owned(),
    }
}

/// As [`with_new_spool`], for a spool that has to be there.
pub(crate) async fn with_spool<T>(
    uri: &str,
    work: impl AsyncFnOnce(&SharedSpool) -> Result<T, Exit>,
) -> Result<T, Exit> {
    must_exist(uri)?;
    with_new_spool(uri, work).await
}

/// Runs `work` on the spool at `uri` and closes it, so that everything is on disk at the end.
pub(crate) async fn with_new_spool<T>(
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
