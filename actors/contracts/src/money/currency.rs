//! ISO 4217 currencies and how many decimals each has.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Circulating currencies of ISO 4217, sorted. Funds, metals and test codes are not money a shop takes.
const CODES: [&str; 155] = [
    "AED", "AFN", "ALL", "AMD", "AOA", "ARS", "AUD", "AWG", "AZN", "BAM", "BBD", "BDT", "BHD", "BIF", "BMD", "BND",
    "BOB", "BRL", "BSD", "BTN", "BWP", "BYN", "BZD", "CAD", "CDF", "CHF", "CLP", "CNY", "COP", "CRC", "CUP", "CVE",
    "CZK", "DJF", "DKK", "DOP", "DZD", "EGP", "ERN", "ETB", "EUR", "FJD", "FKP", "GBP", "GEL", "GHS", "GIP", "GMD",
    "GNF", "GTQ", "GYD", "HKD", "HNL", "HTG", "HUF", "IDR", "ILS", "INR", "IQD", "IRR", "ISK", "JMD", "JOD", "JPY",
    "KES", "KGS", "KHR", "KMF", "KPW", "KRW", "KWD", "KYD", "KZT", "LAK", "LBP", "LKR", "LRD", "LSL", "LYD", "MAD",
    "MDL", "MGA", "MKD", "MMK", "MNT", "MOP", "MRU", "MUR", "MVR", "MWK", "MXN", "MYR", "MZN", "NAD", "NGN", "NIO",
    "NOK", "NPR", "NZD", "OMR", "PAB", "PEN", "PGK", "PHP", "PKR", "PLN", "PYG", "QAR", "RON", "RSD", "RUB", "RWF",
    "SAR", "SBD", "SCR", "SDG", "SEK", "SGD", "SHP", "SLE", "SOS", "SRD", "SSP", "STN", "SVC", "SYP", "SZL", "THB",
    "TJS", "TMT", "TND", "TOP", "TRY", "TTD", "TWD", "TZS", "UAH", "UGX", "USD", "UYU", "UZS", "VED", "VES", "VND",
    "VUV", "WST", "XAF", "XCD", "XCG", "XOF", "XPF", "YER", "ZAR", "ZMW", "ZWG",
];

/// A currency of ISO 4217 by its three letters: `USD`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

/// The text is not an accepted code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be an ISO 4217 currency code such as USD")]
pub struct CurrencyError;

impl Currency {
    /// United States dollar, the default of the HTTP API.
    pub const USD: Currency = Currency(*b"USD");
    /// Euro.
    pub const EUR: Currency = Currency(*b"EUR");
    /// Japanese yen: no decimals.
    pub const JPY: Currency = Currency(*b"JPY");
    /// Kuwaiti dinar: three decimals.
    pub const KWD: Currency = Currency(*b"KWD");

    /// Reads three uppercase letters.
    ///
    /// # Errors
    /// [`CurrencyError`] when no circulating currency has this code.
    pub fn parse(code: &str) -> Result<Self, CurrencyError> {
        CODES.binary_search(&code).map_err(|_| CurrencyError)?;
        code.as_bytes().try_into().map(Self).map_err(|_| CurrencyError)
    }

    /// The three letters.
    #[must_use]
    pub fn code(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a code is three ASCII letters")
    }

    /// Decimals of the currency as ISO 4217 gives them: 10^exponent minor units make one unit.
    #[must_use]
    pub const fn exponent(self) -> u32 {
        match &self.0 {
            b"BIF" | b"CLP" | b"DJF" | b"GNF" | b"ISK" | b"JPY" | b"KMF" | b"KRW" | b"PYG" | b"RWF" | b"UGX"
            | b"VND" | b"VUV" | b"XAF" | b"XOF" | b"XPF" => 0,
            b"BHD" | b"IQD" | b"JOD" | b"KWD" | b"LYD" | b"OMR" | b"TND" => 3,
            _ => 2,
        }
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl std::str::FromStr for Currency {
    type Err = CurrencyError;

    fn from_str(code: &str) -> Result<Self, CurrencyError> {
        Self::parse(code)
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Code;
        impl de::Visitor<'_> for Code {
            type Value = Currency;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an ISO 4217 currency code")
            }

            fn visit_str<E: de::Error>(self, code: &str) -> Result<Currency, E> {
                Currency::parse(code).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_without_repeats_and_all_three_letters() {
        assert!(CODES.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(CODES.iter().all(|code| code.len() == 3 && code.bytes().all(|b| b.is_ascii_uppercase())));
        assert!(CODES.iter().all(|code| Currency::parse(code).unwrap().code() == *code));
    }

    #[test]
    fn exponents_are_those_of_the_contract() {
        let exponent = |code| Currency::parse(code).unwrap().exponent();
        assert!(["JPY", "KRW", "VND"].into_iter().all(|code| exponent(code) == 0));
        assert!(["BHD", "KWD", "OMR", "JOD", "TND"].into_iter().all(|code| exponent(code) == 3));
        assert!(["USD", "EUR", "GBP", "CHF", "INR"].into_iter().all(|code| exponent(code) == 2));
    }

    #[test]
    fn other_texts_are_refused() {
        for code in ["", "US", "usd", "USDX", "XXX", "XAU", "ÄBC", "US\0"] {
            assert_eq!(Currency::parse(code), Err(CurrencyError), "{code:?}");
        }
        assert!(serde_json::from_str::<Currency>("\"usd\"").is_err());
        let not_a_text = serde_json::from_str::<Currency>("7").unwrap_err().to_string();
        assert!(not_a_text.contains("an ISO 4217 currency code"), "{not_a_text}");
        assert_eq!(serde_json::from_str::<Currency>("\"USD\"").unwrap(), Currency::USD);
    }
}
