//! Reading request bodies, with a limit on the stream itself.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Deserialize;
use serde_json::error::Category;
use warp::http::header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT, TRANSFER_ENCODING};
use warp::http::{HeaderMap, HeaderValue};

use crate::error::ApiError;
use crate::request::Request;

/// Longest JSON body of most routes, in bytes: a large order is a tenth of it.
pub const JSON_BYTES_MAX: usize = 64 * 1024;

/// Longest JSON body of routes that write products (descriptions, specifications), in bytes.
pub const PRODUCT_JSON_BYTES_MAX: usize = 1024 * 1024;

/// How much of an oversized body is read and thrown away so that the client, still sending, gets to read
/// its 413 instead of a connection reset.
const DISCARD_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How long that may take.
const DISCARD_TIME_MAX: Duration = Duration::from_secs(2);

impl Request {
    /// Reads the whole body, at most `limit` bytes whatever its headers say.
    ///
    /// # Errors
    /// 413 when it is longer; 400 when the client stops half-way.
    pub async fn bytes(&mut self, limit: usize) -> Result<Bytes, ApiError> {
        if announced_length(&self.headers).is_some_and(|length| length > limit as u64) {
            // A client that waits for "100 Continue" has sent nothing yet, and need not.
            if !self.headers.contains_key(EXPECT) {
                self.discard().await;
            }
            return Err(ApiError::payload_too_large(limit));
        }
        match Limited::new(&mut self.body, limit).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => {
                self.discard().await;
                Err(ApiError::payload_too_large(limit))
            }
            Err(error) => Err(ApiError::malformed("ended before it was complete").because(error)),
        }
    }

    /// Reads a body that says it is JSON. [`crate::fields::read`] takes it from there.
    ///
    /// # Errors
    /// 415 without a JSON `Content-Type`; otherwise as [`Request::bytes`].
    pub async fn json_bytes(&mut self, limit: usize) -> Result<Bytes, ApiError> {
        if !is_json(self.headers.get(CONTENT_TYPE)) {
            return Err(ApiError::unsupported_media_type());
        }
        self.bytes(limit).await
    }

    /// As [`Request::json_bytes`], but no body at all is `{}`: for requests whose fields are all optional.
    ///
    /// # Errors
    /// As [`Request::json_bytes`].
    pub async fn optional_json_bytes(&mut self, limit: usize) -> Result<Bytes, ApiError> {
        let has_body = self.headers.contains_key(TRANSFER_ENCODING)
            || announced_length(&self.headers).is_some_and(|length| length > 0);
        if has_body { self.json_bytes(limit).await } else { Ok(Bytes::from_static(b"{}")) }
    }

    /// Throws away what the client still sends, within bounds.
    async fn discard(&mut self) {
        let drain = async {
            let mut discarded = 0;
            while let Some(Ok(frame)) = self.body.frame().await {
                discarded += frame.data_ref().map_or(0, Bytes::len);
                if discarded > DISCARD_BYTES_MAX {
                    return;
                }
            }
        };
        // Either way the answer is 413; after the time-out it may not arrive.
        let _ = tokio::time::timeout(DISCARD_TIME_MAX, drain).await;
    }
}

/// Parses a JSON body into a type: for formats between programs. Forms that people fill in are read with
/// [`crate::fields::read`], which names the field.
///
/// # Errors
/// 400 when it is not JSON; 422 when it is not this type. The reason gives the place, not our types.
pub fn parse_json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| {
        // The error's own text may quote values and name our types: neither the client nor the log gets it.
        let (line, column) = (error.line(), error.column());
        match error.classify() {
            Category::Data => ApiError::invalid_field(
                "body",
                format_args!("has a missing or wrong value before line {line}, column {column}"),
            ),
            Category::Eof => ApiError::malformed("must be JSON: it ends too early"),
            Category::Syntax | Category::Io => {
                ApiError::malformed(format_args!("must be JSON: there is a mistake at line {line}, column {column}"))
            }
        }
    })
}

/// `application/json` or `application/*+json`, with or without parameters.
fn is_json(content_type: Option<&HeaderValue>) -> bool {
    let Some(Ok(text)) = content_type.map(HeaderValue::to_str) else { return false };
    let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.strip_prefix("application/") {
        Some(subtype) => subtype == "json" || (subtype.len() > 5 && subtype.ends_with("+json")),
        None => false,
    }
}

fn announced_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_media_types() {
        let is = |text: &'static str| is_json(Some(&HeaderValue::from_static(text)));
        assert!(is("application/json"));
        assert!(is("Application/JSON; charset=utf-8"));
        assert!(is("application/merge-patch+json"));
        for text in ["", "text/plain", "text/json", "application/jsonx", "application/+json", "application"] {
            assert!(!is(text), "{text}");
        }
        assert!(!is_json(None));
    }

    #[test]
    fn syntax_is_400_and_type_is_422_and_neither_names_our_types() {
        #[derive(Debug, Deserialize)]
        #[allow(dead_code)]
        struct SecretInternals {
            count: u32,
        }
        for body in ["", "{", "{]", "nope", "{\"count\":1}x"] {
            let error = parse_json::<SecretInternals>(body.as_bytes()).unwrap_err();
            assert_eq!(error.status(), 400, "{body}");
        }
        for body in ["{}", "[]", "{\"count\":\"1\"}"] {
            let error = parse_json::<SecretInternals>(body.as_bytes()).unwrap_err();
            assert_eq!(error.status(), 422, "{body}");
        }
    }

    #[test]
    fn deep_nesting_is_refused_not_followed() {
        let bomb = "[".repeat(JSON_BYTES_MAX);
        assert_eq!(parse_json::<serde_json::Value>(bomb.as_bytes()).unwrap_err().status(), 400);
    }
}
