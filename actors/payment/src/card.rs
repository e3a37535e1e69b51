//! A card as a buyer types it. Its number lives for the length of a request: it is never stored, logged or sent on.

use std::fmt;

use contracts::Timestamp;

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

    /// True when the card is past the end of its month, in UTC.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        let (year, month) = now.year_and_month();
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

    /// Numbers that brands publish for tests.
    const KNOWN: [(&str, &str, &str); 8] = [
        ("4111111111111111", "visa", "1111"),
        ("4222222222222", "visa", "2222"),
        ("5555555555554444", "mastercard", "4444"),
        ("2223003122003222", "mastercard", "3222"),
        ("378282246310005", "amex", "0005"),
        ("341111111111111", "amex", "1111"),
        ("6011111111111117", "discover", "1117"),
        ("30569309025904", "unknown", "5904"),
    ];

    #[test]
    fn a_card_is_recognised_by_its_number_and_shown_by_its_last_four_digits() {
        for (number, brand, last4) in KNOWN {
            let card = Card::new(number, 12, 2025, "1234").unwrap();
            assert_eq!((card.number(), card.brand(), card.last4()), (number, brand, last4));
        }
        let spaced = Card::new("4111 1111-1111 1111", 12, 2025, "123").unwrap();
        assert_eq!(spaced.number(), "4111111111111111", "the provider is given the digits alone");
    }

    #[test]
    fn a_brand_has_its_own_range_of_numbers() {
        for (beginning, brand) in [
            ("50", "unknown"),
            ("51", "mastercard"),
            ("55", "mastercard"),
            ("56", "unknown"),
            ("21", "unknown"),
            ("22", "mastercard"),
            ("27", "mastercard"),
            ("28", "unknown"),
            ("33", "unknown"),
            ("35", "unknown"),
            ("19", "unknown"),
        ] {
            let number = |check| format!("{beginning}0000000000000{check}");
            let cards: Vec<Card> =
                (0..10).filter_map(|check| Card::new(&number(check), 12, 2025, "123").ok()).collect();
            assert_eq!(cards.len(), 1, "one check digit of ten is right: {beginning}");
            assert_eq!(cards[0].brand(), brand, "{beginning}");
        }
    }

    #[test]
    fn a_digit_that_is_mistyped_anywhere_is_noticed() {
        for (number, ..) in KNOWN {
            for (place, digit) in number.bytes().enumerate() {
                for other in (b'0'..=b'9').filter(|other| *other != digit) {
                    let mut mistyped = number.as_bytes().to_vec();
                    mistyped[place] = other;
                    let mistyped = String::from_utf8(mistyped).unwrap();
                    assert_eq!(field_of(&mistyped, 12, 2025, "123"), "card_number", "{mistyped}");
                }
            }
        }
    }

    #[test]
    fn a_card_is_good_until_the_end_of_its_month() {
        let card = Card::new("4111111111111111", 6, 2030, "123").unwrap();
        for (year, month, is_expired) in
            [(2030, 5, false), (2030, 6, false), (2030, 7, true), (2029, 12, false), (2031, 1, true)]
        {
            for moment in ["01T00:00:00Z", "28T23:59:59Z"] {
                let now = Timestamp::parse(&format!("{year}-{month:02}-{moment}")).unwrap();
                assert_eq!(card.is_expired(now), is_expired, "{now}");
            }
        }
        let last_moment = Timestamp::parse("2030-06-30T23:59:59.999Z").unwrap();
        assert!(!card.is_expired(last_moment) && card.is_expired(Timestamp::from_millis(last_moment.as_millis() + 1)));
    }

    #[test]
    fn of_the_security_code_its_length_alone_is_told() {
        for cvc in ["123", "1234"] {
            assert_eq!(Card::new("4111111111111111", 6, 2030, cvc).unwrap().cvc_len(), cvc.len());
        }
        for cvc in ["12", "12345", ""] {
            assert_eq!(field_of("4111111111111111", 6, 2030, cvc), "cvc");
        }
    }
}
