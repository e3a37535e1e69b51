//! How often who may ask.
//!
//! A fixed window per key: it opens with the first request, lets `limit` requests through and is forgotten
//! when it ends. The counts live in memory of this process only: a restart forgives.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicI64, Ordering};

use contracts::{Timestamp, UserId};
use dashmap::DashMap;
use order_service::Cap;
use warp::http::{HeaderMap, HeaderName, HeaderValue};

use crate::error::ApiError;

/// Most keys counted at once: about 120 bytes each.
pub const KEYS_MAX: usize = 100_000;

/// With a full table, all further keys of a purpose share one window of this many times its quota: a
/// flood of addresses cannot grow our memory, and strangers are slowed, not shut out.
pub const OVERFLOW_FACTOR: u32 = 100;

/// A full table is searched for ended windows at most this often, in milliseconds.
const SWEEP_INTERVAL_MS: i64 = 1_000;

/// The settings to choose from (`RATE_LIMIT_PROFILE`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// 300 per minute and person or address; sign-in routes far fewer per address.
    Default,
    /// The original's: 1000 per hour signed in, 100 per hour anonymous.
    Original,
    /// No limits: `off`, or `bench`.
    Off,
}

/// The setting is not one of the words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be default, original, off or bench")]
pub struct ProfileError;

impl std::str::FromStr for Profile {
    type Err = ProfileError;

    fn from_str(text: &str) -> Result<Self, ProfileError> {
        match text {
            "default" => Ok(Profile::Default),
            "original" => Ok(Profile::Original),
            "off" | "bench" => Ok(Profile::Off),
            _ => Err(ProfileError),
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Profile::Default => "default",
            Profile::Original => "original",
            Profile::Off => "off",
        })
    }
}

/// What a request is for, as far as limits care.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Everything not below.
    Api,
    /// Signing in: the door that passwords are guessed at.
    Login,
    /// Making an account.
    Register,
    /// Exchanging a refresh token.
    Refresh,
    /// Changing a password, for which the present one is shown: another door that it is guessed at, by who has a token.
    Password,
    /// Health, metrics and static pages: never counted.
    Free,
}

/// How many requests in how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Requests per window.
    pub limit: u32,
    /// Length of a window in milliseconds.
    pub period_ms: i64,
}

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

/// The table of quotas; `None` is unlimited.
#[must_use]
pub fn quota(profile: Profile, purpose: Purpose, is_signed_in: bool) -> Option<Quota> {
    let (limit, period_ms) = match (profile, purpose) {
        (Profile::Off, _) | (_, Purpose::Free) => return None,
        (Profile::Original, _) if is_signed_in => (1000, HOUR_MS),
        (Profile::Original, _) => (100, HOUR_MS),
        (Profile::Default, Purpose::Login | Purpose::Password) => (5, MINUTE_MS),
        (Profile::Default, Purpose::Register) => (3, MINUTE_MS),
        (Profile::Default, Purpose::Refresh) => (10, MINUTE_MS),
        (Profile::Default, Purpose::Api) => (300, MINUTE_MS),
    };
    Some(Quota { limit, period_ms })
}

/// What one account may hold without having paid: ten orders are more than a person places in a quarter of an hour, and a
/// thousand units no shop's whole stock. The profile of the original counts requests as the original did, and is as little a
/// reason to give the stock away. Staff are exempt.
pub const UNPAID_CAP: Cap = Cap { orders_max: 10, units_max: 1_000 };

/// The cap of a profile; `None` is none.
#[must_use]
pub const fn unpaid_cap(profile: Profile) -> Option<Cap> {
    match profile {
        Profile::Default | Profile::Original => Some(UNPAID_CAP),
        Profile::Off => None,
    }
}

/// One key's count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// First instant after the window.
    pub ends_at: Timestamp,
    /// Requests let through.
    pub used: u32,
}

/// What the headers say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the request may go on.
    pub is_admitted: bool,
    /// Requests per window.
    pub limit: u32,
    /// Requests left in this window.
    pub remaining: u32,
    /// When the window ends, in Unix seconds, rounded up.
    pub reset_at: i64,
    /// Whole seconds until then, at least 1.
    pub retry_after: u32,
}

/// Counts one request: the whole logic, free of clocks and tables.
#[must_use]
pub fn count(window: Option<Window>, quota: Quota, now: Timestamp) -> (Window, Verdict) {
    let open = window.filter(|window| now < window.ends_at);
    let mut window = open.unwrap_or(Window {
        ends_at: Timestamp::from_millis(now.as_millis().saturating_add(quota.period_ms)),
        used: 0,
    });
    let is_admitted = window.used < quota.limit;
    if is_admitted {
        window.used += 1;
    }
    let seconds_left = window.ends_at.since(now).as_millis().div_ceil(1000).max(1);
    let verdict = Verdict {
        is_admitted,
        limit: quota.limit,
        remaining: quota.limit.saturating_sub(window.used),
        reset_at: Timestamp::from_millis(window.ends_at.as_millis().saturating_add(999)).as_seconds(),
        retry_after: u32::try_from(seconds_left).unwrap_or(u32::MAX),
    };
    (window, verdict)
}

