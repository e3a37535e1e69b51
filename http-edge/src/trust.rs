//! Whose tokens count, as the user service says: of this process, or of another.
//!
//! The verifier needs the user service's public key and the sessions that were revoked while their tokens still live. Both
//! are asked for when the process starts and, where the user service is another process, every [`RENEW_EVERY`], and by the
//! gateway at once after a sign-out, so that its answer is not out before the token is worthless. Until the key is known, a
//! request with a token is 503.

use std::time::Duration;

use contracts::claims::ACCESS_TOKEN_LIFETIME_SECONDS;
use contracts::{Service, Timestamp};
use tokio::time::Instant;

use crate::auth::LEEWAY_SECONDS;
use crate::error::ApiError;
use crate::questions::{TRUST, Trust, TrustQuestion};
use crate::shop::Shop;

pub use crate::auth::trust_log::TrustLog;

/// How often the user service is asked: so long may a session that was signed out through another gateway still be
/// honoured.
pub const RENEW_EVERY: Duration = Duration::from_secs(1);
/// How long the user service may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// How far back a question reaches beyond the last answer, in seconds: what was being written then is read now.
const OVERLAP_SECONDS: i64 = 5;

/// What the user service of this process says.
///
/// # Errors
/// 503 when it does not answer.
pub(crate) async fn said_here(shop: &Shop, since: Timestamp) -> Result<Trust, ApiError> {
    let (users, as_of) = (shop.users.get()?, Timestamp::now());
    let revoked = users.sessions_revoked_since(since).await?;
    Ok(Trust { public_key: *users.token_issuer().public_key().as_bytes(), revoked, as_of })
}

/// Asks the user service.
///
/// # Errors
/// 503 when it does not answer: what is known stays.
pub async fn renew(shop: &Shop) -> Result<(), ApiError> {
    let since = asked_since(Timestamp::now().as_seconds(), shop.trust.known_until().as_seconds());
    let trust = match shop.peer_for(Service::User) {
        None => said_here(shop, since).await?,
        Some(peers) => peers.ask(Service::User, TRUST, &TrustQuestion { since }, Instant::now() + PATIENCE).await?,
    };
    shop.verifier.set_public_key(&trust.public_key);
    for session in &trust.revoked {
        shop.verifier.revoke_session(session);
    }
    shop.trust.learned(trust.as_of);
    Ok(())
}

/// Since when revocations are asked for, when they are known until `known_until`: as far back as a token lives that is taken
/// now, which is its lifetime and the skew that is allowed for on both ends. In seconds.
fn asked_since(now: i64, known_until: i64) -> Timestamp {
    let oldest = now - (ACCESS_TOKEN_LIFETIME_SECONDS + 2 * LEEWAY_SECONDS).cast_signed();
    Timestamp::from_seconds(oldest.max(known_until - OVERLAP_SECONDS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_starts_is_told_of_every_session_whose_tokens_would_still_be_taken() {
        let revoked_at = 1_700_000_000;
        // Signed as the session ended, by a clock that is ahead: the last second that a verifier takes it, by its own.
        let taken_until = revoked_at + (ACCESS_TOKEN_LIFETIME_SECONDS + 2 * LEEWAY_SECONDS).cast_signed();
        assert!(asked_since(taken_until, 0).as_seconds() <= revoked_at);
        // Who has been told lately is told the rest, and what was being written then.
        assert_eq!(asked_since(revoked_at, revoked_at - 1).as_seconds(), revoked_at - 1 - OVERLAP_SECONDS);
        assert!(asked_since(taken_until, revoked_at - 100).as_seconds() <= revoked_at);
    }
}
