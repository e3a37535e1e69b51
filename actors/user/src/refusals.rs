//! What is kept of sign-ins that were refused: a line in the log each, and for users who exist an event.
//!
//! The line says who (a user id, or a keyed hash of the address that was typed), from where, in which request and why; never
//! the address. The event is written beside the answer, which neither waits for it nor tells by its time whether there is such
//! a user. A flood writes at most [`EVENTS_PER_USER_MAX`] events a minute for each user; the rest is in the log alone. It owns
//! the counts of the present minute and nothing that must survive.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use contracts::{SessionId, Timestamp, UserId};
use hmac::{Hmac, KeyInit, Mac};
use runtime::{CommandMeta, Entities, Gate, RequestContext};
use sha2::Sha256;

use crate::{
    commands::{at, fresh_command_id},
    hex,
    user::{User, UserCommand},
};

/// Events of one user in one minute.
pub const EVENTS_PER_USER_MAX: u32 = 10;
/// Users who are counted in one minute: about 100 bytes each. Beyond it nothing is written until the minute is over.
const USERS_COUNTED_MAX: usize = 10_000;
/// Events being written at once.
const IN_FLIGHT_MAX: usize = 64;
/// How long writing one may take.
const PATIENCE: Duration = Duration::from_secs(5);
const MINUTE_MS: i64 = 60_000;
/// Characters of a hash: 64 bits tell addresses apart, and say nothing to who has not the key.
const HASH_LEN: usize = 16;

/// Who was refused.
#[derive(Clone, Copy, Debug)]
pub enum Who<'a> {
    /// A user.
    User(&'a UserId),
    /// Whoever has this address, as it was typed.
    Address(&'a str),
}

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// There is nobody of this address.
    UnknownAddress,
    /// The password is another.
    WrongPassword,
    /// They may not sign in.
    Disabled,
    /// They were disabled, or got another password, meanwhile.
    ChangedMeanwhile,
}

impl Reason {
    const fn text(self) -> &'static str {
        match self {
            Self::UnknownAddress => "unknown address",
            Self::WrongPassword => "wrong password",
            Self::Disabled => "disabled",
            Self::ChangedMeanwhile => "disabled or another password meanwhile",
        }
    }
}

/// The log of refused sign-ins. Clones are the same.
#[derive(Clone)]
pub(crate) struct Refusals {
    key: [u8; 32],
    minute: Arc<Mutex<Minute>>,
    in_flight: Arc<Gate>,
}

/// The counts of one minute.
#[derive(Default)]
struct Minute {
    number: i64,
    events: HashMap<UserId, u32>,
}

impl Minute {
    /// Whether one more event of this user is written at this time.
    fn admits(&mut self, user_id: &UserId, at: Timestamp) -> bool {
        let number = at.as_millis().div_euclid(MINUTE_MS);
        if number != self.number {
            *self = Self { number, events: HashMap::new() };
        }
        if self.events.len() >= USERS_COUNTED_MAX && !self.events.contains_key(user_id) {
            return false;
        }
        let events = self.events.entry(user_id.clone()).or_insert(0);
        *events += 1;
        *events <= EVENTS_PER_USER_MAX
    }
}

impl Refusals {
    pub(crate) fn new(key: [u8; 32]) -> Self {
        Self { key, minute: Arc::default(), in_flight: Gate::new(IN_FLIGHT_MAX) }
    }

    /// Notes a sign-in, or another showing of a password, that was refused.
    pub(crate) fn note(&self, users: &Entities<User>, who: Who<'_>, reason: Reason, context: &RequestContext) {
        let remote = context.remote.map(tracing::field::display);
        let (correlation_id, reason) = (&context.correlation_id, reason.text());
        match who {
            Who::User(user_id) => {
                tracing::info!(%user_id, remote, %correlation_id, reason, "sign-in refused");
                self.record(users, user_id, context);
            }
            Who::Address(address) => {
                let address_hash = self.hash_of_address(address);
                tracing::info!(address_hash, remote, %correlation_id, reason, "sign-in refused");
            }
        }
    }

    /// Notes a refresh token that was not good; where it is of a user's, of whose.
    pub(crate) fn log_refresh(&self, user_id: Option<&UserId>, session_id: &SessionId, context: &RequestContext) {
        let user_id = user_id.map(tracing::field::display);
        let remote = context.remote.map(tracing::field::display);
        tracing::info!(user_id, %session_id, remote, correlation_id = %context.correlation_id, "refresh refused");
    }

    /// What stands for an e-mail address where it may not stand itself.
    fn hash_of_address(&self, address: &str) -> String {
        self.hash("e-mail", address.trim().to_ascii_lowercase().as_bytes())
    }

    fn hash_of_network_address(&self, address: IpAddr) -> String {
        self.hash("network", address.to_canonical().to_string().as_bytes())
    }

    fn hash(&self, what: &str, text: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes a key of any length");
        mac.update(what.as_bytes());
        mac.update(b"\n");
        mac.update(text);
        let mut hash = hex::encode(&mac.finalize().into_bytes());
        hash.truncate(HASH_LEN);
        hash
    }

    fn record(&self, users: &Entities<User>, user_id: &UserId, context: &RequestContext) {
        let at = at(context);
        let is_admitted = self.minute.lock().unwrap_or_else(PoisonError::into_inner).admits(user_id, at);
        let Some(permit) = is_admitted.then(|| self.in_flight.try_enter()).flatten() else { return };
        let ip_hash = context.remote.map(|remote| self.hash_of_network_address(remote));
        let command = UserCommand::RecordRefusedSignIn { ip_hash, at };
        // The answer is out before this is written: it has a deadline of its own.
        let meta = CommandMeta::new(fresh_command_id("refused-sign-in"), PATIENCE)
            .correlated(Arc::clone(&context.correlation_id))
            .traced(context.traceparent.clone());
        let (users, user_id) = (users.clone(), user_id.clone());
        tokio::spawn(async move {
            if let Err(error) = users.ask(user_id.as_str(), command, meta).await {
                tracing::warn!(%user_id, %error, "a refused sign-in was logged and not written down");
            }
            drop(permit);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_writes_a_bounded_number_of_events_a_minute() {
        let user = |number: usize| UserId::parse(&format!("usr_{number}")).unwrap();
        let mut minute = Minute::default();
        let mut admitted = |number, millis| minute.admits(&user(number), Timestamp::from_millis(millis));
        let first = (0..100).filter(|_| admitted(1, 90_000)).count();
        assert_eq!(first, 10);
        assert!(admitted(2, 90_000), "another user is not in the way");
        assert!(admitted(1, 120_000), "the next minute");
        let others = (100..30_000).filter(|number| admitted(*number, 120_001)).count();
        assert_eq!(others, USERS_COUNTED_MAX - 1);
    }

    #[test]
    fn a_hash_is_of_the_address_whatever_its_case_and_of_the_key() {
        let refusals = Refusals::new([1; 32]);
        let hash = refusals.hash_of_address(" Ann@Example.com");
        assert_eq!(hash, refusals.hash_of_address("ann@example.com"));
        assert_eq!(hash.len(), HASH_LEN);
        assert_ne!(hash, Refusals::new([2; 32]).hash_of_address("ann@example.com"));
        let network = |text: &str| refusals.hash_of_network_address(text.parse().unwrap());
        assert_eq!(network("::ffff:10.0.0.1"), network("10.0.0.1"));
        assert_ne!(network("10.0.0.1"), network("10.0.0.2"));
    }
}
