//! Who is asking: EdDSA access tokens, verified once and remembered until they expire.
//!
//! Verifying a signature and parsing claims costs tens of microseconds, a look into the cache about one.
//! The cache is keyed by the token's SHA-256, so it never holds a token. It only ever holds what was
//! verified: losing it loses nothing. Tokens of a revoked session are refused on this process from the
//! revocation on.

use std::sync::{PoisonError, RwLock};

use contracts::claims::{ACCESS_TOKEN_LIFETIME_SECONDS, AUDIENCE, Claims, ISSUER};
use contracts::{SessionId, Timestamp, UserId};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use sha2::{Digest, Sha256};
use warp::http::HeaderMap;
use warp::http::header::AUTHORIZATION;

use crate::error::{ApiError, RETRY_AFTER_SECONDS_DEFAULT};

mod expiring;
pub(crate) mod trust_log;

use expiring::Expiring;

/// Clock skew allowed between the issuer and a verifier, in seconds.
pub const LEEWAY_SECONDS: u64 = 5;

/// Longest token looked at, in bytes; ours have about 500.
pub const TOKEN_BYTES_MAX: usize = 4096;

/// Most verified tokens remembered: about 300 bytes each. A token beyond is verified every time.
pub const VERIFIED_TOKENS_MAX: usize = 20_000;

/// Most revoked sessions remembered, for as long as a token of theirs may live: about 200 bytes each.
pub const REVOKED_SESSIONS_MAX: usize = 100_000;

/// What a person may do beyond their own things.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Buys.
    Customer,
    /// Reads everything, cancels, refunds within a limit.
    Support,
    /// Writes the catalogue.
    CatalogManager,
    /// Everything.
    Admin,
}

impl Role {
    /// The name in tokens; `None` for an unknown one, which grants nothing.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "customer" => Some(Role::Customer),
            "support" => Some(Role::Support),
            "catalog_manager" => Some(Role::CatalogManager),
            "admin" => Some(Role::Admin),
            _ => None,
        }
    }

    /// The name in tokens.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Role::Customer => "customer",
            Role::Support => "support",
            Role::CatalogManager => "catalog_manager",
            Role::Admin => "admin",
        }
    }
}

/// A person whose token was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The user.
    pub user_id: UserId,
    /// The known roles in the token.
    pub roles: Vec<Role>,
    /// The login session that the token belongs to.
    pub session_id: SessionId,
    /// When the token expires, in seconds since the Unix epoch.
    pub expires_at: u64,
}

impl Principal {
    /// Whether the person has a role beyond a customer's.
    #[must_use]
    pub fn works_here(&self) -> bool {
        self.roles.iter().any(|role| *role != Role::Customer)
    }

    /// Whether the person has the role, or is an admin.
    #[must_use]
    pub fn has_role(&self, role: Role) -> bool {
        self.roles.iter().any(|own| *own == role || *own == Role::Admin)
    }
}

/// The signed-in person.
///
/// # Errors
/// 401 when nobody is signed in.
pub fn require_user(principal: Option<Principal>) -> Result<Principal, ApiError> {
    principal.ok_or_else(ApiError::authentication_required)
}

/// The signed-in person, if one of `roles` (or admin) is theirs.
///
/// # Errors
/// 401 when nobody is signed in, 403 without the role.
pub fn require_role(principal: Option<Principal>, roles: &[Role]) -> Result<Principal, ApiError> {
    let principal = require_user(principal)?;
    if roles.iter().any(|role| principal.has_role(*role)) {
        Ok(principal)
    } else {
        Err(ApiError::authorization_failed())
    }
}

/// Why a token was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Genuine, but its time is over.
    #[error("the token has expired")]
    Expired,
    /// Its session was revoked.
    #[error("the session of the token was revoked")]
    Revoked,
    /// Anything else: not a token, not ours, not for us, not yet valid.
    #[error("the token is not valid")]
    Invalid,
    /// The user service has not told its public key yet.
    #[error("the user service has not told its public key yet")]
    KeyUnknown,
}

impl From<TokenError> for ApiError {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Expired => ApiError::token_expired(),
            TokenError::Revoked | TokenError::Invalid => ApiError::authentication_required(),
            TokenError::KeyUnknown => ApiError::unavailable(RETRY_AFTER_SECONDS_DEFAULT).because(error),
        }
    }
}

/// The public key is not an Ed25519 key.
#[derive(Debug, thiserror::Error)]
#[error("the token key is not an Ed25519 public key")]
pub struct KeyError;

/// Verifies access tokens against one public key. Share it behind an `Arc`.
pub struct Verifier {
    /// Unknown until the user service has told it, where that is another process.
    key: RwLock<Option<PublicKey>>,
    validation: Validation,
    /// Digest of a token to what it says; an entry outlives its token by no more than a sweep.
    verified: Expiring<[u8; 32], Principal>,
    /// Sessions whose tokens are refused; an entry outlives every token of its session.
    revoked: Expiring<SessionId, ()>,
}

struct PublicKey {
    decoding: DecodingKey,
    /// What it was made from, to notice another.
    bytes: Option<[u8; 32]>,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier").finish_non_exhaustive()
    }
}

