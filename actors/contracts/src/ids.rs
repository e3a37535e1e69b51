//! Typed ids: a short prefix that names the kind, `_`, and a suffix.
//!
//! Generated suffixes are ULIDs (26 characters of uppercase Crockford base32): they sort by creation
//! time and their 80 random bits come from a generator seeded by the operating system, so they cannot
//! be guessed. Read ids may carry any suffix of 1..=[`SUFFIX_LEN_MAX`] characters of `[A-Za-z0-9_-]`
//! (`prod_123` is a valid id of the original API).

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use ulid::Ulid;

/// Longest suffix in characters. Twice a ULID and a bit: room for foreign ids, none for abuse.
pub const SUFFIX_LEN_MAX: usize = 64;

/// Why a text is not an id of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text does not start with the kind's prefix.
    #[error("must start with {0}")]
    Prefix(&'static str),
    /// The suffix is empty, too long or has a character outside `[A-Za-z0-9_-]`.
    #[error("must have 1 to 64 characters of A-Z, a-z, 0-9, _ or - after {0}")]
    Suffix(&'static str),
}

/// Checks prefix and alphabet; the one definition for every id kind.
fn check(text: &str, prefix: &'static str) -> Result<(), IdError> {
    let suffix = text.strip_prefix(prefix).ok_or(IdError::Prefix(prefix))?;
    let length_is_right = (1..=SUFFIX_LEN_MAX).contains(&suffix.len());
    let alphabet_is_right = suffix.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    if length_is_right && alphabet_is_right { Ok(()) } else { Err(IdError::Suffix(prefix)) }
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident $prefix:literal;)*) => {$(
        $(#[$doc])*
        ///
        /// Cloning copies a pointer. Serialised as its text.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// What every id of this kind starts with.
            pub const PREFIX: &'static str = $prefix;

            /// A new id with a fresh ULID suffix.
            #[must_use]
            pub fn generate() -> Self {
                Self::from_ulid(Ulid::generate().0)
            }

            /// The id with this ULID as its suffix: for ids derived from another id or from a seed.
            #[must_use]
            pub fn from_ulid(ulid: u128) -> Self {
                Self(format!(concat!($prefix, "{}"), Ulid(ulid)).into())
            }

            /// Reads an id.
            ///
            /// # Errors
            /// [`IdError`] when the prefix or the suffix is not this kind's; its text suits a client.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                check(text, $prefix)?;
                Ok(Self(text.into()))
            }

            /// The whole text, prefix included.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The ULID in the suffix; `None` when the suffix is something else (`123`).
            #[must_use]
            pub fn ulid_u128(&self) -> Option<u128> {
                Ulid::from_string(self.0.strip_prefix($prefix)?).ok().map(|ulid| ulid.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl de::Visitor<'_> for Text {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str(concat!("an id that starts with ", $prefix))
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        $name::parse(text).map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }
    )*};
}

ids! {
    /// A user: `usr_…`.
    UserId "usr_";
    /// A product of the catalogue: `prod_…`.
    ProductId "prod_";
    /// A stock keeping unit, what is counted and reserved: `sku_…`.
    Sku "sku_";
    /// An order: `ord_…`.
    OrderId "ord_";
    /// A payment: `pay_…`.
    PaymentId "pay_";
    /// A refund of a payment: `rfnd_…`.
    RefundId "rfnd_";
    /// A reservation of stock for an order: `res_…`.
    ReservationId "res_";
    /// A login session, the family of its refresh tokens: `ses_…`.
    SessionId "ses_";
    /// One HTTP request, in logs and error bodies: `req_…`.
    RequestId "req_";
    /// An event on a topic: `evt_…`.
    EventId "evt_";
}

/// How many of one SKU: 1..=[`Quantity::MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Quantity(NonZeroU32);

/// The quantity is 0 or more than [`Quantity::MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be between 1 and 10000")]
pub struct QuantityError;

impl Quantity {
    /// Most units in one line: a shop's order, not a warehouse transfer; keeps line totals far from
    /// overflow.
    pub const MAX: u32 = 10_000;

    /// One unit.
    pub const ONE: Quantity = Quantity(NonZeroU32::MIN);

