//! The ping and the pong as they are on the wire.
//!
//! **Owns** the format of the topics `service-ping` and `service-pong`. It is frozen: other programs write and read it.
//! Both are keyed by the service's name. A ping's value is the word `ping`; a pong's value is
//!
//! ```json
//! {"status":"healthy","service":"payment-service","timestamp":"2024-01-15T10:30:00Z"}
//! ```
//!
//! and more fields may follow. Ours adds `version`, `uptime_s`, `rss_bytes`, `instance` and `address`; a reader must do without them.
//!
//! **Does not** know how bytes travel, nor what is fresh: that is [`super::directory`]'s decision.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Who shall answer: one record per service, keyed by its name.
pub const PING_TOPIC: &str = "service-ping";

/// The answers, keyed by the name of the service that answers.
pub const PONG_TOPIC: &str = "service-pong";

/// The value of every ping.
pub const PING_VALUE: &[u8] = b"ping";

/// What [`Pong::status`] says when all is well.
pub const HEALTHY: &str = "healthy";

/// What [`Pong::status`] says when it is not, and what a reader says of a service that does not answer.
pub const UNHEALTHY: &str = "unhealthy";

/// Longest pong that is read. Ours has about 200 bytes; the rest is room for fields of others.
pub const PONG_BYTES_MAX: usize = 4_096;

/// Longest name, status, version, instance or address that is taken from a pong: nobody's words may fill an operator's screen.
pub const WORD_BYTES_MAX: usize = 128;

/// What a service says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pong {
    /// [`HEALTHY`], or any other word when it is not.
    pub status: String,
    /// The name of the service, such as `payment-service`.
    pub service: String,
    /// When the service said so, by its own clock; whole seconds in UTC.
    #[serde(with = "seconds_utc")]
    pub timestamp: Timestamp,
    /// What only our services tell; see [`PongDetails`].
    #[serde(flatten)]
    pub details: PongDetails,
}

/// The fields that our services add to the original's pong. All of them may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PongDetails {
    /// Version of the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Seconds since the service was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uptime_s: Option<u64>,
    /// Resident memory of the process, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rss_bytes: Option<u64>,
    /// Which process answers, when a service has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Where the service answers over HTTP, such as `http://10.0.0.7:8081`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

impl PongDetails {
    /// True when none of our fields is there: the pong is one of an original service.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Why a record on the pong topic tells nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPong {
    /// More than [`PONG_BYTES_MAX`] bytes.
    #[error("the pong is too long")]
    TooLong,
    /// No JSON object, or `status`, `service` or `timestamp` is missing or of another type.
    #[error("the pong is not of the expected shape")]
    Malformed,
    /// A name, status, version, instance or address is empty or longer than [`WORD_BYTES_MAX`].
    #[error("a word of the pong is empty or too long")]
    BadWord,
}

impl Pong {
    /// The bytes of this pong.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a struct of strings and integers is always JSON")
    }

    /// Reads a pong of ours or of an original service. Unknown fields are ignored.
    ///
    /// # Errors
    /// [`BadPong`] says what is wrong with it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadPong> {
        if bytes.len() > PONG_BYTES_MAX {
            return Err(BadPong::TooLong);
        }
        let pong: Self = serde_json::from_slice(bytes).map_err(|_| BadPong::Malformed)?;
        let optional = [&pong.details.version, &pong.details.instance, &pong.details.address];
        let words = [&pong.service, &pong.status].into_iter().chain(optional.into_iter().flatten());
        for word in words {
            if word.is_empty() || word.len() > WORD_BYTES_MAX {
                return Err(BadPong::BadWord);
            }
        }
        Ok(pong)
    }
}

/// True when `value` is a ping. White space around the word is allowed: people type pings by hand.
#[must_use]
pub fn is_ping(value: &[u8]) -> bool {
    value.trim_ascii() == PING_VALUE
}

