//! Whose tokens count, where the user service is another process.
//!
//! The verifier needs the user service's public key and the sessions that were revoked while their tokens still live. Both
//! are asked for when the process starts, every [`RENEW_EVERY`], and by the gateway at once after a sign-out, so that its
//! answer is not out before the token is worthless. Until the key is known, a request with a token is 503.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use contracts::claims::ACCESS_TOKEN_LIFETIME_SECONDS;
use contracts::{Service, Timestamp};
use tokio::time::Instant;

use crate::error::ApiError;
use crate::internal::{TRUST, Trust, TrustQuestion};
use crate::shop::Shop;

/// How often the user service is asked: so long may a session that was signed out through another gateway still be
/// honoured.
pub const RENEW_EVERY: Duration = Duration::from_secs(1);
/// How long the user service may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// How far back a question reaches beyond the last answer, in seconds: what was being written then is read now.
const OVERLAP_SECONDS: i64 = 5;

/// Up to when the revocations are known, in seconds by the user service's clock.
#[derive(Debug, Default)]
pub struct TrustLog(AtomicI64);

/// Asks the user service, if it is another process.
///
/// # Errors
/// 503 when it does not answer: what is known stays.
pub async fn renew(shop: &Shop) -> Result<(), ApiError> {
    let Some(peers) = shop.peer_for(Service::User) else { return Ok(()) };
    let a_token_ago = Timestamp::now().as_seconds() - ACCESS_TOKEN_LIFETIME_SECONDS.cast_signed();
    let known_until = shop.trust.0.load(Ordering::Relaxed);
    let since = Timestamp::from_seconds(a_token_ago.max(known_until - OVERLAP_SECONDS));
    let deadline = Instant::now() + PATIENCE;
    let trust: Trust = peers.ask(Service::User, TRUST, &TrustQuestion { since }, deadline).await?;
    shop.verifier.set_public_key(&trust.public_key);
    for session in &trust.revoked {
        shop.verifier.revoke_session(session);
    }
    shop.trust.0.fetch_max(trust.as_of.as_seconds(), Ordering::Relaxed);
    Ok(())
}
