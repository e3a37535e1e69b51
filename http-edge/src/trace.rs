//! A request's place in its trace, as W3C Trace Context (Recommendation, 2021) writes it in the header `traceparent`.
//!
//! A caller's trace is gone on with under a new parent id, which stands for the request here; without a valid one a trace is
//! begun. What the request causes carries it: events, their records, the messages that follow. Nothing is recorded here, so a
//! trace that is begun here is not marked as sampled. `tracestate` is other vendors' and is not kept.

use std::sync::Arc;

use warp::http::{HeaderMap, HeaderValue};

/// The header, in both directions.
pub const TRACEPARENT_HEADER: &str = "traceparent";

/// Length of version 00: `00-<trace id>-<parent id>-<flags>`.
const LEN: usize = 55;
const NOT_SAMPLED: &str = "00";

/// A place in a trace; see the module's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traceparent(Arc<str>);

impl Traceparent {
    /// The place of a request with these headers.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(TRACEPARENT_HEADER).iter();
        let only = values.next().filter(|_| values.next().is_none());
        let given = only.and_then(|value| value.to_str().ok()).and_then(trace_and_flags);
        match given {
            Some((trace_id, flags)) => Self::new(trace_id, flags),
            None => Self::begun(),
        }
    }

    /// The first place of a new trace.
    #[must_use]
    pub fn begun() -> Self {
        // Some of the 128 bits may be zero, not all.
        let trace_id = u128::from(random()) << 64 | u128::from(random());
        Self::new(&format!("{trace_id:032x}"), NOT_SAMPLED)
    }

    fn new(trace_id: &str, flags: &str) -> Self {
        Self(format!("00-{trace_id}-{:016x}-{flags}", random()).into())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text, shared.
    #[must_use]
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }

    /// The text as a header value.
    #[must_use]
    pub fn header_value(&self) -> HeaderValue {
        HeaderValue::from_str(&self.0).expect("it is hexadecimal digits and dashes")
    }
}

/// The trace id and the flags, if all of it is valid. Of a later version only what version 00 knows is taken.
fn trace_and_flags(text: &str) -> Option<(&str, &str)> {
    let is_hex = |part: &str, len: usize| {
        part.len() == len && part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let is_id = |part: &str, len: usize| is_hex(part, len) && part.bytes().any(|byte| byte != b'0');
    let mut parts = text.splitn(5, '-');
    let (version, trace_id, parent_id, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_whole = version != "00" || text.len() == LEN;
    let is_valid = is_hex(version, 2) && version != "ff" && is_id(trace_id, 32) && is_id(parent_id, 16);
    (is_whole && is_valid && is_hex(flags, 2)).then_some((trace_id, flags))
}

/// 64 random bits, not all of them zero. They are names, not secrets: without the system's random numbers they are 1.
fn random() -> u64 {
    getrandom::u64().unwrap_or_default().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

    fn of(values: &[&str]) -> Traceparent {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(TRACEPARENT_HEADER, HeaderValue::from_str(value).unwrap());
        }
        Traceparent::of(&headers)
    }

    #[test]
    fn a_callers_trace_goes_on_under_a_new_parent() {
        let given = format!("00-{TRACE}-b7ad6b7169203331-01");
        let ours = of(&[&given]);
        assert!(ours.as_str().starts_with(&format!("00-{TRACE}-")) && ours.as_str().ends_with("-01"), "{ours:?}");
        assert_ne!(ours.as_str(), given);
        assert_eq!(ours.as_str().len(), LEN);
        let later = of(&[&format!("cc-{TRACE}-b7ad6b7169203331-01-what-comes-then")]);
        assert!(later.as_str().starts_with(&format!("00-{TRACE}-")), "{later:?}");
    }

    #[test]
    fn a_trace_that_is_begun_is_named_by_128_random_bits_and_its_place_by_64() {
        // Each part of another trace is another; that two are alike by chance is one in 2^64.
        let parts = |begun: &Traceparent| {
            let text = begun.as_str();
            [text[3..19].to_owned(), text[19..35].to_owned(), text[36..52].to_owned()]
        };
        let (one, other) = (Traceparent::begun(), Traceparent::begun());
        for (one, other) in parts(&one).into_iter().zip(parts(&other)) {
            assert_ne!(one, other);
            assert!(one.bytes().any(|digit| digit != b'0'));
        }
        assert_eq!((&*one.shared(), one.header_value().as_bytes()), (one.as_str(), one.as_str().as_bytes()));
    }

    #[test]
    fn what_is_not_valid_begins_a_new_trace() {
        let invalid = [
            String::new(),
            "hello".to_owned(),
            format!("00-{TRACE}-b7ad6b7169203331-01-more"),
            format!("ff-{TRACE}-b7ad6b7169203331-01"),
            format!("00-{}-b7ad6b7169203331-01", TRACE.to_uppercase()),
            format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)),
            format!("00-{TRACE}-0000000000000000-01"),
            format!("00-{TRACE}-b7ad6b7169203331-0"),
        ];
        for text in &invalid {
            let begun = of(&[text]);
            assert!(!begun.as_str().contains(TRACE) && begun.as_str().ends_with("-00"), "{text}: {begun:?}");
            assert!(trace_and_flags(begun.as_str()).is_some(), "{begun:?}");
        }
        let twice = format!("00-{TRACE}-b7ad6b7169203331-01");
        assert!(!of(&[&twice, &twice]).as_str().contains(TRACE), "two headers say nothing");
        assert_ne!(of(&[]), of(&[]));
    }
}
