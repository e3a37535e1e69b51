//! Query parameters: decoded once, each at most once, every bad one a 400.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use crate::error::ApiError;

/// Most parameters in one query; the longest list of ours has fewer than twenty.
pub const PARAMETERS_MAX: usize = 32;

/// Decoded query parameters. Names we do not know are ignored.
#[derive(Debug, Default)]
pub struct Query {
    parameters: HashMap<String, String>,
}

impl Query {
    /// Decodes `a=1&b=x%20y`; `+` is a blank.
    ///
    /// # Errors
    /// 400 for a bad escape, a repeated name or more than [`PARAMETERS_MAX`] parameters.
    pub fn parse(raw: &str) -> Result<Self, ApiError> {
        let mut parameters = HashMap::new();
        for pair in raw.split('&').filter(|pair| !pair.is_empty()) {
            if parameters.len() == PARAMETERS_MAX {
                let reason = format_args!("must have at most {PARAMETERS_MAX} parameters");
                return Err(ApiError::bad_parameter("query", reason));
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let bad_escape = || ApiError::bad_parameter("query", "has a bad percent escape");
            let name = decode(name).ok_or_else(bad_escape)?;
            let value = decode(value).ok_or_else(bad_escape)?;
            if parameters.contains_key(&name) {
                return Err(ApiError::bad_parameter(&name, "must not be repeated"));
            }
            parameters.insert(name, value);
        }
        Ok(Self { parameters })
    }

    /// A text; an empty one counts as absent.
    ///
    /// # Errors
    /// 400 when it is longer than `length_max` characters or has control characters.
    pub fn text(&self, name: &str, length_max: usize) -> Result<Option<&str>, ApiError> {
        match self.parameters.get(name).map(String::as_str) {
            None | Some("") => Ok(None),
            Some(text) if text.chars().count() > length_max => {
                let reason = format_args!("must have at most {length_max} characters");
                Err(ApiError::bad_parameter(name, reason))
            }
            Some(text) if text.chars().any(char::is_control) => {
                Err(ApiError::bad_parameter(name, "must not have control characters"))
            }
            Some(text) => Ok(Some(text)),
        }
    }

    /// An integer in `range`, or `default` when absent.
    ///
    /// # Errors
    /// 400 when it is not one.
    pub fn integer(&self, name: &str, range: RangeInclusive<u32>, default: u32) -> Result<u32, ApiError> {
        let Some(text) = self.parameters.get(name) else { return Ok(default) };
        let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse() {
            Ok(value) if is_plain && range.contains(&value) => Ok(value),
            _ => {
                let (least, most) = range.into_inner();
                let reason = format_args!("must be an integer from {least} to {most}");
                Err(ApiError::bad_parameter(name, reason))
            }
        }
    }

    /// One of the given words, or `default` when absent.
    ///
    /// # Errors
    /// 400 for another word.
    pub fn one_of<T: Copy>(&self, name: &str, words: &[(&str, T)], default: T) -> Result<T, ApiError> {
        let Some(text) = self.parameters.get(name) else { return Ok(default) };
        match words.iter().find(|(word, _)| word == text) {
            Some((_, value)) => Ok(*value),
            None => {
                let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                let reason = format_args!("must be one of {}", words.join(", "));
                Err(ApiError::bad_parameter(name, reason))
            }
        }
    }
}

/// Percent decoding of a form value; `None` when an escape is broken or the bytes are not UTF-8.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = match (first, tail) {
            (b'+', _) => {
                bytes.push(b' ');
                tail
            }
            (b'%', [high, low, tail @ ..]) => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                bytes.push(u8::try_from(digit(high)? * 16 + digit(low)?).ok()?);
                tail
            }
            (b'%', _) => return None,
            (byte, _) => {
                bytes.push(*byte);
                tail
            }
        };
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_are_decoded() {
        let query = Query::parse("search=red%20shoe+x%C3%A9&&flag&empty=").unwrap();
        assert_eq!(query.text("search", 50).unwrap(), Some("red shoe xé"));
        assert_eq!(query.text("flag", 50).unwrap(), None);
        assert_eq!(query.text("empty", 50).unwrap(), None);
        assert_eq!(query.text("absent", 50).unwrap(), None);
    }

    #[test]
    fn bad_queries_are_400() {
        let many = (0..=PARAMETERS_MAX).map(|n| format!("p{n}=1")).collect::<Vec<_>>().join("&");
        for raw in ["a=%", "a=%2", "a=%zz", "%ff=1", "a=%ff", "a=1&a=2", &many] {
            assert_eq!(Query::parse(raw).unwrap_err().status(), 400, "{raw}");
        }
        let query = Query::parse("long=abcd&control=%00").unwrap();
        assert!(query.text("long", 3).is_err());
        assert_eq!(query.text("long", 4).unwrap(), Some("abcd"));
        assert!(query.text("control", 3).is_err());
    }

    #[test]
    fn integers_have_a_range_and_a_default() {
        let query = Query::parse("page=3&limit=101&sign=-1&plus=%2B1&big=99999999999&none=").unwrap();
        assert_eq!(query.integer("page", 1..=100, 1).unwrap(), 3);
        assert_eq!(query.integer("absent", 1..=100, 20).unwrap(), 20);
        for name in ["limit", "sign", "plus", "big", "none"] {
            assert_eq!(query.integer(name, 1..=100, 1).unwrap_err().status(), 400, "{name}");
        }
    }

    #[test]
    fn words_are_from_a_list() {
        let query = Query::parse("order=desc&sort=age").unwrap();
        let words = [("asc", false), ("desc", true)];
        assert!(query.one_of("order", &words, false).unwrap());
        assert!(!query.one_of("absent", &words, false).unwrap());
        assert_eq!(query.one_of("sort", &words, false).unwrap_err().status(), 400);
    }

    proptest! {
        #[test]
        fn parse_never_panics(raw in ".*") {
            let _ = Query::parse(&raw);
        }
    }
}
