//! A product's specifications: a JSON object kept as the text that came in, so that no number changes its digits.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The most entries of one product: a long data sheet.
const ENTRIES_MAX: usize = 100;
/// The longest text in bytes: 100 entries of 640.
const BYTES_MAX: usize = 64_000;

/// The text of a JSON object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Specifications(Arc<str>);

/// Why a text is no specifications; the words suit a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecificationsError {
    /// It is no JSON object, or it is nested more than some hundred levels deep.
    #[error("must be a JSON object")]
    NotAnObject,
    /// There are too many entries.
    #[error("must have at most 100 entries")]
    TooMany,
    /// The text is too long.
    #[error("must be at most 64000 bytes long")]
    TooLong,
}

impl Specifications {
    /// Reads a JSON object of at most 100 entries and 64,000 bytes.
    ///
    /// # Errors
    /// [`SpecificationsError`].
    pub fn parse(json: &str) -> Result<Self, SpecificationsError> {
        if json.len() > BYTES_MAX {
            return Err(SpecificationsError::TooLong);
        }
        let object: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(json).map_err(|_| SpecificationsError::NotAnObject)?;
        if object.len() > ENTRIES_MAX {
            return Err(SpecificationsError::TooMany);
        }
        Ok(Self(json.trim().into()))
    }

    /// The JSON text.
    #[must_use]
    pub fn as_json(&self) -> &str {
        &self.0
    }
}

impl Default for Specifications {
    /// None at all: `{}`.
    fn default() -> Self {
        Self("{}".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_kept_to_the_letter() {
        let text = r#"{"weight":0.250,"colour":"Black","wireless":true,"size":{"w":1}}"#;
        assert_eq!(Specifications::parse(text).unwrap().as_json(), text);
        assert_eq!(Specifications::default(), Specifications::parse("{}").unwrap());
    }

    #[test]
    fn what_is_no_object_or_too_large_is_refused() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(500), "]".repeat(500));
        for text in ["", "[]", "null", "\"a\"", "{", "{\"a\":}", deep.as_str()] {
            assert_eq!(Specifications::parse(text), Err(SpecificationsError::NotAnObject), "{text}");
        }
        let entries: Vec<String> = (0..=ENTRIES_MAX).map(|number| format!("\"k{number}\":1")).collect();
        assert_eq!(Specifications::parse(&format!("{{{}}}", entries.join(","))), Err(SpecificationsError::TooMany));
        assert!(Specifications::parse(&format!("{{{}}}", entries[1..].join(","))).is_ok());
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(BYTES_MAX));
        assert_eq!(Specifications::parse(&long), Err(SpecificationsError::TooLong));
        for (error, limit) in [(SpecificationsError::TooMany, ENTRIES_MAX), (SpecificationsError::TooLong, BYTES_MAX)] {
            assert!(error.to_string().contains(&limit.to_string()), "the words name the limit");
        }
    }
}
