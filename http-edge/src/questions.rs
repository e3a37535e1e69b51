//! What the processes of one house ask each other, in words and values: [`internal`](crate::internal) answers them.

use contracts::{OrderId, PaymentId, SessionId, Timestamp};
use serde::{Deserialize, Serialize};

/// What is asked of the user service: whose tokens count.
pub(crate) const TRUST: &str = "trust";
/// What is asked of any service: its part of the operator's sums.
pub(crate) const STATS: &str = "stats";
/// A drill: the service's tree falls.
pub(crate) const KILL: &str = "kill";
/// A drill: an entity panics.
pub(crate) const PANIC: &str = "panic";

/// An operator's question: what a service has set aside on the embedded bus.
pub const DEAD_LETTERS: &str = "dead-letters";
/// An operator's wish: that a service takes in again what it has set aside.
pub const REPLAY: &str = "replay";
/// An operator's wish about the administrators, of the user service: an [`OperatorWish`](user_service::OperatorWish), answered by an
/// [`OperatorAnswer`](user_service::OperatorAnswer) or why not, in a sentence.
pub const OPERATOR: &str = "operator";

/// An operator's word: what the service's topics lost has been seen to.
pub const ACKNOWLEDGE_LOSS: &str = "acknowledge-loss";

/// An operator's question: what of this process's data does not fit together.
pub const RECOVERY: &str = "recovery";

/// What is asked of the product service: prices.
pub(crate) const QUOTE: &str = "quote";
/// What is asked of the order service: an order.
pub(crate) const ORDER: &str = "order";
/// What is asked of the order service: an order, once it has taken account of a payment.
pub(crate) const SETTLED: &str = "settled";

/// The question behind [`SETTLED`].
#[derive(Serialize, Deserialize)]
pub(crate) struct SettledQuestion {
    pub(crate) order_id: OrderId,
    pub(crate) payment_id: PaymentId,
    /// Whether the payment waits for its buyer, which is what the order is to know.
    #[serde(default)]
    pub(crate) is_action_required: bool,
    /// How long the answer may take, in milliseconds.
    pub(crate) within_ms: u64,
}

/// The question behind [`TRUST`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TrustQuestion {
    /// Sessions revoked since then.
    pub(crate) since: Timestamp,
}

/// Whose tokens count, as the user service says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Trust {
    /// The public key that tokens are verified with.
    pub(crate) public_key: [u8; 32],
    /// Sessions whose tokens do not count any more.
    pub(crate) revoked: Vec<SessionId>,
    /// When that was so, by the user service's clock.
    pub(crate) as_of: Timestamp,
}

/// Of which topic.
#[derive(Debug, Serialize, Deserialize)]
pub struct DeadLettersQuestion {
    /// Its name, with `.dlq`.
    pub topic: String,
}

/// Which message.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReplayQuestion {
    /// The topic's name, with `.dlq`.
    pub topic: String,
    /// The message's number.
    pub number: u64,
}

/// Which entity is to panic.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PanicQuestion {
    pub(crate) kind: String,
    pub(crate) id: String,
}
