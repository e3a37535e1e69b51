//! What somebody has who has signed in.

use contracts::SessionId;

use crate::{profile::Profile, refresh_token::RefreshToken};

/// A pair of tokens, and whose they are.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// The access token, a JWT.
    pub access_token: String,
    /// How long it is good, in seconds.
    pub expires_in_seconds: u64,
    /// The refresh token: good once.
    pub refresh_token: RefreshToken,
    /// The session that both belong to.
    pub session_id: SessionId,
}

/// Somebody who has just signed in, or registered.
#[derive(Clone, Debug)]
pub struct SignedIn {
    /// Who.
    pub profile: Profile,
    /// Their tokens.
    pub tokens: Tokens,
}
