//! What an access token says. The user service signs it, every service verifies it.
//!
//! The algorithm is pinned to EdDSA on both sides and never read from the token.

use serde::{Deserialize, Serialize};

/// The only issuer (`iss`) that verifiers accept.
pub const ISSUER: &str = "microcommerce";

/// The only audience (`aud`) that verifiers accept.
pub const AUDIENCE: &str = "microcommerce-api";

/// Life of an access token in seconds: short, because a stolen one works until it expires on any
/// process that has not heard of the revocation.
pub const ACCESS_TOKEN_LIFETIME_SECONDS: u64 = 15 * 60;

/// The payload of an access token. Times are whole seconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// User id (`usr_…`).
    pub sub: String,
    /// Role names: `customer`, `support`, `catalog_manager`, `admin`. Unknown names grant nothing.
    pub roles: Vec<String>,
    /// Session id (`ses_…`): revoking the session revokes every token that carries it.
    pub sid: String,
    /// Always [`ISSUER`].
    pub iss: String,
    /// Always [`AUDIENCE`].
    pub aud: String,
    /// The token is refused from this second on (plus a few seconds of clock skew).
    pub exp: u64,
    /// When the token was issued.
    pub iat: u64,
    /// Id of this one token, for the audit trail.
    pub jti: String,
}
