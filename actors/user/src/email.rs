//! An e-mail address in the one form that is compared: trimmed and in lower case.
//!
//! The local part is lowered too: no provider that matters tells `Ann@` from `ann@`, and two accounts that look the same
//! to their owners are a trap. Addresses beyond ASCII are refused: their equality has no simple rule.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::hex;

/// The longest address, in bytes (RFC 5321, §4.5.3.1.3, less the angle brackets).
pub const EMAIL_LEN_MAX: usize = 254;
/// The longest local part, in bytes (RFC 5321, §4.5.3.1.1).
const LOCAL_LEN_MAX: usize = 64;
/// The longest label of a domain, in bytes (RFC 1035, §2.3.4).
const LABEL_LEN_MAX: usize = 63;

/// A well-formed, normalised e-mail address. Its `Debug` text hides it: addresses do not belong in logs.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Email(Arc<str>);

/// Why a text is no e-mail address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EmailError {
    /// Nothing is there.
    #[error("is required")]
    Missing,
    /// It has not the form `local@domain.tld`.
    #[error("Invalid email format")]
    Form,
    /// It is longer than [`EMAIL_LEN_MAX`].
    #[error("must have at most 254 characters")]
    TooLong,
}

impl Email {
    /// Reads and normalises an address.
    ///
    /// # Errors
    /// [`EmailError`]; its text suits a client.
    pub fn parse(text: &str) -> Result<Self, EmailError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(EmailError::Missing);
        }
        if text.len() > EMAIL_LEN_MAX {
            return Err(EmailError::TooLong);
        }
        let (local, domain) = text.rsplit_once('@').ok_or(EmailError::Form)?;
        if !is_local_part(local) || !is_domain(domain) {
            return Err(EmailError::Form);
        }
        Ok(Self(text.to_ascii_lowercase().into()))
    }

    /// The normalised address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The address's SHA-256 in hexadecimal: the name of its claim, which tells nobody the address.
    #[must_use]
    pub fn digest(&self) -> String {
        hex::encode(&Sha256::digest(self.0.as_bytes()))
    }
}

impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Email(hidden)")
    }
}

fn is_local_part(text: &str) -> bool {
    let is_atom_character = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte);
    text.len() <= LOCAL_LEN_MAX && text.split('.').all(|atom| !atom.is_empty() && atom.bytes().all(is_atom_character))
}

fn is_domain(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=LABEL_LEN_MAX).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.contains('.') && text.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_that_differ_in_case_and_space_are_one() {
        let email = Email::parse("  Test.User+tag@Example.COM ").unwrap();
        assert_eq!(email.as_str(), "test.user+tag@example.com");
        assert_eq!(email, Email::parse("test.user+tag@example.com").unwrap());
        assert_eq!(email.digest().len(), 64);
        assert!(!format!("{email:?}").contains("test"));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        assert_eq!(Email::parse(" "), Err(EmailError::Missing));
        let wrong = [
            "a",
            "@",
            "a@",
            "@b.c",
            "a@b",
            "a@b.",
            "a@.b",
            "a b@c.de",
            "a@b c.de",
            "a@@b.de",
            "a@b@c.de",
            ".a@b.de",
            "a.@b.de",
            "a..b@c.de",
            "a@-b.de",
            "a@b-.de",
            "ä@b.de",
            "a@ä.de",
            "a\n@b.de",
            "a@b.de\0",
            "a@b.de,c@d.de",
            "<a@b.de>",
        ];
        for text in wrong {
            assert_eq!(Email::parse(text), Err(EmailError::Form), "{text:?}");
        }
        assert_eq!(Email::parse(&format!("{}@b.de", "x".repeat(65))), Err(EmailError::Form));
        assert_eq!(Email::parse(&format!("a@{}.de", "x".repeat(300))), Err(EmailError::TooLong));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic_and_normalising_again_changes_nothing(text in ".*") {
            if let Ok(email) = Email::parse(&text) {
                prop_assert_eq!(Email::parse(email.as_str()), Ok(email.clone()));
            }
        }
    }
}
