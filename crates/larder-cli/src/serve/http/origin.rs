//! Refuses what somebody else's web page makes a browser send here.
//!
//! The daemon has no tokens yet, so whoever reaches its port may use it. A page from elsewhere
//! reaches a loopback port through the browser of whoever visits it: as a simple cross-site request,
//! or under a name of its own that it lets point at loopback. Both show in the head of the request.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::error::ApiError;

/// Lets a request through that names this machine and comes from no other site.
pub(crate) async fn guard(request: Request, next: Next) -> Response {
    match check(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

fn check(headers: &HeaderMap) -> Result<(), ApiError> {
    let host = headers.get(header::HOST);
    if !host.is_none_or(is_here) {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "foreign-host",
            "the Host header names another machine: ask for localhost or 127.0.0.1",
        ));
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let same = origin
        .to_str()
        .ok()
        .and_then(|origin| origin.strip_prefix("http://"))
        .is_some_and(|origin| host.is_some_and(|host| host.as_bytes() == origin.as_bytes()));
    if same {
        return Ok(());
    }
    let message = "the request comes from a page of another site, and those are not let in";
    Err(ApiError::new(StatusCode::FORBIDDEN, "foreign-origin", message))
}

/// Whether a Host header names this machine by a name that nobody else can take.
fn is_here(host: &HeaderValue) -> bool {
    let Ok(authority) = Authority::try_from(host.as_bytes()) else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = name.parse::<IpAddr>() {
        return address.is_loopback();
    }
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(host: Option<&'static str>, origin: Option<&'static str>) -> HeaderMap {
        let named = [(header::HOST, host), (header::ORIGIN, origin)];
        let given = named.into_iter().filter_map(|(name, value)| Some((name, value?)));
        given.map(|(name, value)| (name, HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn local_names_and_the_own_page_are_let_in() {
        for host in [
            "localhost",
            "LOCALHOST:7070",
            "127.0.0.1:7070",
            "127.8.8.8",
            "[::1]:7070",
            "a.localhost",
        ] {
            assert!(check(&head(Some(host), None)).is_ok(), "{host}");
        }
        assert!(check(&head(None, None)).is_ok());
        assert!(check(&head(Some("localhost:7070"), Some("http://localhost:7070"))).is_ok());
    }

    #[test]
    fn other_names_and_other_pages_are_not() {
        for host in [
            "evil.example",
            "evil.example:7070",
            "10.0.0.1",
            "localhost.evil.example",
            "a b",
            "127.0.0.1.evil.example",
        ] {
            assert!(check(&head(Some(host), None)).is_err(), "{host}");
        }
        for origin in [
            "http://evil.example",
            "null",
            "http://localhost:3000",
            "https://localhost:7070",
            "http://localhost:7070@evil.example",
        ] {
            assert!(check(&head(Some("localhost:7070"), Some(origin))).is_err(), "{origin}");
        }
        assert!(check(&head(None, Some("http://localhost"))).is_err());
    }
}
