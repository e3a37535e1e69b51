//! Money: integer minor units of an ISO 4217 currency, never a float.
//!
//! Text comes in and goes out at the edge only: [`Money::parse_json`] reads the JSON token as it was
//! sent, [`DecimalNumber`] writes a JSON number with the currency's fixed scale. Everywhere else, and in
//! journals, money is `{"minor":29999,"currency":"USD"}`.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

mod currency;
mod parse;

pub use currency::{Currency, CurrencyError};
pub use parse::AmountError;

use crate::ids::Quantity;

/// Largest absolute amount, in minor units, that any [`Money`] holds: 100 billion dollars. With at most
/// this many minor units a JavaScript double carries the decimal text exactly.
pub const MINOR_MAX: i64 = 10_000_000_000_000;

/// Basis points in a whole: 100 % = 10,000.
pub const BASIS_POINTS_WHOLE: u32 = 10_000;

/// An amount of one currency, `|minor| ≤` [`MINOR_MAX`] by construction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Money {
    minor: i64,
    currency: Currency,
}

/// Why an operation on money has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// The result is beyond [`MINOR_MAX`] minor units.
    #[error("the amount is too large")]
    Overflow,
    /// The operands have different currencies; there is no exchange rate here.
    #[error("amounts in {0} and {1} cannot be combined")]
    CurrencyMismatch(Currency, Currency),
    /// A split over no parts.
    #[error("an amount cannot be split over no lines")]
    NoParts,
}

impl Money {
    /// # Errors
    /// [`MoneyError::Overflow`] beyond [`MINOR_MAX`].
    pub fn from_minor(minor: i64, currency: Currency) -> Result<Self, MoneyError> {
        Self::bounded(i128::from(minor), currency)
    }

    /// Nothing of a currency.
    #[must_use]
    pub const fn zero(currency: Currency) -> Self {
        Self { minor: 0, currency }
    }

    /// The one place that checks the bound.
    fn bounded(minor: i128, currency: Currency) -> Result<Self, MoneyError> {
        match i64::try_from(minor) {
            Ok(minor) if (-MINOR_MAX..=MINOR_MAX).contains(&minor) => Ok(Self { minor, currency }),
            _ => Err(MoneyError::Overflow),
        }
    }

    /// Reads the text of a JSON token: a number (`299.99`) or a string of the same grammar (`"299.99"`),
    /// `-?(0|[1-9][0-9]*)(\.[0-9]+)?`. Take the token as `serde_json::value::RawValue`, so that no float
    /// ever sees it.
    ///
    /// # Errors
    /// [`AmountError`]; its text is the `reason` for the client.
    pub fn parse_json(token: &str, currency: Currency) -> Result<Self, AmountError> {
        let minor = parse::json_token(token, currency, MINOR_MAX)?;
        Self::from_minor(minor, currency).map_err(|_| AmountError::TooLarge)
    }

    /// Minor units: cents of USD, yen of JPY, fils of KWD.
    #[must_use]
    pub const fn minor(self) -> i64 {
        self.minor
    }

    /// The currency.
    #[must_use]
    pub const fn currency(self) -> Currency {
        self.currency
    }

