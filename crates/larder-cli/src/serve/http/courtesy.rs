//! A refusal that its sender gets to read.
//!
//! Many clients send a whole body before they look for an answer. When the connection is closed
//! under them they see a broken pipe, and never learn what was wrong. So what is left of a refused
//! body is read on, within limits, before the answer goes out.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use tokio::sync::oneshot;

/// How long a body that is refused is read on.
const PATIENCE: Duration = Duration::from_secs(2);
/// How much of a body that is refused is read on.
const BYTES_MAX: usize = 64 << 20;

/// A body that comes back to where it was lent from.
struct Lent {
    body: Body,
    home: Option<oneshot::Sender<Unread>>,
    /// Whether any of it was asked for: that is when a client that asks first is told to send.
    begun: bool,
}

/// Answers, and reads on before a refusal.
pub(crate) async fn hear_out(request: Request, next: Next) -> Response {
    let asks_first = request.headers().contains_key(header::EXPECT);
    let (parts, body) = request.into_parts();
    if body.is_end_stream() {
        return next.run(Request::from_parts(parts, body)).await;
    }
    let (home, mut back) = oneshot::channel();
    let lent = Body::new(Lent { body, home: Some(home), begun: false });
    let response = next.run(Request::from_parts(parts, lent)).await;
    let status = response.status();
    let refused = status.is_client_error() || status.is_server_error();
    // A client that has stopped sending is not waited for once more, and one that waits to be told
    // to send has nothing on its way.
    if refused
        && status != StatusCode::REQUEST_TIMEOUT
        && let Ok(unread) = back.try_recv()
        && (unread.begun || !asks_first)
    {
        // Whether the sender finished in time makes no difference to the answer.
        let _ = tokio::time::timeout(PATIENCE, read_on(unread.body)).await;
    }
    response
}

async fn read_on(mut body: Body) {
    let mut seen = 0_usize;
    while let Some(Ok(frame)) = body.frame().await {
        seen = seen.saturating_add(frame.data_ref().map_or(0, Bytes::len));
        if seen > BYTES_MAX {
            return;
        }
    }
}

/// What is left of a body.
struct Unread {
    body: Body,
    begun: bool,
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.begun = true;
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let body = std::mem::take(&mut self.body);
        if let Some(home) = self.home.take() {
            // When nobody waits for it any more the request is over, and so is its body.
            drop(home.send(Unread { body, begun: self.begun }));
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::http::HeaderValue;
    use axum::middleware;
    use futures_util::stream::pending;
    use hyper::service::Service;
    use hyper_util::service::TowerToHyperService;
    use tokio::time::Instant;

    use super::*;

    /// How long a client waits for a refusal that sends nothing of its body.
    async fn refused_after(asks_first: bool) -> Duration {
        let refuse = || async { StatusCode::NOT_FOUND };
        let router = Router::new().fallback(refuse).layer(middleware::from_fn(hear_out));
        let mut request = Request::new(Body::from_stream(pending::<Result<Bytes, axum::Error>>()));
        if asks_first {
            let asks = HeaderValue::from_static("100-continue");
            request.headers_mut().insert(header::EXPECT, asks);
        }
        let begun = Instant::now();
        let response = TowerToHyperService::new(router).call(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_client_that_may_be_sending_is_waited_for() {
        assert_eq!(refused_after(false).await, PATIENCE);
        assert_eq!(refused_after(true).await, Duration::ZERO);
    }
}
