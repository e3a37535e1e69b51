//! What the texts of a registration and of a change of profile must be. All errors are collected, not only the first.
//!
//! Lengths are in characters. Whether a password is a common one takes longer to say: [`crate::password`] does, before.

use serde::Deserialize;

use crate::{
    email::Email,
    password::Password,
    profile::{AddressPatch, Change, ProfilePatch},
};

/// The longest name.
pub const NAME_CHARACTERS_MAX: usize = 100;
/// The longest telephone number.
pub const PHONE_CHARACTERS_MAX: usize = 32;
/// The longest street.
pub const STREET_CHARACTERS_MAX: usize = 200;
/// The longest city, state or country.
pub const PLACE_CHARACTERS_MAX: usize = 100;
/// The longest postal code.
pub const ZIP_CHARACTERS_MAX: usize = 20;

/// One field that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Which, as in the request: `email`, `address.zip`.
    pub field: &'static str,
    /// Why, in words for a client.
    pub reason: String,
}

/// What somebody who registers says of themselves, as it came in. What is missing is empty, and refused as such.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Registration {
    /// E-mail address.
    pub email: String,
    /// Password.
    pub password: Password,
    /// Given name.
    pub first_name: String,
    /// Family name.
    pub last_name: String,
    /// Telephone number.
    pub phone: Option<String>,
}

/// A registration in which every field is as it must be.
#[derive(Clone, Debug)]
pub struct ValidRegistration {
    pub(crate) email: Email,
    pub(crate) password: Password,
    pub(crate) first_name: String,
    pub(crate) last_name: String,
    pub(crate) phone: Option<String>,
}

impl Registration {
    /// What others know about whoever registers, for a look at their password.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        words_about(&self.email, &self.first_name, &self.last_name)
    }

    /// Checks and normalises every field; `password_fault` is what is wrong with the password.
    ///
    /// # Errors
    /// All that is wrong, in the order of the fields.
    pub fn validate(self, password_fault: Option<String>) -> Result<ValidRegistration, Vec<FieldError>> {
        let mut errors = Errors::default();
        let email = errors.unless_ok("email", Email::parse(&self.email));
        if let Some(reason) = password_fault {
            errors.add("password", reason);
        }
        let first_name = errors.text("first_name", &self.first_name, 1, NAME_CHARACTERS_MAX);
        let last_name = errors.text("last_name", &self.last_name, 1, NAME_CHARACTERS_MAX);
        let phone = self.phone.map(|phone| errors.text("phone", &phone, 0, PHONE_CHARACTERS_MAX));
        match email {
            Some(email) if errors.0.is_empty() => Ok(ValidRegistration {
                email,
                password: self.password,
                first_name,
                last_name,
                phone: phone.filter(|phone| !phone.is_empty()),
            }),
            _ => Err(errors.0),
        }
    }
}

impl ProfilePatch {
    /// Checks and trims every member.
    ///
    /// # Errors
    /// All that is wrong, in the order of the members.
    pub fn validate(self) -> Result<Self, Vec<FieldError>> {
        let mut errors = Errors::default();
        let valid = Self {
            first_name: errors.name("first_name", self.first_name),
            last_name: errors.name("last_name", self.last_name),
            phone: errors.optional("phone", self.phone, PHONE_CHARACTERS_MAX),
            address: match self.address {
                Change::Set(address) => Change::Set(AddressPatch {
                    street: errors.optional("address.street", address.street, STREET_CHARACTERS_MAX),
                    city: errors.optional("address.city", address.city, PLACE_CHARACTERS_MAX),
                    state: errors.optional("address.state", address.state, PLACE_CHARACTERS_MAX),
                    zip: errors.optional("address.zip", address.zip, ZIP_CHARACTERS_MAX),
                    country: errors.optional("address.country", address.country, PLACE_CHARACTERS_MAX),
                }),
                keep_or_remove => keep_or_remove,
            },
        };
        if errors.0.is_empty() { Ok(valid) } else { Err(errors.0) }
    }
}

