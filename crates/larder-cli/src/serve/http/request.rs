//! Strict reading of paths, queries and headers: what is not understood is refused.

use std::str::FromStr;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, Uri};
use larder::SeqNo;
use percent_encoding::percent_decode_str;

use super::error::ApiError;

/// The decoded part `index` of the path; `/v1/cache/a/b` has the parts v1, cache, a and b.
pub(crate) fn part(uri: &Uri, index: usize) -> Result<String, ApiError> {
    let part = uri.path().split('/').nth(index + 1).unwrap_or_default();
    decode(part)
}

/// The parameters of a query, each known and given once.
pub(crate) fn query(uri: &Uri, known: &[&'static str]) -> Result<Query, ApiError> {
    let mut found: Vec<(&'static str, String)> = Vec::new();
    for pair in uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let Some(name) = known.iter().find(|known| **known == name) else {
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let message = format!("unknown parameter {}: this path takes {known}", quoted(name));
            return Err(ApiError::bad("bad-parameter", message));
        };
        if found.iter().any(|(seen, _)| seen == name) {
            let message = format!("the parameter {name} is given twice");
            return Err(ApiError::bad("bad-parameter", message));
        }
        found.push((*name, decode(value)?));
    }
    Ok(Query(found))
}

/// The parameters of one request.
#[derive(Debug)]
pub(crate) struct Query(Vec<(&'static str, String)>);

impl Query {
    /// The text of `name`.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(seen, _)| *seen == name).map(|(_, value)| value.as_str())
    }

    /// The seqno in `name`.
    pub(crate) fn seqno(&self, name: &str) -> Result<Option<SeqNo>, ApiError> {
        self.text(name).map(|text| seqno(name, text)).transpose()
    }

    /// The seqno in `name`, which has to be there.
    pub(crate) fn required_seqno(&self, name: &str) -> Result<SeqNo, ApiError> {
        self.seqno(name)?.ok_or_else(|| {
            ApiError::bad("bad-seqno", format!("the parameter {name} is missing: add ?{name}=N"))
        })
    }
}

/// Reads a seqno; larger numbers than any store takes are refused here already.
pub(crate) fn seqno(what: &str, text: &str) -> Result<SeqNo, ApiError> {
    number(text).filter(|seqno: &SeqNo| seqno.is_valid()).ok_or_else(|| {
        let (text, max) = (quoted(text), SeqNo::MAX);
        ApiError::bad("bad-seqno", format!("{what}={text} is not a seqno: expected 0 to {max}"))
    })
}

/// Reads a number that is written in digits, without a sign.
pub(crate) fn number<N: FromStr>(text: &str) -> Option<N> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

/// What a client sent, in quotes and no longer than needed to recognise it.
pub(crate) fn quoted(text: &str) -> String {
    /// Bytes that are shown.
    const SHOWN: usize = 40;
    match text.get(..text.floor_char_boundary(SHOWN)) {
        Some(start) if start.len() < text.len() => format!("{:?}", format!("{start}…")),
        _ => format!("{text:?}"),
    }
}

/// The text of a header that may be given once.
pub(crate) fn header<'a>(
    headers: &'a HeaderMap,
    name: &'static str,
) -> Result<Option<&'a str>, ApiError> {
    let mut values = headers.get_all(HeaderName::from_static(name)).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(ApiError::bad("bad-header", format!("the header {name} is given twice")));
    }
    match value.to_str() {
        Ok(text) => Ok(Some(text.trim())),
        Err(_) => Err(ApiError::bad("bad-header", format!("the header {name} is not plain text"))),
    }
}

/// The duration in a header, as in 30s or 500ms.
pub(crate) fn duration(
    headers: &HeaderMap,
    name: &'static str,
) -> Result<Option<Duration>, ApiError> {
    let Some(text) = header(headers, name)? else { return Ok(None) };
    humantime::parse_duration(text).map(Some).map_err(|_| {
        let message = format!("{name}: {} is not a duration such as 30s or 500ms", quoted(text));
        ApiError::bad("bad-header", message)
    })
}

/// Whether a write waits for the disk: the header `Larder-Sync`, true by default.
pub(crate) fn sync(headers: &HeaderMap) -> Result<bool, ApiError> {
    match header(headers, "larder-sync")? {
        None | Some("true") => Ok(true),
        Some("false") => Ok(false),
        Some(text) => {
            let message = format!("larder-sync: {} is neither true nor false", quoted(text));
            Err(ApiError::bad("bad-header", message))
        }
    }
}

/// Decodes percent-encoding; a stray % or a text that is not UTF-8 is refused.
fn decode(text: &str) -> Result<String, ApiError> {
    let bad = |problem: &str| ApiError::bad("bad-encoding", format!("the path or query {problem}"));
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        let digits = rest.as_bytes().get(at + 1..at + 3);
        if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
            return Err(bad("has a % without two hexadecimal digits: a % itself is written %25"));
        }
        rest = rest.get(at + 3..).unwrap_or_default();
    }
    let decoded = percent_decode_str(text).decode_utf8();
    Ok(decoded.map_err(|_| bad("does not decode to UTF-8"))?.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_decoded_after_they_are_split() {
        let uri: Uri = "/v1/cache/a/b%2Fc%20d?x=1".parse().unwrap();
        assert_eq!(part(&uri, 2).unwrap(), "a");
        assert_eq!(part(&uri, 3).unwrap(), "b/c d");
        for bad in ["/v1/%", "/v1/%4", "/v1/%zz", "/v1/%ff"] {
            assert!(part(&bad.parse().unwrap(), 1).is_err(), "{bad}");
        }
    }

    #[test]
    fn unknown_and_doubled_parameters_are_refused() {
        let read = |text: &str| query(&text.parse().unwrap(), &["from", "limit"]);
        assert_eq!(read("/p?from=3&limit=9").unwrap().seqno("from").unwrap(), Some(SeqNo(3)));
        assert!(read("/p").unwrap().text("from").is_none());
        for bad in ["/p?form=3", "/p?from=1&from=2", "/p?from=%zz"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_plain_numbers_up_to_the_limit_are_seqnos() {
        assert_eq!(seqno("seqno", "9223372036854775807").unwrap(), SeqNo::MAX);
        for bad in ["", "-1", "+1", "1.0", "9223372036854775808", "99999999999999999999", "x"] {
            assert!(seqno("seqno", bad).is_err(), "{bad}");
        }
    }
}
