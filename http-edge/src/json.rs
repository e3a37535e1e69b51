//! A JSON object written field by field, in the order of the calls, with money exact.
//!
//! `#[serde(flatten)]` and `serde_json::Value` turn `10.00` into the float `10.0`; this does not.

use contracts::Money;
use serde::ser::Error as _;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

/// An object under construction; serialise it, or nest it in another with [`Object::field`].
///
/// ```
/// # use contracts::{Currency, Money};
/// # use http_edge::json::Object;
/// let total = Money::from_minor(9999, Currency::USD).unwrap();
/// let json = Object::new().field("order_id", "ord_1").amount("total", total).currency(total).to_json();
/// assert_eq!(json.unwrap(), r#"{"order_id":"ord_1","total":99.99,"total_minor":9999,"currency":"USD"}"#);
/// ```
#[derive(Debug, Default)]
pub struct Object {
    /// The fields so far, without the braces.
    text: Vec<u8>,
    /// The first failure; reported when the object is used.
    failure: Option<serde_json::Error>,
}

impl Object {
    /// `{}`.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a field.
    #[must_use]
    pub fn field(mut self, name: &str, value: &(impl Serialize + ?Sized)) -> Self {
        if !self.text.is_empty() {
            self.text.push(b',');
        }
        let written = serde_json::to_writer(&mut self.text, name).and_then(|()| {
            self.text.push(b':');
            serde_json::to_writer(&mut self.text, value)
        });
        if let Err(error) = written {
            self.failure.get_or_insert(error);
        }
        self
    }

    /// Adds a field unless the value is `None`.
    #[must_use]
    pub fn optional(self, name: &str, value: Option<&(impl Serialize + ?Sized)>) -> Self {
        match value {
            Some(value) => self.field(name, value),
            None => self,
        }
    }

    /// Adds `"name":99.99,"name_minor":9999`.
    #[must_use]
    pub fn amount(self, name: &str, money: Money) -> Self {
        self.field(name, &money.to_decimal()).field(&format!("{name}_minor"), &money.minor())
    }

    /// Adds `"currency":"USD"`.
    #[must_use]
    pub fn currency(self, money: Money) -> Self {
        self.field("currency", &money.currency())
    }

    /// The text of the object.
    ///
    /// # Errors
    /// When a field's value has no JSON.
    pub fn to_json(self) -> Result<String, serde_json::Error> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        let fields = String::from_utf8(self.text).map_err(serde_json::Error::custom)?;
        Ok(format!("{{{fields}}}"))
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Some(failure) = &self.failure {
            return Err(S::Error::custom(failure));
        }
        let fields = std::str::from_utf8(&self.text).map_err(S::Error::custom)?;
        let object = RawValue::from_string(format!("{{{fields}}}")).map_err(S::Error::custom)?;
        object.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::Currency;

    #[test]
    fn amounts_keep_scale_and_order_also_when_nested() {
        let price = Money::from_minor(1000, Currency::USD).unwrap();
        let line = Object::new().field("sku", "sku_1").amount("unit_price", price);
        let order = Object::new().field("items", &[line]).amount("total", price).currency(price);
        assert_eq!(
            serde_json::to_string(&order).unwrap(),
            r#"{"items":[{"sku":"sku_1","unit_price":10.00,"unit_price_minor":1000}],"total":10.00,"total_minor":1000,"currency":"USD"}"#
        );
    }

    #[test]
    fn names_and_values_are_escaped() {
        let object = Object::new().field("a\"b", "c\nd").optional("none", None::<&str>);
        assert_eq!(object.to_json().unwrap(), r#"{"a\"b":"c\nd"}"#);
        assert_eq!(Object::new().to_json().unwrap(), "{}");
    }

    #[test]
    fn a_value_without_json_fails_the_object() {
        let pairs = std::collections::HashMap::from([((1, 2), 3)]);
        assert!(Object::new().field("pairs", &pairs).to_json().is_err());
        assert!(serde_json::to_string(&Object::new().field("pairs", &pairs)).is_err());
    }
}
