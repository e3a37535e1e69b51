//! Refresh tokens: `ref_`, 26 characters that name the session, 43 characters of secret.
//!
//! The secret is 256 bits in base64url. The session's name is no secret (access tokens carry it): it is there so that the
//! session is found without a table of tokens. At rest there is only the SHA-256 of the whole text; a digest without salt
//! is enough, for nobody guesses 256 bits.

use std::fmt;

use contracts::SessionId;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};

use crate::hex;

const PREFIX: &str = "ref_";
/// A ULID.
const SESSION_LEN: usize = 26;
/// 256 bits in base64url without padding.
const SECRET_LEN: usize = 43;

/// A refresh token. Its `Debug` text hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct RefreshToken {
    text: String,
    session_id: SessionId,
}

impl RefreshToken {
    /// Puts a token together; `None` where the parts have not the right lengths.
    #[must_use]
    pub fn new(session_id: &SessionId, secret: &str) -> Option<Self> {
        let session = session_id.as_str().strip_prefix(SessionId::PREFIX)?;
        Self::parse(&format!("{PREFIX}{session}{secret}"))
    }

    /// Reads what a client sent; `None` where it is no refresh token at all.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (session, secret) = text.strip_prefix(PREFIX)?.split_at_checked(SESSION_LEN)?;
        if secret.len() != SECRET_LEN {
            return None;
        }
        let session_id = SessionId::parse(&format!("{}{session}", SessionId::PREFIX)).ok()?;
        Some(Self { text: text.to_owned(), session_id })
    }

    /// The session that it names.
    #[must_use]
    pub fn session_id(&self) -> &SessionId {
        &self.session_id
    }

    /// The whole text: for its owner alone.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What is kept of it.
    #[must_use]
    pub fn hash(&self) -> TokenHash {
        TokenHash::of(&self.text)
    }
}

impl fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RefreshToken(of {})", self.session_id)
    }
}

/// The SHA-256 of a refresh token. Written as 64 hexadecimal characters.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// The digest of a token's text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        Self(Sha256::digest(text.as_bytes()).into())
    }

    /// Its first 128 bits.
    #[must_use]
    pub fn prefix(&self) -> u128 {
        let mut first = [0; 16];
        first.copy_from_slice(&self.0[..16]);
        u128::from_be_bytes(first)
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenHash({})", hex::encode(&self.0))
    }
}

impl Serialize for TokenHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for TokenHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        hex::decode(&text).map(Self).ok_or_else(|| de::Error::custom("64 hexadecimal characters are expected"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_token_names_its_session_and_hides_itself() {
        let session_id = SessionId::generate();
        let token = RefreshToken::new(&session_id, &"s".repeat(SECRET_LEN)).unwrap();
        assert_eq!(RefreshToken::parse(token.as_str()), Some(token.clone()));
        assert_eq!(token.session_id(), &session_id);
        assert!(!format!("{token:?}").contains("sss"));
    }

    #[test]
    fn a_hash_reads_back_from_its_text() {
        let hash = TokenHash::of("x");
        let json = serde_json::to_string(&hash).unwrap();
        assert_eq!(json.len(), 66);
        assert_eq!(serde_json::from_str::<TokenHash>(&json).unwrap(), hash);
        for wrong in ["\"\"", "\"zz\"", "7"] {
            assert!(serde_json::from_str::<TokenHash>(wrong).is_err());
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "(ref_)?.*") {
            let _ = RefreshToken::parse(&text);
        }
    }
}
