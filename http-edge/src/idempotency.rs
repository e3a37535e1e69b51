//! The pure part of `Idempotency-Key`: what a key is, whose it is, and when two requests are the same.
//!
//! Storing and replaying outcomes belongs to the services, in the same transaction as the effect.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use warp::http::{HeaderMap, Method};

use crate::error::ApiError;

/// The header.
pub const HEADER: &str = "idempotency-key";

/// Longest key in characters.
pub const KEY_LEN_MAX: usize = 255;

/// Deepest nesting of a body that has a fingerprint: reading it costs its length times its depth.
pub const DEPTH_MAX: usize = 32;

/// A client's name for one intended effect.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// # Errors
    /// 400 unless it is 1..=[`KEY_LEN_MAX`] visible ASCII characters.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        let is_key = (1..=KEY_LEN_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        if is_key { Ok(Self(text.to_owned())) } else { Err(bad_key()) }
    }

    /// The key of a request, if it has one.
    ///
    /// # Errors
    /// 400 for a bad key or for more than one.
    pub fn optional(headers: &HeaderMap) -> Result<Option<Self>, ApiError> {
        let mut values = headers.get_all(HEADER).iter();
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => value.to_str().map_err(|_| bad_key()).and_then(Self::parse).map(Some),
            (Some(_), Some(_)) => Err(ApiError::bad_parameter("Idempotency-Key", "must not be repeated")),
        }
    }

    /// The key of a request that must have one.
    ///
    /// # Errors
    /// 400 for no key, a bad key or more than one.
    pub fn required(headers: &HeaderMap) -> Result<Self, ApiError> {
        let missing = || ApiError::bad_parameter("Idempotency-Key", "is required");
        Self::optional(headers)?.ok_or_else(missing)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where the key is unique: one principal (user id, cart token, API client), one method, one route
    /// (`/api/v1/orders/{id}/cancel`). No two triples give the same text, since none of the parts before
    /// the key has a blank.
    #[must_use]
    pub fn scope(&self, principal: &str, method: &Method, route: &str) -> String {
        debug_assert!(!principal.contains(' ') && !route.contains(' '));
        format!("{principal} {method} {route} {}", self.0)
    }
}

fn bad_key() -> ApiError {
    let reason = format_args!("must be 1 to {KEY_LEN_MAX} visible ASCII characters");
    ApiError::bad_parameter("Idempotency-Key", reason)
}

