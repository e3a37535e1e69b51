//! Reading the fields of a JSON object: every rule checked, every broken one reported with its field's path.
//!
//! ```
//! use http_edge::fields;
//!
//! struct Line { sku: String, quantity: i64 }
//!
//! let body = br#"{"items":[{"sku":"sku_1","quantity":0}]}"#;
//! let lines = fields::read(body, |order| {
//!     order.list("items", 1..=100, |line| Line {
//!         sku: line.text("sku", 1..=64),
//!         quantity: line.integer("quantity", 1..=10_000),
//!     })
//! });
//! assert!(lines.is_err()); // 422, details.field = "items[0].quantity"
//! ```
//!
//! A getter that finds its rule broken notes it and returns a stand-in; the values leave [`read`] only when
//! no rule was broken, so a stand-in is never used. Unknown fields are ignored; `null` is as good as absent.
//! Values stay text until their getter reads them: an amount never becomes a float.

use std::collections::HashMap;
use std::fmt;
use std::ops::RangeInclusive;

use contracts::{Currency, Money};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::body::parse_json;
use crate::error::{ApiError, Invalid};

/// Reads the object in `body` with `build`.
///
/// # Errors
/// 400 when `body` is not a JSON object or names a field twice; 422 with all broken rules.
pub fn read<T>(body: &[u8], build: impl FnOnce(&mut Fields<'_>) -> T) -> Result<T, ApiError> {
    let raw: &RawValue = parse_json(body)?;
    let values = object(raw).map_err(ApiError::malformed)?;
    let mut fields = Fields { values, path: String::new(), invalid: Invalid::default() };
    let built = build(&mut fields);
    fields.invalid.finish()?;
    Ok(built)
}

/// The fields of one object, and the rules that they broke so far.
#[derive(Debug)]
pub struct Fields<'a> {
    values: HashMap<String, &'a RawValue>,
    /// What stands before a name in error paths: empty, `address.`, `items[0].`.
    path: String,
    invalid: Invalid,
}

impl<'a> Fields<'a> {
    /// Notes a broken rule: for rules that no getter knows.
    pub fn refuse(&mut self, name: &str, reason: impl fmt::Display) {
        self.invalid.add(format!("{}{name}", self.path), reason);
    }

