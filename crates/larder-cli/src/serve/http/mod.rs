//! The HTTP interface. Paths, headers and answers are stable: scripts depend on them.

mod body;
mod cache;
mod consensus;
mod courtesy;
mod error;
mod ops;
mod origin;
mod request;
mod spool;

use std::sync::Arc;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use larder::{Clock, SystemClock};
use tower_http::catch_panic::CatchPanicLayer;
use tracing::{Instrument, debug, info, info_span, warn};

use self::error::ApiError;
use super::page;
use super::state::App;

/// Every route of the daemon.
pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/", get(page::show))
        .route("/healthz", get(ops::healthz))
        .route("/readyz", get(ops::readyz))
        .route("/metrics", get(ops::metrics))
        .route("/v1/status", get(ops::status))
        .route("/v1/cache/{cache}", delete(cache::remove_tag))
        .route("/v1/cache/{cache}/{key}", put(cache::put).get(cache::get).delete(cache::remove))
        .route("/v1/spool/{spool}", post(spool::store_new).get(spool::list))
        .route("/v1/spool/{spool}/compact", post(spool::compact))
        .route("/v1/spool/{spool}/{id}", put(spool::store).get(spool::load).delete(spool::remove))
        .route("/v1/consensus", get(consensus::keys))
        .route("/v1/consensus/{key}", get(consensus::head).put(consensus::compare_and_set))
        .route("/v1/consensus/{key}/versions", get(consensus::versions).delete(consensus::truncate))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn(origin::guard))
        .layer(middleware::from_fn(courtesy::hear_out))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), observe))
        .with_state(app)
}

/// Counts, times and numbers each request. Nothing of its path, headers or body is logged.
async fn observe(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let number = app.next_request();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("none", |path| path.as_str());
    let method = request.method().clone();
    let span = info_span!("request", number, %method, route);
    let started = SystemClock.instant();
    let mut response = next.run(request).instrument(span.clone()).await;
    let took = SystemClock.instant().saturating_duration_since(started);
    let status = response.status().as_u16();
    app.metrics.request(&method, route, status, took);
    response.headers_mut().insert("x-request-id", HeaderValue::from(number));
    let _entered = span.enter();
    match status {
        500.. => warn!(status, ?took, "failed"),
        400.. => info!(status, ?took, "refused"),
        _ => debug!(status, ?took, "done"),
    }
    response
}

async fn no_route() -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        "no-such-route",
        "there is nothing at this path; a / inside a key is written %2F",
    )
}

async fn no_method() -> ApiError {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method-not-allowed",
        "this path does not take this method: see the Allow header",
    )
}

#[allow(clippy::needless_pass_by_value, reason = "the layer hands it over")]
fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    ApiError::unknown(
        StatusCode::INTERNAL_SERVER_ERROR,
        "internal",
        "the daemon failed on this request; it is in its log",
    )
    .into_response()
}
