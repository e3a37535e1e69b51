//! Entity tags: "only if it has changed" when reading, "only if it has not" when writing.
//!
//! A tag is the version of a resource, `"7"`. Where more than the version shows, as with a product and its stock, the
//! version comes first: `"7-19"`. A write is based on the version alone.

use warp::http::HeaderMap;
use warp::http::header::{ETAG, IF_MATCH, IF_NONE_MATCH};

use crate::error::ApiError;
use crate::reply::{self, Response};

/// Which version a write is based on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BasedOn {
    /// The header is not there.
    Unsaid,
    /// `*`: whichever there is.
    Any,
    /// This version; 0, which no resource has, for a tag that is none of ours.
    Version(u64),
}

/// What `If-Match` says.
///
/// # Errors
/// 400 for more than one tag: a resource of ours has one.
pub(crate) fn if_match(headers: &HeaderMap) -> Result<BasedOn, ApiError> {
    let mut values = headers.get_all(IF_MATCH).iter();
    let value = match (values.next(), values.next()) {
        (None, _) => return Ok(BasedOn::Unsaid),
        (Some(value), None) => value.to_str().unwrap_or_default().trim(),
        (Some(_), Some(_)) => return Err(ApiError::bad_parameter("If-Match", "must be one entity tag")),
    };
    if value == "*" {
        return Ok(BasedOn::Any);
    }
    if value.contains(',') {
        return Err(ApiError::bad_parameter("If-Match", "must be one entity tag"));
    }
    let tag = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let version = tag.and_then(|tag| tag.split('-').next()).and_then(|version| version.parse().ok());
    Ok(BasedOn::Version(version.unwrap_or(0)))
}

/// Puts the tag on an answer, or makes it 304 where the client has it already (RFC 9110, §13.1.2: weak comparison).
pub(crate) fn tagged(headers: &HeaderMap, etag: &str, response: Response) -> Response {
    let response = if is_known(headers, etag) { reply::not_modified() } else { response };
    reply::with_header(response, ETAG, etag)
}

fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    let weak = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    let texts = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(',')).any(|tag| tag.trim() == "*" || weak(tag) == weak(etag))
}

#[cfg(test)]
mod tests {
    use super::*;
    use warp::http::HeaderValue;

    fn with(name: &'static str, value: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_static(value));
        headers
    }

    #[test]
    fn a_write_names_the_version_it_is_based_on() {
        assert_eq!(if_match(&HeaderMap::new()).unwrap(), BasedOn::Unsaid);
        let table = [
            ("*", BasedOn::Any),
            ("\"7\"", BasedOn::Version(7)),
            ("\"7-19\"", BasedOn::Version(7)),
            ("7", BasedOn::Version(0)),
            ("W/\"7\"", BasedOn::Version(0)),
            ("\"x\"", BasedOn::Version(0)),
        ];
        for (text, expected) in table {
            assert_eq!(if_match(&with("if-match", text)).unwrap(), expected, "{text}");
        }
        assert!(if_match(&with("if-match", "\"1\", \"2\"")).is_err());
    }

    #[test]
    fn a_reader_that_has_it_gets_304_and_the_tag() {
        for (text, status) in
            [("\"7\"", 304), ("\"6\", W/\"7\"", 304), ("*", 304), ("\"6\"", 200), ("\"77\"", 200), ("7", 200)]
        {
            let response = tagged(&with("if-none-match", text), "\"7\"", Response::new("x".into()));
            assert_eq!(response.status().as_u16(), status, "{text}");
            assert_eq!(response.headers()[ETAG], "\"7\"");
        }
        assert_eq!(tagged(&HeaderMap::new(), "\"7\"", Response::new("x".into())).status(), 200);
    }
}
