//! The hand parser of amounts: the text of a JSON token to minor units, no float in between.

use super::currency::Currency;

/// Why a JSON token is not an amount of the currency. The text is the `reason` sent to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// Not `-?(0|[1-9][0-9]*)(\.[0-9]+)?`, as a number or as a string.
    #[error("must be a plain decimal number such as 19.99")]
    NotADecimal,
    /// A digit other than zero beyond the currency's decimals.
    #[error("{0} has {decimals} decimal places", decimals = .0.exponent())]
    TooManyDecimals(Currency),
    /// More than [`MINOR_MAX`](super::MINOR_MAX) minor units.
    #[error("the amount is too large")]
    TooLarge,
}

/// The three pieces of the grammar, all digits.
struct Decimal<'a> {
    is_negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
}

/// The minor units that a token says, `minor_max` at most.
pub(super) fn json_token(token: &str, currency: Currency, minor_max: i64) -> Result<i64, AmountError> {
    let token = token.trim_matches([' ', '\t', '\n', '\r']);
    let text = match token.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"').ok_or(AmountError::NotADecimal)?,
        None => token,
    };
    let decimal = decimal(text.as_bytes()).ok_or(AmountError::NotADecimal)?;
    minor_units(&decimal, currency, minor_max)
}

/// `-?(0|[1-9][0-9]*)(\.[0-9]+)?`, the whole text.
fn decimal(text: &[u8]) -> Option<Decimal<'_>> {
    let (is_negative, unsigned) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = match unsigned.iter().position(|byte| *byte == b'.') {
        Some(point) => (&unsigned[..point], Some(&unsigned[point + 1..])),
        None => (unsigned, None),
    };
    let digits = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    let has_leading_zero = whole.len() > 1 && whole[0] == b'0';
    if !digits(whole) || has_leading_zero || fraction.is_some_and(|fraction| !digits(fraction)) {
        return None;
    }
    Some(Decimal { is_negative, whole, fraction: fraction.unwrap_or_default() })
}

fn minor_units(decimal: &Decimal<'_>, currency: Currency, minor_max: i64) -> Result<i64, AmountError> {
    let exponent = currency.exponent() as usize;
    let (kept, beyond) = decimal.fraction.split_at(exponent.min(decimal.fraction.len()));
    if beyond.iter().any(|digit| *digit != b'0') {
        return Err(AmountError::TooManyDecimals(currency));
    }
    let padding = std::iter::repeat_n(&b'0', exponent - kept.len());
    let mut minor = 0_i64;
    for digit in decimal.whole.iter().chain(kept).chain(padding) {
        // At most ten times the bound and 9 before the check stops it: no digit string can overflow.
        minor = minor * 10 + i64::from(digit - b'0');
        if minor > minor_max {
            return Err(AmountError::TooLarge);
        }
    }
    Ok(if decimal.is_negative { -minor } else { minor })
}
