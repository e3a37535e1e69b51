//! Passwords: Argon2id on a bounded pool of blocking threads.
//!
//! One hash costs about 27 ms of a core and 19 MiB, by intent. So at most one per core is made at a time; the permit goes
//! with the work onto its thread, because a caller that gives up does not stop it. Whoever waits too long is told `Busy`:
//! a flood of sign-ins cannot take the memory or the machine.

use std::{fmt, sync::Arc, time::Duration};

use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version, password_hash::phc::PasswordHash};
use runtime::Gate;
use serde::Deserialize;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};

/// The fewest characters of a new password.
pub const PASSWORD_CHARACTERS_MIN: usize = 8;
/// The most bytes of a password: a bound on what is hashed.
pub const PASSWORD_BYTES_MAX: usize = 128;

/// OWASP's minimum for Argon2id: 19 MiB, 2 passes, 1 lane.
const MEMORY_KIB: u32 = 19 * 1_024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// Callers that may wait for a core; with two cores the last would wait about 3 s.
const WAITING_MAX: usize = 256;

/// Random bytes in the form of a hash with today's parameters: verified in the place of a user who does not exist, so that
/// the answer takes as long.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$DKaElewkys4JOM06TTweKA$ok2wS5S7NIUiMkenmMM/uArJV4V4zUGHBfT+c14N34Y";

/// A password as it was typed. Its `Debug` text hides it, and it cannot be written anywhere.
#[derive(Clone, Default, Deserialize)]
#[serde(transparent)]
pub struct Password(Arc<str>);

impl Password {
    /// A password.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(hidden)")
    }
}

/// Why a password was neither hashed nor verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Too many are at it.
    #[error("too many passwords are being checked; try again shortly")]
    Busy,
    /// The hash could not be made.
    #[error("the password could not be hashed")]
    Failed,
}

/// What the verification of a password said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is another password, or there is nobody.
    Wrong,
    /// It is the password.
    Right,
    /// It is the password, and its hash was made with other parameters than today's.
    RightButOutdated,
}

/// The pool. Clones share its bounds.
#[derive(Clone)]
pub struct Passwords {
    cores: Arc<Semaphore>,
    waiting: Arc<Gate>,
    wait_max: Duration,
}

impl Passwords {
    /// A pool that hashes `parallel` passwords at a time and lets nobody wait longer than `wait_max` for their turn.
    #[must_use]
    pub fn new(parallel: usize, wait_max: Duration) -> Self {
        Self { cores: Arc::new(Semaphore::new(parallel.max(1))), waiting: Gate::new(WAITING_MAX), wait_max }
    }

    /// The hash of a new password as a PHC string, with a random salt.
    ///
    /// # Errors
    /// [`PasswordError`].
    pub async fn hash(&self, password: Password, deadline: Instant) -> Result<String, PasswordError> {
        self.run(deadline, move || {
            argon2().hash_password(password.as_str().as_bytes()).ok().map(|hash| hash.to_string())
        })
        .await?
        .ok_or(PasswordError::Failed)
    }

    /// Compares `password` with a stored hash. It takes as long where there is none, and where the password is longer than
    /// any that is kept.
    ///
    /// # Errors
    /// [`PasswordError`].
    pub async fn verify(
        &self,
        password: Password,
        stored: Option<String>,
        deadline: Instant,
    ) -> Result<Verdict, PasswordError> {
        self.run(deadline, move || {
            let is_possible = password.as_str().len() <= PASSWORD_BYTES_MAX;
            let candidate = if is_possible { password.as_str() } else { "" };
            let is_right = matches(candidate, stored.as_deref().unwrap_or(NOBODY));
            match stored {
                Some(stored) if is_right && is_possible && is_outdated(&stored) => Verdict::RightButOutdated,
                Some(_) if is_right && is_possible => Verdict::Right,
                _ => Verdict::Wrong,
            }
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        deadline: Instant,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PasswordError> {
        let place = self.waiting.try_enter().ok_or(PasswordError::Busy)?;
        let give_up_at = deadline.min(Instant::now() + self.wait_max);
        let turn = timeout_at(give_up_at, Arc::clone(&self.cores).acquire_owned()).await;
        let turn = turn.map_err(|_| PasswordError::Busy)?.map_err(|_| PasswordError::Failed)?;
        drop(place);
        let done = tokio::task::spawn_blocking(move || {
            let outcome = work();
            drop(turn);
            outcome
        });
        done.await.map_err(|_| PasswordError::Failed)
    }
}

fn argon2() -> Argon2<'static> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).expect("the constants are within Argon2's limits");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

fn matches(password: &str, stored: &str) -> bool {
    match PasswordHash::new(stored) {
        // The parameters are those of the stored hash.
        Ok(stored) => argon2().verify_password(password.as_bytes(), &stored).is_ok(),
        Err(error) => {
            tracing::error!(%error, "a stored password hash cannot be read");
            false
        }
    }
}

fn is_outdated(stored: &str) -> bool {
    let today = format!("$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}$");
    !stored.starts_with(&today)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patience() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    fn pool() -> Passwords {
        Passwords::new(2, Duration::from_secs(60))
    }

    #[tokio::test]
    async fn a_password_matches_its_own_hash_and_no_other() {
        let pool = pool();
        let hash = pool.hash(Password::new("correct horse"), patience()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        let verify = |text: &str| pool.verify(Password::new(text), Some(hash.clone()), patience());
        assert_eq!(verify("correct horse").await, Ok(Verdict::Right));
        assert_eq!(verify("wrong horse").await, Ok(Verdict::Wrong));
        assert_eq!(verify(&"x".repeat(PASSWORD_BYTES_MAX + 1)).await, Ok(Verdict::Wrong));
        assert_eq!(pool.verify(Password::new("correct horse"), None, patience()).await, Ok(Verdict::Wrong));
    }

    #[tokio::test]
    async fn a_hash_of_other_parameters_is_right_but_outdated() {
        let weak = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(64, 1, 1, None).unwrap());
        let hash = weak.hash_password(b"correct horse").unwrap().to_string();
        let verdict = pool().verify(Password::new("correct horse"), Some(hash), patience()).await;
        assert_eq!(verdict, Ok(Verdict::RightButOutdated));
    }

    #[test]
    fn the_hash_of_nobody_costs_as_much_as_any_other() {
        assert!(PasswordHash::new(NOBODY).is_ok());
        assert!(!is_outdated(NOBODY));
    }

    #[tokio::test]
    async fn who_waits_too_long_is_told_busy() {
        let pool = Passwords::new(1, Duration::ZERO);
        let turn = Arc::clone(&pool.cores).acquire_owned().await.unwrap();
        assert_eq!(pool.hash(Password::new("x"), patience()).await, Err(PasswordError::Busy));
        drop(turn);
        assert!(pool.hash(Password::new("x"), patience()).await.is_ok());
    }
}