/// An address, the name in it, and names, as words that a password may not be made of. Long ones are none.
pub(crate) fn words_about(email: &str, first_name: &str, last_name: &str) -> Vec<String> {
    let local = email.split('@').next().unwrap_or_default();
    let words = [email, local, first_name, last_name].into_iter();
    words.map(str::trim).filter(|word| word.chars().count() <= NAME_CHARACTERS_MAX).map(str::to_owned).collect()
}

#[derive(Default)]
struct Errors(Vec<FieldError>);

impl Errors {
    fn add(&mut self, field: &'static str, reason: impl Into<String>) {
        self.0.push(FieldError { field, reason: reason.into() });
    }

    fn unless_ok<T, E: ToString>(&mut self, field: &'static str, outcome: Result<T, E>) -> Option<T> {
        outcome.map_err(|error| self.add(field, error.to_string())).ok()
    }

    /// The trimmed text; what is wrong with it is noted.
    fn text(&mut self, field: &'static str, text: &str, characters_min: usize, characters_max: usize) -> String {
        let text = text.trim();
        let characters = text.chars().count();
        if characters < characters_min {
            self.add(field, "is required");
        } else if characters > characters_max {
            self.add(field, format!("must have at most {characters_max} characters"));
        } else if text.chars().any(char::is_control) {
            self.add(field, "must not have control characters");
        }
        text.to_owned()
    }

    fn name(&mut self, field: &'static str, change: Change<String>) -> Change<String> {
        match change {
            Change::Keep => Change::Keep,
            Change::Remove => {
                self.add(field, "cannot be removed");
                Change::Remove
            }
            Change::Set(text) => Change::Set(self.text(field, &text, 1, NAME_CHARACTERS_MAX)),
        }
    }

    /// An empty text is no text.
    fn optional(&mut self, field: &'static str, change: Change<String>, characters_max: usize) -> Change<String> {
        match change {
            Change::Set(text) => match self.text(field, &text, 0, characters_max) {
                text if text.is_empty() => Change::Remove,
                text => Change::Set(text),
            },
            keep_or_remove => keep_or_remove,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(errors: &[FieldError]) -> Vec<&'static str> {
        errors.iter().map(|error| error.field).collect()
    }

    #[test]
    fn all_faults_of_a_registration_are_told_at_once() {
        let validate = |registration: Registration| {
            let fault = registration.password.fault_of_length();
            registration.validate(fault)
        };
        let errors = validate(Registration::default()).unwrap_err();
        assert_eq!(fields(&errors), ["email", "password", "first_name", "last_name"]);
        assert!(errors.iter().all(|error| error.reason == "is required"));

        let wrong: Registration = serde_json::from_str(&format!(
            r#"{{"email":"nobody","password":"short","first_name":"a\u0000b","last_name":"{}","phone":"{}"}}"#,
            "x".repeat(101),
            "1".repeat(33),
        ))
        .unwrap();
        let errors = validate(wrong).unwrap_err();
        assert_eq!(fields(&errors), ["email", "password", "first_name", "last_name", "phone"]);
        assert_eq!(errors[0].reason, "Invalid email format");
    }

    #[test]
    fn a_valid_registration_is_trimmed() {
        let registration = Registration {
            email: " Ann@Example.com".into(),
            password: Password::new("  keeps its spaces  "),
            first_name: " Ann ".into(),
            last_name: "B".into(),
            phone: Some("  ".into()),
        };
        let valid = registration.validate(None).unwrap();
        assert_eq!((valid.email.as_str(), valid.first_name.as_str()), ("ann@example.com", "Ann"));
        assert_eq!(valid.password.as_str(), "  keeps its spaces  ");
        assert_eq!(valid.phone, None);
    }

    #[test]
    fn a_patch_cannot_remove_a_name_and_an_empty_text_removes_the_rest() {
        let patch: ProfilePatch = serde_json::from_str(
            r#"{"first_name":null,"last_name":" ","phone":"","address":{"zip":"123456789012345678901"}}"#,
        )
        .unwrap();
        assert_eq!(fields(&patch.validate().unwrap_err()), ["first_name", "last_name", "address.zip"]);
        let patch = ProfilePatch { phone: Change::Set(" ".into()), ..ProfilePatch::default() };
        assert_eq!(patch.validate().unwrap().phone, Change::Remove);
    }
}
