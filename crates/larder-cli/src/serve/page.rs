//! The status page: one file, no other hosts.

use axum::response::{Html, IntoResponse, Response};

/// Shows the page; it reads `/v1/status` each second.
pub(crate) async fn show() -> Response {
    let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                  connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'";
    ([("content-security-policy", policy)], Html(include_str!("page.html"))).into_response()
}
