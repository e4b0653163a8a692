//! Bodies: bounded each and together, and timed.

use std::sync::Arc;

use axum::body::{Body, HttpBody};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::sync::OwnedSemaphorePermit;

use super::error::ApiError;
use crate::serve::state::App;

/// How much memory is reserved at a time, in KiB.
const STEP_KIB: u32 = 64;

/// A body in memory. It counts against the memory of all bodies until it is dropped.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) data: Bytes,
    pub(crate) share: Share,
}

/// A part of the memory for bodies.
#[derive(Debug)]
pub(crate) struct Share(Option<OwnedSemaphorePermit>);

/// Reads a whole body.
pub(crate) async fn receive(app: &App, mut body: Body) -> Result<Received, ApiError> {
    let limit = app.limits.body;
    if body.size_hint().lower() > limit {
        return Err(ApiError::too_large(limit));
    }
    let mut share = Share(None);
    let mut reserved = 0_u64;
    let (mut first, mut rest) = (Bytes::new(), BytesMut::new());
    loop {
        let idle = app.limits.idle_timeout;
        let Ok(frame) = tokio::time::timeout(idle, body.frame()).await else {
            return Err(ApiError::new(
                axum::http::StatusCode::REQUEST_TIMEOUT,
                "body-timeout",
                "the body stopped arriving",
            ));
        };
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|_| ApiError::bad("bad-body", "the body ended early"))?;
        let Ok(data) = frame.into_data() else { continue };
        let size = total(&first, &rest).saturating_add(length(&data));
        if size > limit {
            return Err(ApiError::too_large(limit));
        }
        while reserved < size {
            if !share.grow(app) {
                let busy = "the daemon holds as many bodies as it may: try again";
                return Err(ApiError::shedding(busy));
            }
            reserved += u64::from(STEP_KIB) << 10;
        }
        // Most bodies are one frame: it is passed on without a copy.
        if first.is_empty() && rest.is_empty() {
            first = data;
        } else {
            if rest.is_empty() {
                rest.extend_from_slice(&std::mem::take(&mut first));
            }
            rest.extend_from_slice(&data);
        }
    }
    let data = if rest.is_empty() { first } else { rest.freeze() };
    Ok(Received { data, share })
}

impl Share {
    /// Takes one step more; false when there is none left.
    fn grow(&mut self, app: &App) -> bool {
        let Ok(more) = Arc::clone(&app.bodies).try_acquire_many_owned(STEP_KIB) else {
            return false;
        };
        match &mut self.0 {
            Some(share) => share.merge(more),
            empty => *empty = Some(more),
        }
        true
    }
}

fn total(first: &Bytes, rest: &BytesMut) -> u64 {
    length(first).saturating_add(u64::try_from(rest.len()).unwrap_or(u64::MAX))
}

fn length(data: &Bytes) -> u64 {
    u64::try_from(data.len()).unwrap_or(u64::MAX)
}
