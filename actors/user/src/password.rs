//! Passwords: Argon2id on a bounded pool of blocking threads.
//!
//! One hash costs about 27 ms of a core and 19 MiB, by intent. So at most one per core is made at a time; the permit goes
//! with the work onto its thread, because a caller that gives up does not stop it. Whoever waits too long is told `Busy`:
//! a flood of sign-ins cannot take the memory or the machine.
//!
//! A new password is looked at by zxcvbn, which knows the common ones, and how people vary them, from lists of leaked ones:
//! what it expects to be found within [`GUESSES_MIN`] tries is refused.

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
/// The most characters of a password: a bound on what is hashed.
pub const PASSWORD_CHARACTERS_MAX: usize = 128;
/// A new password that is expected to be found in fewer tries is a common one: 10^5. Five tries a minute, which the edge
/// allows one address, take two weeks for as many. Measured: `password1` 380, `P@ssw0rd1` 11,000, `Summer2024` 24,000; the
/// original's `testPassword123` 230,000.
pub const GUESSES_MIN: u64 = 100_000;
/// Characters that are looked at, from the start and from the end: how long the look takes grows steeply with its length
/// (with 128 of the worst kind it took 0.4 s; with 40 it takes some 10 ms).
const LOOKED_AT_MAX: usize = 40;
/// Words about the user that are this short say nothing against a password that contains them: most are in the lists anyway.
const WORD_CHARACTERS_MIN: usize = 5;
/// Letters of a generated password, five bits each: 120 bits.
const GENERATED_LEN: usize = 24;

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

    /// A password of 120 random bits.
    ///
    /// # Errors
    /// [`PasswordError::Failed`] when the system gives no random bytes.
    pub fn generate() -> Result<Self, PasswordError> {
        Ok(Self(random_letters(GENERATED_LEN)?.into()))
    }

    /// The password in clear: to be shown to its owner once.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether it is longer than any that is kept.
    #[must_use]
    pub fn is_too_long(&self) -> bool {
        // Most are far shorter: no need to count.
        self.0.len() > PASSWORD_CHARACTERS_MAX && self.0.chars().count() > PASSWORD_CHARACTERS_MAX
    }

    /// What is wrong with its length.
    #[must_use]
    pub fn fault_of_length(&self) -> Option<String> {
        if self.0.is_empty() {
            Some("is required".to_owned())
        } else if self.0.chars().count() < PASSWORD_CHARACTERS_MIN {
            Some(format!("must have at least {PASSWORD_CHARACTERS_MIN} characters"))
        } else if self.is_too_long() {
            Some(format!("must have at most {PASSWORD_CHARACTERS_MAX} characters"))
        } else {
            None
        }
    }
}

/// Random letters and digits of which none looks like another, five bits each.
///
/// # Errors
/// [`PasswordError::Failed`] when the system gives no random bytes.
pub(crate) fn random_letters(count: usize) -> Result<String, PasswordError> {
    const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut bytes = vec![0; count];
    getrandom::fill(&mut bytes).map_err(|_| PasswordError::Failed)?;
    // 32 letters: the low five bits of a random byte choose one evenly.
    Ok(bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect())
}