    /// # Errors
    /// [`QuantityError`] outside 1..=[`Quantity::MAX`].
    pub fn new(units: u32) -> Result<Self, QuantityError> {
        match NonZeroU32::new(units) {
            Some(units) if units.get() <= Self::MAX => Ok(Self(units)),
            _ => Err(QuantityError),
        }
    }

    /// Units.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0.get()
    }
}

impl TryFrom<u32> for Quantity {
    type Error = QuantityError;

    fn try_from(units: u32) -> Result<Self, QuantityError> {
        Self::new(units)
    }
}

impl From<Quantity> for u32 {
    fn from(quantity: Quantity) -> u32 {
        quantity.get()
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[test]
    fn a_generated_id_is_prefix_and_26_uppercase_base32_characters() {
        let id = OrderId::generate();
        let suffix = id.as_str().strip_prefix("ord_").unwrap();
        assert_eq!(suffix.len(), 26);
        assert!(suffix.bytes().all(|b| b"0123456789ABCDEFGHJKMNPQRSTVWXYZ".contains(&b)));
        assert_eq!(OrderId::parse(id.as_str()), Ok(id.clone()));
        assert_eq!(OrderId::from_ulid(id.ulid_u128().unwrap()), id);
    }

    #[test]
    fn generated_ids_do_not_repeat() {
        let ids: HashSet<PaymentId> = (0..10_000).map(|_| PaymentId::generate()).collect();
        assert_eq!(ids.len(), 10_000);
    }

    #[test]
    fn foreign_suffixes_are_accepted_and_have_no_ulid() {
        for text in ["prod_123", "prod_a-B_c", "prod__"] {
            assert_eq!(ProductId::parse(text).unwrap().as_str(), text);
            assert_eq!(ProductId::parse(text).unwrap().ulid_u128(), None);
        }
        assert!(ProductId::parse(&format!("prod_{}", "x".repeat(64))).is_ok());
    }

    #[test]
    fn wrong_prefix_alphabet_or_length_is_refused() {
        assert_eq!(ProductId::parse("ord_123"), Err(IdError::Prefix("prod_")));
        assert_eq!(ProductId::parse(""), Err(IdError::Prefix("prod_")));
        for text in ["prod_", "prod_a b", "prod_é", "prod_a/b", "prod_a\n", "prod_a\0"] {
            assert_eq!(ProductId::parse(text), Err(IdError::Suffix("prod_")), "{text:?}");
        }
        assert!(ProductId::parse(&format!("prod_{}", "x".repeat(65))).is_err());
    }

    #[test]
    fn ids_are_json_strings_and_bad_ones_do_not_deserialise() {
        let id: UserId = serde_json::from_str("\"usr_7\"").unwrap();
        assert_eq!(serde_json::to_string(&id).unwrap(), "\"usr_7\"");
        assert!(serde_json::from_str::<UserId>("\"ord_7\"").is_err());
        assert!(serde_json::from_str::<UserId>("7").is_err());
    }

    #[test]
    fn quantity_is_1_to_its_maximum() {
        assert_eq!(Quantity::new(0), Err(QuantityError));
        assert_eq!(Quantity::new(1), Ok(Quantity::ONE));
        assert_eq!(Quantity::new(Quantity::MAX).unwrap().get(), Quantity::MAX);
        assert_eq!(Quantity::new(Quantity::MAX + 1), Err(QuantityError));
        assert_eq!(serde_json::from_str::<Quantity>("3").unwrap().get(), 3);
        assert!(serde_json::from_str::<Quantity>("0").is_err());
        assert!(QuantityError.to_string().contains(&Quantity::MAX.to_string()));
    }

    proptest! {
        #[test]
        fn parse_never_panics(text in ".*") {
            let _ = Sku::parse(&text);
        }

        #[test]
        fn ulid_suffixes_round_trip_and_sort_like_their_numbers(a: u128, b: u128) {
            let (left, right) = (Sku::from_ulid(a), Sku::from_ulid(b));
            prop_assert_eq!(left.ulid_u128(), Some(a));
            prop_assert_eq!(left.cmp(&right), a.cmp(&b));
        }
    }
}