impl Verdict {
    /// Writes `X-RateLimit-Limit`, `-Remaining` and `-Reset`.
    pub fn write_headers(&self, headers: &mut HeaderMap) {
        let mut set = |name: &'static str, value: HeaderValue| {
            headers.insert(HeaderName::from_static(name), value);
        };
        set("x-ratelimit-limit", self.limit.into());
        set("x-ratelimit-remaining", self.remaining.into());
        set("x-ratelimit-reset", self.reset_at.into());
    }

    /// 429 when the request may not go on. The caller still writes the headers.
    ///
    /// # Errors
    /// 429 `RATE_LIMIT_EXCEEDED` with `Retry-After`.
    pub fn check(&self) -> Result<(), ApiError> {
        if self.is_admitted { Ok(()) } else { Err(ApiError::rate_limit_exceeded(self.retry_after)) }
    }
}

/// Whose window it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    User(Purpose, UserId),
    Address(Purpose, IpAddr),
    /// Shared by all that found the table full.
    Overflow(Purpose),
}

/// The counts of this process. Share it behind an `Arc`.
#[derive(Debug)]
pub struct RateLimiter {
    profile: Profile,
    windows: DashMap<Key, Window>,
    keys_max: usize,
    /// When the table was last searched for ended windows, in Unix milliseconds.
    swept_at: AtomicI64,
}

impl RateLimiter {
    /// Nobody counted yet.
    #[must_use]
    pub fn new(profile: Profile) -> Self {
        Self::with_keys_max(profile, KEYS_MAX)
    }

    fn with_keys_max(profile: Profile, keys_max: usize) -> Self {
        Self { profile, windows: DashMap::new(), keys_max, swept_at: AtomicI64::new(0) }
    }

    /// Which limits hold.
    #[must_use]
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// Counts a request; `None` when it is not limited.
    ///
    /// The signed-in are counted as themselves, others by address (IPv6 by its /64, which one subscriber
    /// owns). Under the default profile the sign-in routes are counted by address for everybody.
    pub fn admit(
        &self,
        purpose: Purpose,
        user: Option<&UserId>,
        peer: Option<IpAddr>,
        now: Timestamp,
    ) -> Option<Verdict> {
        let quota = quota(self.profile, purpose, user.is_some())?;
        let by_address = self.profile == Profile::Default && !matches!(purpose, Purpose::Api | Purpose::Password);
        let key = match (user, peer) {
            (Some(user), _) if !by_address => Key::User(purpose, user.clone()),
            (_, Some(peer)) => Key::Address(purpose, subscriber(peer)),
            (_, None) => Key::Overflow(purpose),
        };
        let (key, quota) = self.admit_key(key, quota, now);
        let mut verdict = None;
        // One entry guard: reading, counting and writing a window is one step.
        self.windows
            .entry(key)
            .and_modify(|window| {
                let (next, said) = count(Some(*window), quota, now);
                *window = next;
                verdict = Some(said);
            })
            .or_insert_with(|| {
                let (first, said) = count(None, quota, now);
                verdict = Some(said);
                first
            });
        verdict
    }

    /// The key itself while it is known or there is room, else the shared one.
    fn admit_key(&self, key: Key, quota: Quota, now: Timestamp) -> (Key, Quota) {
        if self.windows.contains_key(&key) {
            return (key, quota);
        }
        if self.windows.len() >= self.keys_max {
            self.sweep(now);
        }
        if self.windows.len() < self.keys_max {
            return (key, quota);
        }
        let purpose = match key {
            Key::User(purpose, _) | Key::Address(purpose, _) | Key::Overflow(purpose) => purpose,
        };
        let limit = quota.limit.saturating_mul(OVERFLOW_FACTOR);
        (Key::Overflow(purpose), Quota { limit, ..quota })
    }

    fn sweep(&self, now: Timestamp) {
        let swept_at = self.swept_at.load(Ordering::Relaxed);
        let is_due = now.as_millis() >= swept_at.saturating_add(SWEEP_INTERVAL_MS);
        // One thread wins the exchange and sweeps; the others go on with a full table.
        if is_due
            && self.swept_at.compare_exchange(swept_at, now.as_millis(), Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            self.windows.retain(|_, window| now < window.ends_at);
        }
    }
}

/// The address that one subscriber cannot change at will.
fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests;