/// Why a password is easily guessed by somebody who knows `words` about its owner; nothing when it is not.
fn guessable(password: &str, words: &[String]) -> Option<String> {
    let own_name = "microcommerce";
    let words = words.iter().map(String::as_str).filter(|word| word.chars().count() >= WORD_CHARACTERS_MIN);
    let words: Vec<&str> = words.chain([own_name]).collect();
    let mut characters: Vec<char> = password.chars().collect();
    let start: String = characters.iter().take(LOOKED_AT_MAX).collect();
    characters.reverse();
    let mut end: Vec<char> = characters.into_iter().take(LOOKED_AT_MAX).collect();
    end.reverse();
    let end: String = end.into_iter().collect();
    let is_found = |part: &str| zxcvbn::zxcvbn(part, &words).guesses() < GUESSES_MIN;
    let is_common = is_found(&start) && (start == end || is_found(&end));
    is_common
        .then(|| "is too common or too close to what is known about you; choose one that is harder to guess".to_owned())
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

    /// What is wrong with a new password, in words for a client; nothing when it is good. `words` are what others know about
    /// its owner: their address, their names.
    ///
    /// # Errors
    /// [`PasswordError`].
    pub async fn fault_of(
        &self,
        password: Password,
        words: Vec<String>,
        deadline: Instant,
    ) -> Result<Option<String>, PasswordError> {
        match password.fault_of_length() {
            Some(fault) => Ok(Some(fault)),
            None => self.run(deadline, move || guessable(password.as_str(), &words)).await,
        }
    }

    /// Compares `password` with a stored hash. It takes as long where there is none. A password that is longer than any that
    /// is kept is wrong at once, whoever's it is to be.
    ///
    /// # Errors
    /// [`PasswordError`].
    pub async fn verify(
        &self,
        password: Password,
        stored: Option<String>,
        deadline: Instant,
    ) -> Result<Verdict, PasswordError> {
        if password.is_too_long() {
            return Ok(Verdict::Wrong);
        }
        self.run(deadline, move || {
            let is_right = matches(password.as_str(), stored.as_deref().unwrap_or(NOBODY));
            match stored {
                Some(stored) if is_right && is_outdated(&stored) => Verdict::RightButOutdated,
                Some(_) if is_right => Verdict::Right,
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
        assert_eq!(verify("").await, Ok(Verdict::Wrong));
        assert_eq!(pool.verify(Password::new("correct horse"), None, patience()).await, Ok(Verdict::Wrong));
    }

    #[tokio::test]
    async fn a_hash_of_other_parameters_is_right_but_outdated() {
        let weak = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(64, 1, 1, None).unwrap());
        let hash = weak.hash_password(b"correct horse").unwrap().to_string();
        let pool = pool();
        let verify = |text: &str| pool.verify(Password::new(text), Some(hash.clone()), patience());
        assert_eq!(verify("correct horse").await, Ok(Verdict::RightButOutdated));
        let long = "x".repeat(PASSWORD_CHARACTERS_MAX + 1);
        for wrong in ["wrong horse", "", "correct horse ", "CORRECT HORSE", long.as_str()] {
            assert_eq!(verify(wrong).await, Ok(Verdict::Wrong), "whatever the hash's parameters: {wrong:?}");
        }
    }

    /// What is as long as no password of ours costs no hash, also where its hash would match.
    #[tokio::test]
    async fn a_password_longer_than_any_that_is_kept_is_wrong_without_a_hash() {
        let long = "ä".repeat(PASSWORD_CHARACTERS_MAX + 1);
        let hash = argon2().hash_password(long.as_bytes()).unwrap().to_string();
        // A pool whose only core is taken, and in which nobody waits: whoever needs a hash is told `Busy`.
        let pool = Passwords::new(1, Duration::ZERO);
        let _turn = Arc::clone(&pool.cores).acquire_owned().await.unwrap();
        let verify = |text: &str, hash: Option<String>| pool.verify(Password::new(text), hash, patience());
        assert_eq!(verify(&long, Some(hash.clone())).await, Ok(Verdict::Wrong));
        assert_eq!(verify(&long, None).await, Ok(Verdict::Wrong));
        let longest = "ä".repeat(PASSWORD_CHARACTERS_MAX);
        assert_eq!(verify(&longest, Some(hash)).await, Err(PasswordError::Busy), "the longest that may be one");
    }

    #[test]
    fn passwords_have_8_to_128_characters() {
        let fault = |text: &str| Password::new(text).fault_of_length().is_some();
        let table = [("", true), ("1234567", true), ("12345678", false), ("ääääääää", false), ("ääää", true)];
        for (text, is_faulty) in table {
            assert_eq!(fault(text), is_faulty, "{text}");
        }
        for letter in ["x", "ä"] {
            assert!(!fault(&letter.repeat(128)));
            assert!(fault(&letter.repeat(129)));
        }
    }

    #[test]
    fn common_passwords_and_what_is_known_about_their_owner_are_refused() {
        let words: Vec<String> = ["annabel@example.com", "annabel", "Annabel", "Lee"].map(str::to_owned).into();
        for common in [
            "password",
            "Password1",
            "P@ssw0rd",
            "P@ssw0rd1",
            "12345678",
            "1q2w3e4r",
            "qwertyuiop",
            "iloveyou",
            "letmein123",
            "aaaaaaaa",
            "abcd1234",
            "Summer2024",
            "annabel@example.com",
            "annabel1",
            "lebanna7",
            "microcommerce",
            "Microcommerce1",
        ] {
            assert!(guessable(common, &words).is_some(), "{common}");
        }
        for good in ["testPassword123", "wrongPassword1", "correct horse", "load-Password-123", "tkvuxq9m"] {
            assert_eq!(guessable(good, &words), None, "{good}");
        }
        // The user of the original's examples.
        let test = ["test@example.com", "test", "Test", "User", "John", "Doe"].map(str::to_owned);
        assert_eq!(guessable("testPassword123", &test), None);
    }

    #[test]
    fn a_long_password_is_as_good_as_its_better_end_and_is_looked_at_quickly() {
        assert!(guessable(&"password".repeat(16), &[]).is_some());
        assert!(
            guessable(&format!("{}{}", "a".repeat(60), "b".repeat(60)), &[]).is_some(),
            "two bad ends, not the same"
        );
        assert_eq!(guessable(&format!("{}tkvuxq9m-gr2c7", "a".repeat(100)), &[]), None);
        assert_eq!(guessable(&format!("tkvuxq9m-gr2c7{}", "a".repeat(100)), &[]), None);
        let worst = "@4({6<3[!|1$5+7%20".repeat(7);
        let started = std::time::Instant::now();
        assert_eq!(guessable(&worst, &[]), None);
        assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    }

    /// The odds against one of 32 letters missing among 10,000 are 10^136 to one.
    #[test]
    fn random_letters_are_all_of_those_of_which_none_looks_like_another() {
        let letters: std::collections::BTreeSet<char> = random_letters(10_000).unwrap().chars().collect();
        let expected = ('a'..='z').filter(|letter| !"lo".contains(*letter)).chain('2'..='9');
        assert_eq!(letters, expected.collect());
        assert_eq!(random_letters(7).unwrap().len(), 7);
    }

    #[test]
    fn a_password_is_not_shown_where_it_is_printed_for_debugging() {
        assert_eq!(format!("{:?}", Password::new("correct horse")), "Password(hidden)");
    }

    #[test]
    fn a_generated_password_is_good_and_another_each_time() {
        let (one, other) = (Password::generate().unwrap(), Password::generate().unwrap());
        assert_ne!(one.reveal(), other.reveal());
        assert_eq!((one.fault_of_length(), guessable(one.reveal(), &[])), (None, None));
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

    #[tokio::test]
    async fn who_waits_gets_their_turn_when_it_comes_in_time() {
        let pool = Passwords::new(1, Duration::from_secs(60));
        let turn = Arc::clone(&pool.cores).acquire_owned().await.unwrap();
        // The first is looked at first: it waits already when the turn before it ends.
        let (fault, ()) =
            tokio::join!(pool.fault_of(Password::new("correct horse"), vec![], patience()), async { drop(turn) });
        assert_eq!(fault, Ok(None));
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_new_password_is_said_in_words_and_its_length_without_waiting() {
        let pool = pool();
        let fault = async |text: &str| pool.fault_of(Password::new(text), vec!["annabel".to_owned()], patience()).await;
        assert_eq!(fault("correct horse").await, Ok(None));
        for guessed in ["password", "annabel1"] {
            let said = fault(guessed).await.unwrap().unwrap();
            assert!(said.starts_with("is too common or too close to what is known about you"), "{guessed}: {said}");
        }
        let busy = Passwords::new(1, Duration::ZERO);
        let _turn = Arc::clone(&busy.cores).acquire_owned().await.unwrap();
        let fault = async |text: &str| busy.fault_of(Password::new(text), vec![], patience()).await;
        assert_eq!(fault("short").await, Ok(Some("must have at least 8 characters".to_owned())));
        assert_eq!(fault("").await, Ok(Some("is required".to_owned())));
        assert_eq!(fault(&"x".repeat(129)).await, Ok(Some("must have at most 128 characters".to_owned())));
        assert_eq!(fault("correct horse").await, Err(PasswordError::Busy), "a look at it needs a core");
    }
}