/// RFC 3339 in whole seconds with `Z` when written, as the original did; any offset and precision when read.
pub(crate) mod seconds_utc {
    use super::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(timestamp: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{timestamp:.0}"))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        Timestamp::deserialize(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ORIGINAL: &str = r#"{"status":"healthy","service":"payment-service","timestamp":"2024-01-15T10:30:00Z"}"#;

    #[test]
    fn a_pong_without_our_fields_is_written_exactly_as_the_original_did() {
        let pong = Pong::from_bytes(ORIGINAL.as_bytes()).unwrap();
        assert!(pong.details.is_empty());
        assert_eq!(String::from_utf8(pong.to_bytes()).unwrap(), ORIGINAL);
    }

    #[test]
    fn our_pong_keeps_the_originals_fields_first_and_adds_ours() {
        let details = PongDetails {
            version: Some("0.1.0".into()),
            uptime_s: Some(7),
            rss_bytes: Some(9),
            instance: Some("a".into()),
            address: Some("http://a:1".into()),
        };
        let pong = Pong { details, ..Pong::from_bytes(ORIGINAL.as_bytes()).unwrap() };
        let text = String::from_utf8(pong.to_bytes()).unwrap();
        let begins = ORIGINAL.trim_end_matches('}');
        assert_eq!(
            text,
            format!(r#"{begins},"version":"0.1.0","uptime_s":7,"rss_bytes":9,"instance":"a","address":"http://a:1"}}"#)
        );
        assert_eq!(Pong::from_bytes(text.as_bytes()), Ok(pong));
    }

    #[test]
    fn times_of_any_offset_and_precision_are_shown_in_utc_seconds() {
        for (written, shown) in [
            ("2024-01-15T12:30:00+02:00", "2024-01-15T10:30:00Z"),
            ("2024-01-15T10:30:00.987654321Z", "2024-01-15T10:30:00Z"),
        ] {
            let pong = Pong::from_bytes(ORIGINAL.replace("2024-01-15T10:30:00Z", written).as_bytes()).unwrap();
            assert!(String::from_utf8(pong.to_bytes()).unwrap().contains(shown), "{written}");
        }
    }

    #[test]
    fn what_is_no_pong_is_refused_with_the_reason() {
        let long = "x".repeat(WORD_BYTES_MAX + 1);
        let table = [
            (String::new(), BadPong::Malformed),
            ("ping".into(), BadPong::Malformed),
            ("[]".into(), BadPong::Malformed),
            (r#"{"status":"healthy","service":"a"}"#.into(), BadPong::Malformed),
            (ORIGINAL.replace("2024-01-15T10:30:00Z", "yesterday"), BadPong::Malformed),
            (ORIGINAL.replace(r#""healthy""#, "1"), BadPong::Malformed),
            (ORIGINAL.replace("payment-service", ""), BadPong::BadWord),
            (ORIGINAL.replace("payment-service", &long), BadPong::BadWord),
            (ORIGINAL.replace("healthy", &long), BadPong::BadWord),
            ("x".repeat(PONG_BYTES_MAX + 1), BadPong::TooLong),
        ];
        for (text, reason) in table {
            assert_eq!(Pong::from_bytes(text.as_bytes()), Err(reason), "{text}");
        }
    }

    #[test]
    fn fields_of_others_are_ignored() {
        let text = ORIGINAL.replace('}', r#","load":{"cpu":0.5},"partitions":[1,2]}"#);
        assert!(Pong::from_bytes(text.as_bytes()).unwrap().details.is_empty());
    }

    #[test]
    fn only_the_word_ping_is_a_ping() {
        for (value, expected) in
            [(&b"ping"[..], true), (b" ping\r\n", true), (b"", false), (b"PING", false), (b"pingping", false)]
        {
            assert_eq!(is_ping(value), expected);
        }
    }

    proptest! {
        #[test]
        fn reading_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Pong::from_bytes(&bytes);
        }
    }
}