    /// Whether the field is there and not `null`.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.raw(name).is_some()
    }

    /// The field's JSON text, when it is there and not `null`.
    #[must_use]
    pub fn raw(&self, name: &str) -> Option<&'a RawValue> {
        self.values.get(name).copied().filter(|raw| raw.get() != "null")
    }

    /// A text with a number of characters in `length`; control characters other than line ends and tabs are
    /// refused.
    pub fn text(&mut self, name: &str, length: RangeInclusive<usize>) -> String {
        self.required(name, |fields| fields.optional_text(name, length)).unwrap_or_default()
    }

    /// As [`Fields::text`], `None` when absent.
    pub fn optional_text(&mut self, name: &str, length: RangeInclusive<usize>) -> Option<String> {
        let text = self.typed::<String>(name, "must be a string")?;
        self.checked(name, check_text(&text, &length)).map(|()| text)
    }

    /// A text that `T` parses, an id for example; its error is the reason.
    pub fn parsed<T>(&mut self, name: &str) -> Option<T>
    where
        T: std::str::FromStr<Err: fmt::Display>,
    {
        self.required(name, |fields| fields.optional_parsed(name))
    }

    /// As [`Fields::parsed`], without complaint when absent.
    pub fn optional_parsed<T>(&mut self, name: &str) -> Option<T>
    where
        T: std::str::FromStr<Err: fmt::Display>,
    {
        let text = self.typed::<String>(name, "must be a string")?;
        self.checked(name, text.parse())
    }

    /// An integer in `range`; `1.0` and `"1"` are not integers.
    pub fn integer(&mut self, name: &str, range: RangeInclusive<i64>) -> i64 {
        let stand_in = *range.start();
        self.required(name, |fields| fields.optional_integer(name, range)).unwrap_or(stand_in)
    }

    /// As [`Fields::integer`], `None` when absent.
    pub fn optional_integer(&mut self, name: &str, range: RangeInclusive<i64>) -> Option<i64> {
        let value = self.typed::<i64>(name, "must be an integer")?;
        if range.contains(&value) {
            return Some(value);
        }
        let (least, most) = range.into_inner();
        self.refuse(name, format_args!("must be from {least} to {most}"));
        None
    }

    /// `true` or `false`, `None` when absent.
    pub fn optional_flag(&mut self, name: &str) -> Option<bool> {
        self.typed::<bool>(name, "must be true or false")
    }

    /// A currency code, or `default` when absent.
    pub fn currency(&mut self, name: &str, default: Currency) -> Currency {
        self.optional_parsed(name).unwrap_or(default)
    }

    /// An amount of `currency`, as a number or a string, exact. Any sign: limits are the caller's.
    pub fn money(&mut self, name: &str, currency: Currency) -> Money {
        self.required(name, |fields| fields.optional_money(name, currency)).unwrap_or(Money::zero(currency))
    }

    /// As [`Fields::money`], `None` when absent.
    pub fn optional_money(&mut self, name: &str, currency: Currency) -> Option<Money> {
        let raw = self.raw(name)?;
        self.checked(name, Money::parse_json(raw.get(), currency))
    }

    /// An object; `None` when it is absent or not an object, which is noted.
    pub fn object<T>(&mut self, name: &str, build: impl FnOnce(&mut Fields<'a>) -> T) -> Option<T> {
        self.required(name, |fields| fields.optional_object(name, build))
    }

    /// As [`Fields::object`], without complaint when absent.
    pub fn optional_object<T>(&mut self, name: &str, build: impl FnOnce(&mut Fields<'a>) -> T) -> Option<T> {
        let raw = self.raw(name)?;
        self.nested(name, raw, build)
    }

    /// A list of objects with a number of elements in `count`. A longer list is not read.
    pub fn list<T>(
        &mut self,
        name: &str,
        count: RangeInclusive<usize>,
        mut build: impl FnMut(&mut Fields<'a>) -> T,
    ) -> Vec<T> {
        let elements = self.required(name, |fields| fields.elements(name, &count));
        let mut built = Vec::new();
        for (index, raw) in elements.unwrap_or_default().into_iter().enumerate() {
            built.extend(self.nested(&format!("{name}[{index}]"), raw, &mut build));
        }
        built
    }

    /// A list of texts, empty when absent; each as in [`Fields::text`].
    pub fn texts(&mut self, name: &str, count: RangeInclusive<usize>, length: RangeInclusive<usize>) -> Vec<String> {
        let mut texts = Vec::new();
        for (index, raw) in self.elements(name, &count).unwrap_or_default().into_iter().enumerate() {
            let name = format!("{name}[{index}]");
            match serde_json::from_str::<String>(raw.get()) {
                Ok(text) => {
                    texts.extend(self.checked(&name, check_text(&text, &length)).map(|()| text));
                }
                Err(_) => self.refuse(&name, "must be a string"),
            }
        }
        texts
    }

    /// Notes "is required" when the field is absent, and only then asks no further.
    fn required<T>(&mut self, name: &str, get: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        if !self.has(name) {
            self.refuse(name, "is required");
            return None;
        }
        get(self)
    }

    fn typed<T: Deserialize<'a>>(&mut self, name: &str, reason: &str) -> Option<T> {
        let raw = self.raw(name)?;
        self.checked(name, serde_json::from_str(raw.get()).map_err(|_| reason))
    }

    fn checked<T, E: fmt::Display>(&mut self, name: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|reason| self.refuse(name, reason)).ok()
    }

    fn elements(&mut self, name: &str, count: &RangeInclusive<usize>) -> Option<Vec<&'a RawValue>> {
        let elements: Vec<&'a RawValue> = self.typed(name, "must be a list")?;
        if count.contains(&elements.len()) {
            return Some(elements);
        }
        let (least, most) = (count.start(), count.end());
        self.refuse(name, format_args!("must have {least} to {most} elements"));
        None
    }

    fn nested<T>(&mut self, name: &str, raw: &'a RawValue, build: impl FnOnce(&mut Fields<'a>) -> T) -> Option<T> {
        let values = self.checked(name, object(raw))?;
        let path = format!("{}{name}.", self.path);
        let mut fields = Fields { values, path, invalid: Invalid::default() };
        let built = build(&mut fields);
        self.invalid.append(fields.invalid);
        Some(built)
    }
}

fn check_text(text: &str, length: &RangeInclusive<usize>) -> Result<(), String> {
    let is_refused = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
    if text.chars().any(is_refused) {
        return Err("must not have control characters".to_owned());
    }
    match text.chars().count() {
        characters if length.contains(&characters) => Ok(()),
        0 => Err("must not be empty".to_owned()),
        _ => Err(format!("must have {} to {} characters", length.start(), length.end())),
    }
}

/// Splits an object into its fields without reading their values.
fn object(raw: &RawValue) -> Result<HashMap<String, &RawValue>, String> {
    if !raw.get().starts_with('{') {
        return Err("must be a JSON object".to_owned());
    }
    serde_json::from_str::<Unique<'_>>(raw.get())
        .map(|unique| unique.0)
        // The text is valid JSON and an object: only a repeated name is left.
        .map_err(|_| "must not name a field twice".to_owned())
}

/// An object whose names do not repeat: which of two values counts must not depend on who reads it.
struct Unique<'a>(HashMap<String, &'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Unique<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = HashMap<String, &'de RawValue>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut values = HashMap::new();
                while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
                    if values.insert(name, value).is_some() {
                        return Err(serde::de::Error::custom("repeated name"));
                    }
                }
                Ok(values)
            }
        }
        deserializer.deserialize_map(Names).map(Unique)
    }
}

#[cfg(test)]
mod tests;
