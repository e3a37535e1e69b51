//! Time as the services store and show it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// `0000-01-01T00:00:00Z` and `9999-12-30T22:00:00Z` in milliseconds: what RFC 3339 can write with four
/// digits of year and the calendar library can hold.
const MILLIS_MIN: i64 = -62_167_219_200_000;
const MILLIS_MAX: i64 = 253_402_207_200_000;

/// An instant: milliseconds since the Unix epoch, UTC, within the years 0000 to 9999.
///
/// In journals and messages it is the integer; [`fmt::Display`] and [`Timestamp::to_rfc3339`] give the
/// text of the HTTP API, in whole seconds. Deciders never read the clock: the time comes in the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "i64", into = "i64")]
pub struct Timestamp(i64);

/// The text is not an RFC 3339 instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be an RFC 3339 time such as 2026-11-22T11:00:00Z")]
pub struct TimestampError;

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Timestamp = Timestamp(0);

    /// The wall clock, in whole milliseconds.
    #[must_use]
    pub fn now() -> Self {
        Self::from_millis(jiff::Timestamp::now().as_millisecond())
    }

    /// From milliseconds since the epoch; values outside the years 0000 to 9999 become the nearest inside.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        if millis < MILLIS_MIN {
            Self(MILLIS_MIN)
        } else if millis > MILLIS_MAX {
            Self(MILLIS_MAX)
        } else {
            Self(millis)
        }
    }

    /// From whole seconds since the epoch, with the same bounds.
    #[must_use]
    pub const fn from_seconds(seconds: i64) -> Self {
        Self::from_millis(seconds.saturating_mul(1000))
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// The year and the month, 1 to 12, in UTC.
    #[must_use]
    pub fn year_and_month(self) -> (i16, i8) {
        let instant = jiff::Timestamp::from_millisecond(self.0).expect("the constructor keeps the years 0000 to 9999");
        let date = instant.to_zoned(jiff::tz::TimeZone::UTC).date();
        (date.year(), date.month())
    }

    /// Whole seconds since the epoch, rounded down.
    #[must_use]
    pub const fn as_seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// This instant and `duration` later, at most the year 9999.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self::from_millis(self.0.saturating_add(millis))
    }

    /// How long after `earlier`; zero when it is not after.
    #[must_use]
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(u64::try_from(self.0 - earlier.0).unwrap_or(0))
    }

    /// `2026-11-22T11:00:00Z`: RFC 3339 in UTC, rounded down to the second.
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        self.to_string()
    }

    /// Reads an RFC 3339 time with any offset; digits below the millisecond are dropped.
    ///
    /// # Errors
    /// [`TimestampError`] for any other text.
    pub fn parse(text: &str) -> Result<Self, TimestampError> {
        let instant: jiff::Timestamp = text.parse().map_err(|_| TimestampError)?;
        let millis = instant.as_nanosecond().div_euclid(1_000_000);
        i64::try_from(millis).map(Self::from_millis).map_err(|_| TimestampError)
    }
}

impl From<i64> for Timestamp {
    fn from(millis: i64) -> Self {
        Self::from_millis(millis)
    }
}

impl From<Timestamp> for i64 {
    fn from(timestamp: Timestamp) -> i64 {
        timestamp.0
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let instant =
            jiff::Timestamp::from_second(self.as_seconds()).expect("the constructor keeps the years 0000 to 9999");
        write!(f, "{instant}")
    }
}

/// For `#[serde(with = "contracts::time::rfc3339")]`: the field as RFC 3339 text with its milliseconds instead of an integer.
/// What goes over a topic is for other programs too.
pub mod rfc3339 {
    use super::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Writes `2026-11-22T11:00:00.123Z`.
    ///
    /// # Errors
    /// Only the serialiser's own.
    pub fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        let instant = jiff::Timestamp::from_millisecond(time.as_millis());
        let instant = instant.expect("the constructor keeps the years 0000 to 9999");
        serializer.collect_str(&format_args!("{instant:.3}"))
    }

    /// Reads any RFC 3339 time.
    ///
    /// # Errors
    /// When the value is not such a text.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        let text = String::deserialize(deserializer)?;
        Timestamp::parse(&text).map_err(D::Error::custom)
    }

    /// The same for a time that may be missing.
    pub mod option {
        use super::Timestamp;
        use serde::{Deserialize, Deserializer, Serializer, de::Error};

        /// Writes the time, or nothing.
        ///
        /// # Errors
        /// Only the serialiser's own.
        pub fn serialize<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
            match time {
                Some(time) => super::serialize(time, serializer),
                None => serializer.serialize_none(),
            }
        }

        /// Reads any RFC 3339 time, or nothing.
        ///
        /// # Errors
        /// When the value is some other text.
        pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
            let text = Option::<String>::deserialize(deserializer)?;
            text.map(|text| Timestamp::parse(&text).map_err(D::Error::custom)).transpose()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn shown_in_whole_seconds_with_z() {
        let time = Timestamp::parse("2026-11-22T11:00:00.987Z").unwrap();
        assert_eq!(time.to_rfc3339(), "2026-11-22T11:00:00Z");
        assert_eq!(time.as_millis() % 1000, 987);
        assert_eq!(Timestamp::EPOCH.to_string(), "1970-01-01T00:00:00Z");
        assert_eq!(Timestamp::from_millis(-1).to_string(), "1969-12-31T23:59:59Z");
    }

    #[test]
    fn offsets_are_read_and_other_texts_refused() {
        let utc = Timestamp::parse("2024-01-15T10:30:00Z").unwrap();
        assert_eq!(Timestamp::parse("2024-01-15T12:30:00+02:00"), Ok(utc));
        for text in ["", "yesterday", "2024-01-15", "2024-13-01T00:00:00Z", "1705314600"] {
            assert_eq!(Timestamp::parse(text), Err(TimestampError), "{text}");
        }
    }

    #[test]
    fn stored_as_the_integer() {
        let time = Timestamp::from_millis(1_700_000_000_123);
        assert_eq!(serde_json::to_string(&time).unwrap(), "1700000000123");
        assert_eq!(serde_json::from_str::<Timestamp>("1700000000123").unwrap(), time);
    }

    #[test]
    fn arithmetic_saturates() {
        let time = Timestamp::from_millis(1_000);
        assert_eq!(time.plus(Duration::from_secs(2)).as_millis(), 3_000);
        assert_eq!(time.plus(Duration::MAX), Timestamp::from_millis(i64::MAX));
        assert_eq!(time.since(Timestamp::EPOCH), Duration::from_secs(1));
        assert_eq!(Timestamp::EPOCH.since(time), Duration::ZERO);
        assert!(Timestamp::from_millis(i64::MAX).to_string().starts_with("9999-12-30T"));
        assert!(Timestamp::from_millis(i64::MIN).to_string().starts_with("0000-01-01T"));
    }

    proptest! {
        #[test]
        fn every_integer_has_a_text_that_reads_back_to_the_same_second(millis: i64) {
            let time = Timestamp::from_millis(millis);
            prop_assert_eq!(Timestamp::parse(&time.to_rfc3339()).unwrap().as_seconds(), time.as_seconds());
        }

        #[test]
        fn parse_never_panics(text in ".*") {
            let _ = Timestamp::parse(&text);
        }
    }
}
