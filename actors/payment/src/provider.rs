//! The port to whoever moves money.
//!
//! A provider turns a card into a token, captures money for a token under an idempotency key, calls a charge off that has not
//! captured anything, and gives money back under another key. Asked again under the same key it does nothing new and gives the first answer: that is what every provider of
//! today offers, and what makes a charge safe to repeat after a crash.

use contracts::{Currency, Timestamp};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::card::Card;

pub mod sandbox;

/// What is kept of a card: enough to show and to recognise it, not enough to charge it elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Method {
    /// The provider's name for the card.
    pub token: String,
    /// Such as `visa`.
    pub brand: String,
    /// The last four digits.
    pub last4: String,
    /// 1 to 12.
    pub expiry_month: u8,
    /// Four digits.
    pub expiry_year: u16,
    /// A keyed hash of the number: the same card has the same.
    pub fingerprint: String,
}

/// What came of a charge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChargeOutcome {
    /// The money is captured.
    Captured {
        /// The provider.
        provider: String,
        /// Its name for the charge.
        provider_ref: String,
        /// When.
        captured_at: Timestamp,
    },
    /// The buyer must prove who they are first.
    RequiresAction {
        /// The provider.
        provider: String,
        /// Where.
        redirect_url: String,
    },
    /// No.
    Declined {
        /// Why, such as `insufficient_funds`.
        code: String,
        /// True when the same card may work later.
        is_retryable: bool,
    },
}

/// A charge to be made.
#[derive(Clone, Debug)]
pub struct Charge {
    /// The same key is the same charge.
    pub idempotency_key: String,
    /// With which card.
    pub token: String,
    /// How much, in minor units.
    pub amount_minor: i64,
    /// Of what.
    pub currency: Currency,
    /// True once the buyer has proved who they are.
    pub is_authenticated: bool,
}

/// What came of calling a charge off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VoidOutcome {
    /// Nothing is captured under this key, and nothing will be.
    Voided,
    /// The money had been captured: it can only be given back.
    Captured {
        /// The provider.
        provider: String,
        /// Its name for the charge.
        provider_ref: String,
        /// When.
        captured_at: Timestamp,
    },
}

/// Money to be given back.
#[derive(Clone, Debug)]
pub struct Refunding {
    /// The charge it is of, by its key.
    pub charge_key: String,
    /// The same key is the same refund.
    pub idempotency_key: String,
    /// How much, in minor units.
    pub amount_minor: i64,
}

/// The provider did not answer, or not in time: whether it was done is unknown. Ask again under the same key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the payment provider does not answer: {0}")]
pub struct ProviderDown(pub String);

/// Whoever moves money.
pub trait Provider: Send + Sync + 'static {
    /// Its name in events.
    fn name(&self) -> &'static str;

    /// Turns a card into a token. The card's number goes no further.
    fn tokenize(&self, card: &Card) -> Method;

    /// True where a card is taken whatever its expiry says, as a test card is.
    fn takes_expired(&self, _card: &Card) -> bool {
        false
    }

    /// Captures money.
    fn charge(&self, charge: Charge) -> BoxFuture<'static, Result<ChargeOutcome, ProviderDown>>;

    /// Calls a charge off by its key, whether it was ever asked for or not: no later one under this key captures anything.
    fn void(&self, idempotency_key: String) -> BoxFuture<'static, Result<VoidOutcome, ProviderDown>>;

    /// Gives money back.
    fn refund(&self, refund: Refunding) -> BoxFuture<'static, Result<(), ProviderDown>>;

    /// What its own books say: (captured, refunded), in minor units over all currencies.
    fn totals(&self) -> BoxFuture<'static, Result<(i64, i64), ProviderDown>>;
}
