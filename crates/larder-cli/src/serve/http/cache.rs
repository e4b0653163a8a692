//! `/v1/cache`: values with a life.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use larder::{
    Age, CacheValue, Clock, DeleteStatus, Found, KeyRef, LayerState, SystemClock, Timestamp,
};

use super::body;
use super::error::ApiError;
use super::request::{self, part};
use crate::serve::state::{App, DaemonCache};

/// The longest tag and the most tags of one entry.
const TAG_BYTES_MAX: usize = 256;
const TAGS_MAX: usize = 32;

pub(crate) async fn put(
    State(app): State<Arc<App>>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let cache = named(&app, &uri)?;
    let key = part(&uri, 3)?;
    let key = KeyRef::new(&key)?;
    request::query(&uri, &[])?;
    let ttl = request::duration(&headers, "larder-ttl")?;
    let stale_after = request::duration(&headers, "larder-stale-after")?;
    let tags = tags(&headers)?;
    let received = body::receive(&app, body).await?;
    let now = SystemClock.now();
    let mut value = CacheValue::new(received.data);
    value.expire = ttl.map(|ttl| now.saturating_add(ttl));
    value.stale = stale_after.map(|after| now.saturating_add(after));
    let layers = cache.put(key, value, tags).await?;
    drop(received.share);
    let mut response = StatusCode::NO_CONTENT.into_response();
    if let Some(outcome) = layers.and_then(outcome) {
        response.headers_mut().insert("larder-outcome", outcome);
    }
    Ok(response)
}

pub(crate) async fn get(State(app): State<Arc<App>>, uri: Uri) -> Result<Response, ApiError> {
    let cache = named(&app, &uri)?;
    let key = part(&uri, 3)?;
    request::query(&uri, &[])?;
    let found = cache.get(KeyRef::new(&key)?).await?;
    let found = found.ok_or_else(ApiError::no_entry)?;
    Ok(shown(found))
}

pub(crate) async fn remove(State(app): State<Arc<App>>, uri: Uri) -> Result<Response, ApiError> {
    let cache = named(&app, &uri)?;
    let key = part(&uri, 3)?;
    request::query(&uri, &[])?;
    match cache.remove(KeyRef::new(&key)?).await? {
        DeleteStatus::Deleted(layers) => Ok(super::ops::json(&serde_json::json!({
            "deleted": layers,
        }))),
        DeleteStatus::Missing => Err(ApiError::no_entry()),
    }
}

pub(crate) async fn remove_tag(
    State(app): State<Arc<App>>,
    uri: Uri,
) -> Result<Response, ApiError> {
    let cache = named(&app, &uri)?;
    let query = request::query(&uri, &["tag"])?;
    let Some(tag) = query.text("tag") else {
        let message = "the parameter tag is missing: add ?tag=T, or name a key to remove";
        return Err(ApiError::bad("bad-tag", message));
    };
    check_tag(tag)?;
    let deleted = cache.remove_tag(tag).await?;
    Ok(super::ops::json(&serde_json::json!({ "deleted": deleted })))
}

/// The cache that the path names.
fn named<'a>(app: &'a App, uri: &Uri) -> Result<&'a DaemonCache, ApiError> {
    let name = part(uri, 2)?;
    app.caches.get(&name).ok_or_else(|| {
        let known = app.caches.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let message = format!("there is no cache {name:.40?}: this daemon has {known}");
        ApiError::new(StatusCode::NOT_FOUND, "no-such-cache", message)
    })
}

fn tags(headers: &HeaderMap) -> Result<Vec<String>, ApiError> {
    let Some(text) = request::header(headers, "larder-tags")? else { return Ok(Vec::new()) };
    let tags: Vec<String> = text.split(',').map(|tag| tag.trim().to_owned()).collect();
    if tags.len() > TAGS_MAX {
        let message = format!("larder-tags: at most {TAGS_MAX} tags are allowed");
        return Err(ApiError::bad("bad-tag", message));
    }
    tags.iter().try_for_each(|tag| check_tag(tag))?;
    Ok(tags)
}

fn check_tag(tag: &str) -> Result<(), ApiError> {
    if tag.is_empty() || tag.len() > TAG_BYTES_MAX || tag.contains(['\0', ',']) {
        let message = format!("a tag is 1 to {TAG_BYTES_MAX} bytes, without commas");
        return Err(ApiError::bad("bad-tag", message));
    }
    Ok(())
}

fn shown(found: Found<Bytes>) -> Response {
    let now = SystemClock.now();
    let source = match found.source.step() {
        None | Some((false, _)) => "l1",
        Some((true, _)) => "l2",
    };
    let freshness = match found.value.age_at(now) {
        Age::Fresh => "fresh",
        Age::Stale | Age::Expired => "stale",
    };
    let ttl = found.value.expire.and_then(|expire| milliseconds(expire, now));
    let mut response = found.value.data.into_response();
    let headers = response.headers_mut();
    let binary = HeaderValue::from_static("application/octet-stream");
    headers.insert(header::CONTENT_TYPE, binary);
    headers.insert("larder-source", HeaderValue::from_static(source));
    headers.insert("larder-freshness", HeaderValue::from_static(freshness));
    if let Some(ttl) = ttl {
        headers.insert("larder-ttl", ttl);
    }
    response
}

/// The time that is left, as in 29871ms.
fn milliseconds(expire: Timestamp, now: Timestamp) -> Option<HeaderValue> {
    HeaderValue::try_from(format!("{}ms", expire.since(now).as_millis())).ok()
}

fn outcome([l1, l2]: [LayerState; 2]) -> Option<HeaderValue> {
    HeaderValue::try_from(format!("l1={}, l2={}", l1.as_str(), l2.as_str())).ok()
}