impl Verifier {
    /// From a public key in PEM (`-----BEGIN PUBLIC KEY-----`).
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        let decoding = DecodingKey::from_ed_pem(pem).map_err(|_| KeyError)?;
        Ok(Self::new(Some(PublicKey { decoding, bytes: None })))
    }

    /// From the 32 bytes of a public key.
    #[must_use]
    pub fn from_public_key(key: &[u8; 32]) -> Self {
        let verifier = Self::without_key();
        verifier.set_public_key(key);
        verifier
    }

    /// Of a process that does not know the public key yet: until it is set, tokens cannot be judged (503).
    #[must_use]
    pub fn without_key() -> Self {
        Self::new(None)
    }

    /// Judges by this key from now on. Another one than before makes every remembered token be verified again.
    pub fn set_public_key(&self, key: &[u8; 32]) {
        let mut place = self.key.write().unwrap_or_else(PoisonError::into_inner);
        if place.as_ref().is_some_and(|known| known.bytes.as_ref() == Some(key)) {
            return;
        }
        *place = Some(PublicKey { decoding: DecodingKey::from_ed_der(key), bytes: Some(*key) });
        self.verified.clear();
    }

    /// Whether tokens can be judged.
    #[must_use]
    pub fn knows_key(&self) -> bool {
        self.key.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn new(key: Option<PublicKey>) -> Self {
        Self::with_tables(key, VERIFIED_TOKENS_MAX, REVOKED_SESSIONS_MAX)
    }

    fn with_tables(key: Option<PublicKey>, verified_max: usize, revoked_max: usize) -> Self {
        // The algorithm is ours to say, never the token's.
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        validation.validate_nbf = true;
        validation.leeway = LEEWAY_SECONDS;
        Self {
            key: RwLock::new(key),
            validation,
            verified: Expiring::new(verified_max),
            revoked: Expiring::new(revoked_max),
        }
    }

    /// Who the headers say is asking; `None` without an `Authorization` header.
    ///
    /// # Errors
    /// 401 when there is a header and it is not one good bearer token.
    pub fn authenticate(&self, headers: &HeaderMap) -> Result<Option<Principal>, ApiError> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let value = match (values.next(), values.next()) {
            (None, _) => return Ok(None),
            (Some(value), None) => value.to_str().map_err(|_| TokenError::Invalid)?,
            (Some(_), Some(_)) => return Err(TokenError::Invalid.into()),
        };
        let (scheme, token) = value.split_once(' ').ok_or(TokenError::Invalid)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(TokenError::Invalid.into());
        }
        Ok(Some(self.verify(token.trim())?))
    }

    /// Verifies a token.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn verify(&self, token: &str) -> Result<Principal, TokenError> {
        self.verify_at(token, unix_now())
    }

    /// The signature and a fresh token's times are checked against the system clock, remembered ones and
    /// revocations against `now`.
    fn verify_at(&self, token: &str, now: u64) -> Result<Principal, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Invalid);
        }
        let digest: [u8; 32] = Sha256::digest(token).into();
        let principal = match self.verified.get(&digest) {
            Some(principal) => principal,
            None => {
                let principal = self.check(token)?;
                let until = principal.expires_at.saturating_add(LEEWAY_SECONDS);
                self.verified.insert(digest, principal.clone(), until, now);
                principal
            }
        };
        if self.revoked.get(&principal.session_id).is_some() {
            self.verified.remove(&digest);
            return Err(TokenError::Revoked);
        }
        if principal.expires_at.saturating_add(LEEWAY_SECONDS) < now {
            self.verified.remove(&digest);
            return Err(TokenError::Expired);
        }
        Ok(principal)
    }

    /// Signature, algorithm, required claims, issuer, audience, times, and our own ids.
    fn check(&self, token: &str) -> Result<Principal, TokenError> {
        let key = self.key.read().unwrap_or_else(PoisonError::into_inner);
        let key = key.as_ref().ok_or(TokenError::KeyUnknown)?;
        let claims: Claims = jsonwebtoken::decode(token, &key.decoding, &self.validation)
            .map_err(|error| match error.kind() {
                ErrorKind::ExpiredSignature => TokenError::Expired,
                _ => TokenError::Invalid,
            })?
            .claims;
        Ok(Principal {
            user_id: UserId::parse(&claims.sub).map_err(|_| TokenError::Invalid)?,
            session_id: SessionId::parse(&claims.sid).map_err(|_| TokenError::Invalid)?,
            roles: claims.roles.iter().filter_map(|name| Role::parse(name)).collect(),
            expires_at: claims.exp,
        })
    }

    /// Refuses the session's tokens from now on. Remembered for as long as one of them may live.
    pub fn revoke_session(&self, session: &SessionId) {
        self.revoke_session_at(session, unix_now());
    }

    fn revoke_session_at(&self, session: &SessionId, now: u64) {
        let until = now + ACCESS_TOKEN_LIFETIME_SECONDS + 2 * LEEWAY_SECONDS;
        if !self.revoked.insert(session.clone(), (), until, now) {
            tracing::error!(%session, "too many revoked sessions: this one's tokens live until they expire");
        }
    }
}

fn unix_now() -> u64 {
    u64::try_from(Timestamp::now().as_seconds()).unwrap_or(0)
}

#[cfg(test)]
mod tests;