/// What a request asks for, in 32 bytes: equal for a repeat, different for another payload.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// SHA-256 of method, path and canonical body. An empty body is allowed.
    ///
    /// # Errors
    /// 400 when the body is not JSON or nests deeper than [`DEPTH_MAX`].
    pub fn of(method: &Method, path: &str, body: &[u8]) -> Result<Self, ApiError> {
        let canonical = match body {
            [] => Vec::new(),
            body => canonical_json(body)?,
        };
        let mut hash = Sha256::new();
        for part in [method.as_str().as_bytes(), path.as_bytes(), &canonical] {
            // The length first: no byte can wander from one part to the next.
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Ok(Self(hash.finalize().into()))
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// JSON without blanks, with names sorted and strings in one spelling. Numbers keep their text: `10.0` and
/// `10.00` differ, and no float ever rounds two amounts into one.
///
/// # Errors
/// 400 when the text is not JSON or nests deeper than [`DEPTH_MAX`].
pub fn canonical_json(body: &[u8]) -> Result<Vec<u8>, ApiError> {
    let raw: &RawValue = crate::body::parse_json(body)?;
    let mut canonical = Vec::with_capacity(body.len());
    write_canonical(raw.get(), DEPTH_MAX, &mut canonical)?;
    Ok(canonical)
}

fn write_canonical(json: &str, depth_left: usize, out: &mut Vec<u8>) -> Result<(), ApiError> {
    let broken = |_: serde_json::Error| ApiError::malformed("must be JSON");
    match json.as_bytes().first() {
        Some(b'{' | b'[') if depth_left == 0 => {
            Err(ApiError::malformed(format_args!("must nest at most {DEPTH_MAX} levels")))
        }
        Some(b'{') => {
            let fields: BTreeMap<String, &RawValue> = serde_json::from_str(json).map_err(broken)?;
            out.push(b'{');
            for (index, (name, value)) in fields.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                serde_json::to_writer(&mut *out, name).map_err(broken)?;
                out.push(b':');
                write_canonical(value.get(), depth_left - 1, out)?;
            }
            out.push(b'}');
            Ok(())
        }
        Some(b'[') => {
            let elements: Vec<&RawValue> = serde_json::from_str(json).map_err(broken)?;
            out.push(b'[');
            for (index, value) in elements.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_canonical(value.get(), depth_left - 1, out)?;
            }
            out.push(b']');
            Ok(())
        }
        Some(b'"') => {
            let text: String = serde_json::from_str(json).map_err(broken)?;
            serde_json::to_writer(&mut *out, &text).map_err(broken)
        }
        // A number, true, false or null: already in one spelling, or to be kept as it is.
        _ => {
            out.extend_from_slice(json.as_bytes());
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use warp::http::HeaderValue;

    fn canonical(json: &str) -> String {
        String::from_utf8(canonical_json(json.as_bytes()).unwrap()).unwrap()
    }

    fn print(body: &str) -> Fingerprint {
        Fingerprint::of(&Method::POST, "/api/v1/orders", body.as_bytes()).unwrap()
    }

    #[test]
    fn keys_are_1_to_255_visible_ascii() {
        assert!(IdempotencyKey::parse("7b1e-{}|~!").is_ok());
        assert!(IdempotencyKey::parse(&"k".repeat(255)).is_ok());
        for text in ["", " ", "a b", "é", "a\tb", &"k".repeat(256)] {
            assert_eq!(IdempotencyKey::parse(text).unwrap_err().status(), 400, "{text:?}");
        }
    }

    #[test]
    fn a_request_has_one_key_or_none() {
        let mut headers = HeaderMap::new();
        assert_eq!(IdempotencyKey::optional(&headers).unwrap(), None);
        assert_eq!(IdempotencyKey::required(&headers).unwrap_err().status(), 400);
        headers.append(HEADER, HeaderValue::from_static("k1"));
        assert_eq!(IdempotencyKey::required(&headers).unwrap().as_str(), "k1");
        headers.append(HEADER, HeaderValue::from_static("k1"));
        assert_eq!(IdempotencyKey::required(&headers).unwrap_err().status(), 400);
        headers.insert(HEADER, HeaderValue::from_bytes(b"\xff").unwrap());
        assert_eq!(IdempotencyKey::optional(&headers).unwrap_err().status(), 400);
    }

    #[test]
    fn a_fingerprint_is_printed_in_hexadecimal() {
        let print = Fingerprint([0x0f; 32]);
        assert_eq!(print.to_string(), "0f".repeat(32));
        assert_eq!(format!("{print:?}"), format!("Fingerprint({})", "0f".repeat(32)));
        assert_eq!(print.as_bytes(), &[0x0f; 32]);
    }

    #[test]
    fn scopes_of_different_askers_and_routes_differ() {
        let key = IdempotencyKey::parse("k").unwrap();
        let orders = key.scope("usr_1", &Method::POST, "/api/v1/orders");
        assert_eq!(orders, "usr_1 POST /api/v1/orders k");
        assert_ne!(orders, key.scope("usr_2", &Method::POST, "/api/v1/orders"));
        assert_ne!(orders, key.scope("usr_1", &Method::POST, "/api/v1/payments"));
    }

    #[test]
    fn order_blanks_and_escapes_do_not_matter() {
        assert_eq!(canonical(" { \"b\" : [ 1 , { } ] ,\n\"a\" : null } "), r#"{"a":null,"b":[1,{}]}"#);
        assert_eq!(canonical(r#""\u0041\/é""#), r#""A/é""#);
        assert_eq!(print(r#"{"a":1,"b":{"c":2,"d":3}}"#), print(r#"{"b":{"d":3,"c":2},"a":1}"#));
    }

    #[test]
    fn everything_else_does() {
        let bodies = [
            "",
            "{}",
            "[]",
            "0",
            "null",
            r#"{"a":1}"#,
            r#"{"a":"1"}"#,
            r#"{"a":1.0}"#,
            r#"{"a":1.00}"#,
            r#"{"a":9007199254740993}"#,
            r#"{"a":9007199254740992}"#,
            "[1,2]",
            "[2,1]",
            r#"{"a":[]}"#,
        ];
        let prints: std::collections::HashSet<_> = bodies.iter().map(|body| print(body)).collect();
        assert_eq!(prints.len(), bodies.len());
        let path = Fingerprint::of(&Method::POST, "/api/v1/order", b"s").err();
        assert!(path.is_some());
        assert_ne!(print("{}"), Fingerprint::of(&Method::PUT, "/api/v1/orders", b"{}").unwrap());
        assert_ne!(print("{}"), Fingerprint::of(&Method::POST, "/api/v1/orders/", b"{}").unwrap());
    }

    #[test]
    fn no_byte_wanders_from_one_part_to_the_next() {
        let of = |path: &str, body: &str| Fingerprint::of(&Method::POST, path, body.as_bytes()).unwrap();
        assert_ne!(of("/orders/1", "23"), of("/orders/12", "3"));
        assert_ne!(of("/orders/1", ""), of("/orders/", "1"));
        let put = Fingerprint::of(&Method::from_bytes(b"POS").unwrap(), "T/orders", b"").unwrap();
        assert_ne!(of("/orders", ""), put);
    }

    #[test]
    fn bad_or_deep_json_is_refused() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let objects = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
        assert!(canonical_json(nested(DEPTH_MAX).as_bytes()).is_ok());
        assert!(canonical_json(objects(DEPTH_MAX).as_bytes()).is_ok());
        let deep = [nested(DEPTH_MAX + 1), nested(30_000), objects(DEPTH_MAX + 1), objects(30_000)];
        for body in ["{", "{\"a\":}", "nope"].into_iter().chain(deep.iter().map(String::as_str)) {
            let error = canonical_json(body.as_bytes()).unwrap_err();
            assert_eq!(error.status(), 400);
        }
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            ".*".prop_map(serde_json::Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
                prop::collection::hash_map(".*", inner, 0..4)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn canonical_json_means_the_same_and_is_its_own_canonical_form(value in json()) {
            let pretty = serde_json::to_string_pretty(&value).unwrap();
            let once = canonical(&pretty);
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&once).unwrap(), value);
            prop_assert_eq!(canonical(&once), once);
        }

        #[test]
        fn any_bytes_are_canonicalised_or_refused(body: Vec<u8>) {
            let _ = canonical_json(&body);
        }
    }
}
