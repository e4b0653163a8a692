//! `/v1/cache`: values with a life.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use larder::cache::{Cache, Hit, PutOptions, Tag, TagError, Tags};
use larder::compose::CompositionLayer;
use larder::{Age, Clock, DeleteStatus, KeyRef, LayerState, SystemClock, Timestamp};

use super::body;
use super::error::ApiError;
use super::request::{self, part};
use crate::serve::state::App;

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
    let mut options = PutOptions::new();
    options.ttl = request::duration(&headers, "larder-ttl")?;
    options.stale_after = request::duration(&headers, "larder-stale-after")?;
    if let Some(list) = request::header(&headers, "larder-tags")? {
        options.tags = Tags::from_list(list).map_err(bad_tag)?;
    }
    let received = body::receive(&app, body).await?;
    let written = cache.put(key, received.data, options).await?;
    drop(received.share);
    let mut response = StatusCode::NO_CONTENT.into_response();
    if let Some(outcome) = written.layers.and_then(outcome) {
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

// The handler of a route is async, whether it waits or not.
#[allow(clippy::unused_async, reason = "the router takes nothing else")]
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
    cache.remove_tag(&Tag::new(tag).map_err(bad_tag)?);
    Ok(super::ops::json(&serde_json::json!({ "invalidated": true })))
}

/// The cache that the path names.
fn named<'a>(app: &'a App, uri: &Uri) -> Result<&'a Cache<Bytes>, ApiError> {
    let name = part(uri, 2)?;
    app.caches.get(&name).ok_or_else(|| {
        let known = app.caches.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let message =
            format!("there is no cache {}: this daemon has {known}", request::quoted(&name));
        ApiError::new(StatusCode::NOT_FOUND, "no-such-cache", message)
    })
}

#[allow(clippy::needless_pass_by_value, reason = "it ends here")]
fn bad_tag(error: TagError) -> ApiError {
    ApiError::bad("bad-tag", error.to_string())
}

fn shown(found: Hit<Bytes>) -> Response {
    let now = SystemClock.now();
    let source = match found.layer() {
        Some(CompositionLayer::L2) => "l2",
        Some(CompositionLayer::L1) | None => "l1",
    };
    let freshness = match found.age {
        Age::Fresh => "fresh",
        Age::Stale | Age::Expired => "stale",
    };
    let ttl = found.expire.and_then(|expire| milliseconds(expire, now));
    let mut response = found.value.into_response();
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
