//! `/v1/consensus`: versioned keys.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{Stream, stream};
use larder::error::chain;
use larder::{CaSResult, Consensus, ConsensusError, KeyStream, SeqNo, VersionedData};
use larder_core::consensus::{check_compare_and_set, check_consensus_key};
use serde_json::json;

use super::error::{ApiError, etag};
use super::request::{self, part};
use super::{body, ops};
use crate::serve::state::App;

/// Versions that one request may ask for, and that it gets without asking.
const LIMIT_MAX: usize = 1_000;
const LIMIT: usize = 100;

pub(crate) async fn keys(State(app): State<Arc<App>>, uri: Uri) -> Result<Response, ApiError> {
    request::query(&uri, &[])?;
    Ok(ops::ndjson(Body::from_stream(key_lines(app.consensus.list_keys()))))
}

pub(crate) async fn head(State(app): State<Arc<App>>, uri: Uri) -> Result<Response, ApiError> {
    request::query(&uri, &[])?;
    let head = app.consensus.head(&key(&uri)?).await?;
    let head = head.ok_or_else(ApiError::no_data)?;
    let binary = (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    let mut response = ([binary], head.data).into_response();
    if let Some(tag) = etag(head.seqno) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    Ok(response)
}

pub(crate) async fn compare_and_set(
    State(app): State<Arc<App>>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let key = key(&uri)?;
    let seqno = request::query(&uri, &["seqno"])?.required_seqno("seqno")?;
    let expected = condition(&headers)?;
    // What is wrong with the call is told before its body is read.
    let empty = VersionedData { seqno, data: Bytes::new() };
    check_compare_and_set(&key, expected, &empty).map_err(ConsensusError::from)?;
    let received = body::receive(&app, body).await?;
    let new = VersionedData { seqno, data: received.data };
    let result = app.consensus.compare_and_set(&key, expected, new).await?;
    drop(received.share);
    match result {
        CaSResult::Committed => {
            let mut response = ops::json(&json!({ "seqno": seqno.0 }));
            if let Some(tag) = etag(seqno) {
                response.headers_mut().insert(header::ETAG, tag);
            }
            Ok(response)
        }
        CaSResult::ExpectationMismatch { current } => Err(ApiError::condition_not_met(current)),
    }
}

pub(crate) async fn versions(State(app): State<Arc<App>>, uri: Uri) -> Result<Response, ApiError> {
    let query = request::query(&uri, &["from", "limit"])?;
    let from = query.seqno("from")?.unwrap_or(SeqNo::MIN);
    let limit = match query.text("limit") {
        None => LIMIT,
        Some(text) => {
            request::number(text).filter(|limit| *limit <= LIMIT_MAX).ok_or_else(|| {
                let text = request::quoted(text);
                let message = format!("limit={text} is not a number from 0 to {LIMIT_MAX}");
                ApiError::bad("bad-limit", message)
            })?
        }
    };
    let versions = app.consensus.scan(&key(&uri)?, from, limit).await?;
    let mut response = Body::from_stream(version_array(versions)).into_response();
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    Ok(response)
}

pub(crate) async fn truncate(State(app): State<Arc<App>>, uri: Uri) -> Result<Response, ApiError> {
    let before = request::query(&uri, &["before"])?.required_seqno("before")?;
    let deleted = app.consensus.truncate(&key(&uri)?, before).await?;
    Ok(ops::json(&json!({ "deleted": deleted })))
}

fn key(uri: &Uri) -> Result<String, ApiError> {
    let key = part(uri, 2)?;
    check_consensus_key(&key).map_err(|error| ApiError::bad("bad-key", error.to_string()))?;
    Ok(key)
}

/// The condition of a compare-and-set: `If-Match: "M"` or `If-None-Match: *`, exactly one.
fn condition(headers: &HeaderMap) -> Result<Option<SeqNo>, ApiError> {
    let bad = |message: String| Err(ApiError::bad("bad-condition", message));
    match (request::header(headers, "if-match")?, request::header(headers, "if-none-match")?) {
        (None, None) => {
            bad("a condition is required: If-Match: \"N\", or If-None-Match: * for a new key"
                .into())
        }
        (Some(_), Some(_)) => bad("If-Match and If-None-Match exclude one another".into()),
        (None, Some("*")) => Ok(None),
        (None, Some(text)) => bad(format!("If-None-Match: {} has to be *", request::quoted(text))),
        (Some(text), None) => {
            let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
            if let Some(Ok(seqno)) = inner.map(|inner| request::seqno("If-Match", inner)) {
                return Ok(Some(seqno));
            }
            let text = request::quoted(text);
            bad(format!("If-Match: {text} has to be one seqno in quotes, as in \"5\""))
        }
    }
}

type Line = Result<Bytes, Infallible>;

/// A line for each key, and one that says whether these were all.
fn key_lines(keys: KeyStream) -> impl Stream<Item = Line> {
    stream::unfold(Some((keys, 0_u64)), async |state| {
        let (mut keys, count) = state?;
        let (line, next) = match keys.next().await {
            Some(Ok(key)) => (json!({ "key": key }), Some((keys, count + 1))),
            Some(Err(error)) => {
                let error = chain(&error);
                (json!({ "complete": false, "items": count, "error": error }), None)
            }
            None => (json!({ "complete": true, "items": count }), None),
        };
        Some((Ok(Bytes::from(format!("{line}\n"))), next))
    })
}

/// A JSON array, one version at a time: the encoded whole is never in memory.
fn version_array(versions: Vec<VersionedData>) -> impl Stream<Item = Line> {
    let mut before = "[";
    let mut parts: Vec<Part> = versions.into_iter().map(Part::Version).collect();
    if parts.is_empty() {
        parts.push(Part::Open);
    }
    parts.push(Part::Close);
    stream::iter(parts.into_iter().map(move |part| {
        let text = match part {
            Part::Version(version) => {
                let data = STANDARD.encode(&version.data);
                let object = json!({ "seqno": version.seqno.0, "data": data });
                format!("{}{object}", std::mem::replace(&mut before, ",\n"))
            }
            Part::Open => "[".to_owned(),
            Part::Close => "]\n".to_owned(),
        };
        Ok(Bytes::from(text))
    }))
}

enum Part {
    Version(VersionedData),
    Open,
    Close,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&'static str, &'static str)]) -> Result<Option<SeqNo>, ApiError> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        condition(&headers)
    }

    #[test]
    fn a_condition_is_one_quoted_seqno_or_a_star() {
        assert_eq!(read(&[("if-match", "\"5\"")]).unwrap(), Some(SeqNo(5)));
        assert_eq!(read(&[("if-none-match", "*")]).unwrap(), None);
        let too_large = "\"9223372036854775808\"";
        for bad in ["5", "*", "W/\"5\"", "\"5\", \"6\"", "\"\"", "\"-1\"", too_large] {
            assert!(read(&[("if-match", bad)]).is_err(), "{bad}");
        }
        assert!(read(&[]).is_err());
        assert!(read(&[("if-none-match", "\"5\"")]).is_err());
        assert!(read(&[("if-match", "\"5\""), ("if-none-match", "*")]).is_err());
        assert!(read(&[("if-match", "\"5\""), ("if-match", "\"5\"")]).is_err());
    }
}
