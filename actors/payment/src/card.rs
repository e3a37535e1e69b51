//! A card as a buyer types it. Its number lives for the length of a request: it is never stored, logged or sent on.

use std::fmt;

/// A card's fields.
#[derive(Clone)]
pub struct Card {
    /// The digits; spaces and dashes have been taken out.
    number: String,
    /// 1 to 12.
    pub expiry_month: u8,
    /// Four digits.
    pub expiry_year: u16,
    cvc: String,
}

/// Which field of a card is wrong, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {}", .0.field, .0.reason)]
pub struct CardError(pub CardFault);

/// A field and what is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CardFault {
    /// The field within `payment_method`.
    pub field: &'static str,
    /// What is wrong.
    pub reason: &'static str,
}

const fn fault(field: &'static str, reason: &'static str) -> CardError {
    CardError(CardFault { field, reason })
}

impl Card {
    /// Checks the form: 12 to 19 digits with a right check digit (Luhn, ISO/IEC 7812-1), a month, a year, 3 or 4 digits of
    /// security code. Whether the card is good is the provider's to say.
    ///
    /// # Errors
    /// [`CardError`] names the field.
    pub fn new(number: &str, expiry_month: i64, expiry_year: i64, cvc: &str) -> Result<Self, CardError> {
        let number: String = number.chars().filter(|c| !matches!(c, ' ' | '-')).collect();
        if !(12..=19).contains(&number.len()) || !number.bytes().all(|b| b.is_ascii_digit()) {
            return Err(fault("card_number", "must have 12 to 19 digits"));
        }
        if !luhn_is_right(&number) {
            return Err(fault("card_number", "is not a card number: its check digit is wrong"));
        }
        let expiry_month = u8::try_from(expiry_month).ok().filter(|month| (1..=12).contains(month));
        let expiry_month = expiry_month.ok_or(fault("expiry_month", "must be between 1 and 12"))?;
        let expiry_year = u16::try_from(expiry_year).ok().filter(|year| (2000..=2100).contains(year));
        let expiry_year = expiry_year.ok_or(fault("expiry_year", "must be a year of four digits"))?;
        if !(3..=4).contains(&cvc.len()) || !cvc.bytes().all(|b| b.is_ascii_digit()) {
            return Err(fault("cvc", "must have 3 or 4 digits"));
        }
        Ok(Self { number, expiry_month, expiry_year, cvc: cvc.to_owned() })
    }

    /// The digits, for the provider alone.
    #[must_use]
    pub fn number(&self) -> &str {
        &self.number
    }

    /// The last four digits.
    #[must_use]
    pub fn last4(&self) -> &str {
        &self.number[self.number.len() - 4..]
    }

    /// The brand, by the number's first digits.
    #[must_use]
    pub fn brand(&self) -> &'static str {
        match self.number.as_bytes() {
            [b'4', ..] => "visa",
            [b'5', b'1'..=b'5', ..] | [b'2', b'2'..=b'7', ..] => "mastercard",
            [b'3', b'4' | b'7', ..] => "amex",
            [b'6', ..] => "discover",
            _ => "unknown",
        }
    }

    /// True when the card is past the end of its month.
    #[must_use]
    pub fn is_expired(&self, year: i16, month: i8) -> bool {
        (i32::from(self.expiry_year), i32::from(self.expiry_month)) < (i32::from(year), i32::from(month))
    }

    /// The length of the security code, for the provider's checks; the code itself is kept by nobody.
    #[must_use]
    pub fn cvc_len(&self) -> usize {
        self.cvc.len()
    }
}

impl fmt::Debug for Card {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Card({} ending in {})", self.brand(), self.last4())
    }
}

fn luhn_is_right(digits: &str) -> bool {
    let sum: u32 = digits
        .bytes()
        .rev()
        .enumerate()
        .map(|(index, byte)| {
            let digit = u32::from(byte - b'0');
            match index % 2 {
                0 => digit,
                _ if digit > 4 => digit * 2 - 9,
                _ => digit * 2,
            }
        })
        .sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field_of(number: &str, month: i64, year: i64, cvc: &str) -> &'static str {
        Card::new(number, month, year, cvc).map_or_else(|CardError(fault)| fault.field, |_| "none")
    }

    #[test]
    fn a_wrong_field_is_named() {
        assert_eq!(field_of("4111 1111-1111 1111", 12, 2025, "123"), "none");
        assert_eq!(field_of("4111111111111112", 12, 2025, "123"), "card_number");
        assert_eq!(field_of("4111", 12, 2025, "123"), "card_number");
        assert_eq!(field_of("41111111111111١١", 12, 2025, "123"), "card_number");
        assert_eq!(field_of("4111111111111111", 13, 2025, "123"), "expiry_month");
        assert_eq!(field_of("4111111111111111", 12, 25, "123"), "expiry_year");
        assert_eq!(field_of("4111111111111111", 12, 2025, "12a"), "cvc");
    }

    #[test]
    fn a_card_does_not_print_its_number() {
        let card = Card::new("4111111111111111", 12, 2025, "123").unwrap();
        assert_eq!(format!("{card:?}"), "Card(visa ending in 1111)");
    }
}
