//! `/v1/spool`: payloads by id.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{FutureExt, Stream, stream};
use larder::channel::{DEFAULT_CAPACITY, Receiver, channel};
use larder::{
    Clock, EnumerateHandle, Listing, SharedSpool, Spool, SpoolId, SystemClock, Timestamp,
};
use serde_json::{Value, json};

use super::error::ApiError;
use super::request::{self, part};
use super::{body, ops};
use crate::cmd::spool::{end_object, entry_object, stats_object};
use crate::serve::state::App;

/// How much of a listing goes out at a time.
const CHUNK_BYTES: usize = 32 << 10;

pub(crate) async fn store_new(
    State(app): State<Arc<App>>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let spool = named(&app, &uri)?;
    request::query(&uri, &[])?;
    let write = Write::read(&headers)?;
    let received = body::receive(&app, body).await?;
    let id = SpoolId::new(&SystemClock);
    spool.store(id, received.data, write.sync, write.deadline).await?;
    drop(received.share);
    let id = id.to_string();
    let mut response = ops::json(&json!({ "id": id }));
    *response.status_mut() = StatusCode::CREATED;
    if let Ok(location) = HeaderValue::try_from(format!("{}/{id}", uri.path())) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

pub(crate) async fn store(
    State(app): State<Arc<App>>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let spool = named(&app, &uri)?;
    let id = id(&uri)?;
    let write = Write::read(&headers)?;
    let received = body::receive(&app, body).await?;
    spool.store(id, received.data, write.sync, write.deadline).await?;
    drop(received.share);
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(crate) async fn load(State(app): State<Arc<App>>, uri: Uri) -> Result<Response, ApiError> {
    let spool = named(&app, &uri)?;
    let data = spool.load(id(&uri)?).await?;
    let binary = (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    Ok(([binary], data).into_response())
}

pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let spool = named(&app, &uri)?;
    let id = id(&uri)?;
    if request::sync(&headers)? {
        spool.remove_durable(id).await?;
    } else {
        spool.remove(id).await?;
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(crate) async fn list(State(app): State<Arc<App>>, uri: Uri) -> Result<Response, ApiError> {
    let spool = named(&app, &uri)?;
    request::query(&uri, &[])?;
    let (sender, entries) = channel(DEFAULT_CAPACITY);
    let end = spool.list(sender, Timestamp::MAX)?;
    Ok(ops::ndjson(Body::from_stream(lines(entries, end))))
}

pub(crate) async fn compact(State(app): State<Arc<App>>, uri: Uri) -> Result<Response, ApiError> {
    let spool = named(&app, &uri)?.clone();
    request::query(&uri, &[])?;
    spool.compact().await?;
    let stats = spool.stats().await?;
    Ok(ops::json(&stats_object(&stats, spool.unhealthy_reason())))
}

/// How a write was asked for.
struct Write {
    sync: bool,
    /// Counted from the moment when the head of the request was read.
    deadline: Option<Instant>,
}

impl Write {
    fn read(headers: &HeaderMap) -> Result<Self, ApiError> {
        let within = request::duration(headers, "larder-deadline")?;
        let deadline = within.and_then(|within| SystemClock.instant().checked_add(within));
        Ok(Self { sync: request::sync(headers)?, deadline })
    }
}

/// The spool that the path names.
fn named<'a>(app: &'a App, uri: &Uri) -> Result<&'a SharedSpool, ApiError> {
    let name = part(uri, 2)?;
    app.spools.get(&name).ok_or_else(|| {
        let known = app.spools.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let message =
            format!("there is no spool {}: this daemon has {known}", request::quoted(&name));
        ApiError::new(StatusCode::NOT_FOUND, "no-such-spool", message)
    })
}

fn id(uri: &Uri) -> Result<SpoolId, ApiError> {
    request::query(uri, &[])?;
    Ok(part(uri, 3)?.parse::<SpoolId>()?)
}

/// The lines of a listing, some at a time. It is read only as fast as the client takes it.
fn lines(
    entries: Receiver<Listing>,
    end: EnumerateHandle,
) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> {
    stream::unfold(Some((entries, end)), async |state| {
        let (mut entries, end) = state?;
        let mut chunk = Vec::new();
        let Some(entry) = entries.recv().await else {
            push(&mut chunk, &end_object(&end.await));
            return Some((Ok(Bytes::from(chunk)), None));
        };
        push(&mut chunk, &entry_object(&entry));
        while chunk.len() < CHUNK_BYTES {
            let Some(Some(entry)) = entries.recv().now_or_never() else { break };
            push(&mut chunk, &entry_object(&entry));
        }
        Some((Ok(Bytes::from(chunk)), Some((entries, end))))
    })
}

fn push(chunk: &mut Vec<u8>, line: &Value) {
    chunk.extend_from_slice(line.to_string().as_bytes());
    chunk.push(b'\n');
}