    /// Whether the amount is zero.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.minor == 0
    }

    /// Whether the amount is below zero.
    #[must_use]
    pub const fn is_negative(self) -> bool {
        self.minor < 0
    }

    /// # Errors
    /// [`MoneyError::CurrencyMismatch`], [`MoneyError::Overflow`].
    pub fn checked_add(self, other: Money) -> Result<Money, MoneyError> {
        self.same_currency(other)?;
        Self::bounded(i128::from(self.minor) + i128::from(other.minor), self.currency)
    }

    /// # Errors
    /// [`MoneyError::CurrencyMismatch`], [`MoneyError::Overflow`].
    pub fn checked_sub(self, other: Money) -> Result<Money, MoneyError> {
        self.same_currency(other)?;
        Self::bounded(i128::from(self.minor) - i128::from(other.minor), self.currency)
    }

    /// The price of `quantity` units.
    ///
    /// # Errors
    /// [`MoneyError::Overflow`].
    pub fn times(self, quantity: Quantity) -> Result<Money, MoneyError> {
        Self::bounded(i128::from(self.minor) * i128::from(quantity.get()), self.currency)
    }

    /// Adds amounts of one currency; the empty sum is zero.
    ///
    /// # Errors
    /// [`MoneyError::CurrencyMismatch`]; [`MoneyError::Overflow`] also when only a partial sum is too
    /// large.
    pub fn sum(currency: Currency, amounts: impl IntoIterator<Item = Money>) -> Result<Money, MoneyError> {
        amounts.into_iter().try_fold(Money::zero(currency), Money::checked_add)
    }

    /// `basis_points` / 10,000 of the amount, rounded half away from zero: 825 is 8.25 %.
    ///
    /// # Errors
    /// [`MoneyError::Overflow`], possible only above 100 %.
    pub fn basis_points(self, basis_points: u32) -> Result<Money, MoneyError> {
        let whole = i128::from(BASIS_POINTS_WHOLE);
        let product = i128::from(self.minor) * i128::from(basis_points);
        let half = if product < 0 { -whole / 2 } else { whole / 2 };
        Self::bounded((product + half) / whole, self.currency)
    }

    /// Splits the amount in proportion to `weights` by the largest remainder, so that the parts add up
    /// to exactly the amount: an order's discount over its lines. A tie goes to the earlier part. When
    /// all weights are zero the parts are equal. No part differs from its exact share by a whole unit.
    ///
    /// # Errors
    /// [`MoneyError::NoParts`] when `weights` is empty.
    pub fn split_by_weights(self, weights: &[u64]) -> Result<Vec<Money>, MoneyError> {
        if weights.is_empty() {
            return Err(MoneyError::NoParts);
        }
        let all_are_zero = weights.iter().all(|weight| *weight == 0);
        let weight_of = |index: usize| {
            if all_are_zero { 1 } else { u128::from(weights[index]) }
        };
        let total: u128 = (0..weights.len()).map(weight_of).sum();
        let amount = u128::from(self.minor.unsigned_abs());

        let mut parts: Vec<u128> = (0..weights.len()).map(|index| amount * weight_of(index) / total).collect();
        let missing = amount - parts.iter().sum::<u128>();
        let mut by_remainder: Vec<usize> = (0..weights.len()).collect();
        by_remainder.sort_by_key(|index| std::cmp::Reverse(amount * weight_of(*index) % total));
        for index in by_remainder.into_iter().take(usize::try_from(missing).unwrap_or(usize::MAX)) {
            parts[index] += 1;
        }

        let sign = i64::signum(self.minor);
        let signed = |part: u128| {
            let part = i64::try_from(part).expect("a part is not larger than the amount");
            Money { minor: sign * part, currency: self.currency }
        };
        Ok(parts.into_iter().map(signed).collect())
    }

    /// The JSON number of the HTTP API.
    #[must_use]
    pub const fn to_decimal(self) -> DecimalNumber {
        DecimalNumber(self)
    }

    fn same_currency(self, other: Money) -> Result<(), MoneyError> {
        if self.currency == other.currency {
            Ok(())
        } else {
            Err(MoneyError::CurrencyMismatch(self.currency, other.currency))
        }
    }
}

/// `299.99 USD`, for logs.
impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.to_decimal(), self.currency)
    }
}

/// The journal's form; keeps the bound when read back.
#[derive(Serialize, Deserialize)]
#[serde(rename = "Money")]
struct Stored {
    minor: i64,
    currency: Currency,
}

impl TryFrom<Stored> for Money {
    type Error = MoneyError;

    fn try_from(stored: Stored) -> Result<Self, MoneyError> {
        Money::from_minor(stored.minor, stored.currency)
    }
}

impl From<Money> for Stored {
    fn from(money: Money) -> Stored {
        Stored { minor: money.minor, currency: money.currency }
    }
}

/// An amount as a JSON number with its currency's fixed scale: `299.99`, `10.00`, `1200` for JPY.
///
/// Exact when serialised by `serde_json` to text. Through `serde_json::Value` (and so inside flattened
/// or internally tagged types) the number becomes a float and loses its trailing zeros: serialise structs
/// straight to text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DecimalNumber(Money);

impl DecimalNumber {
    /// The amount written.
    #[must_use]
    pub const fn money(self) -> Money {
        self.0
    }
}

impl From<Money> for DecimalNumber {
    fn from(money: Money) -> Self {
        Self(money)
    }
}

impl fmt::Display for DecimalNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exponent = self.0.currency.exponent();
        let sign = if self.0.minor < 0 { "-" } else { "" };
        let minor = self.0.minor.unsigned_abs();
        let scale = 10_u64.pow(exponent);
        match exponent {
            0 => write!(f, "{sign}{minor}"),
            _ => {
                let width = exponent as usize;
                write!(f, "{sign}{}.{:0width$}", minor / scale, minor % scale)
            }
        }
    }
}

impl Serialize for DecimalNumber {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serde_json::value::RawValue::from_string(self.to_string())
            .expect("a decimal text is a JSON number")
            .serialize(serializer)
    }
}

#[cfg(test)]
mod tests;
