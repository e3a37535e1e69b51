//! Everything that one service says to another: events (what happened) and commands (what is to be done), with the topic
//! and the key that each travels under.
//!
//! Order is kept per key. Messages are given at least once: whoever takes one in derives its command's id from the
//! envelope's id, so that a repeat has no effect. No password, card number, token or e-mail address is in any of them.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    Currency, EventId, OrderId, PaymentId, ProductId, Quantity, RefundId, ReservationId, Service, SessionId, Sku,
    Timestamp, UserId, time::rfc3339,
};

/// Where a message travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// Keyed by order.
    OrderEvents,
    /// Keyed by order.
    PaymentEvents,
    /// Keyed by SKU.
    InventoryEvents,
    /// Keyed by product.
    ProductEvents,
    /// Keyed by user.
    UserEvents,
    /// Keyed by SKU; read by the product service.
    InventoryCommands,
    /// Keyed by order; read by the payment service.
    PaymentCommands,
}

impl Topic {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::OrderEvents,
        Self::PaymentEvents,
        Self::InventoryEvents,
        Self::ProductEvents,
        Self::UserEvents,
        Self::InventoryCommands,
        Self::PaymentCommands,
    ];

    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OrderEvents => "order-events",
            Self::PaymentEvents => "payment-events",
            Self::InventoryEvents => "inventory-events",
            Self::ProductEvents => "product-events",
            Self::UserEvents => "user-events",
            Self::InventoryCommands => "inventory-commands",
            Self::PaymentCommands => "payment-commands",
        }
    }

    /// Whether its messages are numbered: the events are, the commands are not.
    #[must_use]
    pub const fn is_numbered(self) -> bool {
        !matches!(self, Self::InventoryCommands | Self::PaymentCommands)
    }
}

/// One line of an order as the world sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderedLine {
    /// What is sold.
    pub sku: Sku,
    /// As which product.
    pub product_id: ProductId,
    /// Its name at the time of the order.
    pub name: String,
    /// How many.
    pub quantity: Quantity,
    /// The price of one, in minor units.
    pub unit_price_minor: i64,
    /// The price of all, in minor units.
    pub line_total_minor: i64,
}

/// What is to become of units that are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Settlement {
    /// They are sold.
    Committed,
    /// They are free again.
    Released,
}

/// Where a reservation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReservationStanding {
    /// Its units are held.
    Reserved,
    /// They are sold.
    Committed,
    /// They were held, and are free again.
    Released,
    /// They were never held.
    Rejected,
    /// Nothing is known of it, so nothing is held for it.
    Unknown,
}

impl ReservationStanding {
    /// Whether this is what was wanted.
    #[must_use]
    pub const fn satisfies(self, wanted: Settlement) -> bool {
        match wanted {
            Settlement::Committed => matches!(self, Self::Committed),
            Settlement::Released => matches!(self, Self::Released | Self::Rejected | Self::Unknown),
        }
    }
}

/// A message. The variant is its type; amounts are integers in minor units.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
#[allow(missing_docs, reason = "the fields are named by the event catalogue, one to one")]
pub enum Message {
    // order-events
    #[serde(rename = "order.created")]
    OrderCreated {
        order_id: OrderId,
        user_id: UserId,
        items: Vec<OrderedLine>,
        subtotal_minor: i64,
        discount_minor: i64,
        tax_minor: i64,
        shipping_minor: i64,
        total_minor: i64,
        currency: Currency,
        reservation_id: ReservationId,
        #[serde(with = "rfc3339")]
        expires_at: Timestamp,
    },
    #[serde(rename = "order.updated")]
    OrderUpdated { order_id: OrderId, from: String, to: String, reason: Option<String>, version: u64 },
    #[serde(rename = "order.paid")]
    OrderPaid { order_id: OrderId, payment_id: PaymentId, amount_minor: i64, currency: Currency },
    #[serde(rename = "order.cancelled")]
    OrderCancelled { order_id: OrderId, reason: String, refund_required: bool },

    // inventory-commands
    /// Hold `quantity` for an order, or say that it is not there.
    #[serde(rename = "inventory.reserve")]
    ReserveStock {
        sku: Sku,
        reservation_id: ReservationId,
        order_id: OrderId,
        quantity: Quantity,
        #[serde(with = "rfc3339")]
        expires_at: Timestamp,
    },
    /// What is held is sold.
    #[serde(rename = "inventory.commit")]
    CommitStock { sku: Sku, reservation_id: ReservationId, order_id: OrderId },
    /// What is held, or sold, is free again. Releasing what is not held does nothing.
    #[serde(rename = "inventory.release")]
    ReleaseStock { sku: Sku, reservation_id: ReservationId, order_id: OrderId, reason: String },
    /// Asked again for want of an answer: see to it that what is held is sold, or free, and say in any case where it stands.
    #[serde(rename = "inventory.settle")]
    SettleStock { sku: Sku, reservation_id: ReservationId, order_id: OrderId, wanted: Settlement },
    /// The first units of a new product.
    #[serde(rename = "inventory.receive")]
    ReceiveStock { sku: Sku, product_id: ProductId, quantity: u32, reason: String },

    // inventory-events
    #[serde(rename = "inventory.reserved")]
    StockReserved {
        reservation_id: ReservationId,
        order_id: OrderId,
        sku: Sku,
        quantity: Quantity,
        available_after: i64,
        #[serde(with = "rfc3339")]
        expires_at: Timestamp,
    },
    #[serde(rename = "inventory.reservation_rejected")]
    StockRejected { reservation_id: ReservationId, order_id: OrderId, sku: Sku, requested: Quantity, available: i64 },
    #[serde(rename = "inventory.committed")]
    StockCommitted { reservation_id: ReservationId, order_id: OrderId, sku: Sku, quantity: Quantity },
    #[serde(rename = "inventory.released")]
    StockReleased { reservation_id: ReservationId, order_id: OrderId, sku: Sku, quantity: Quantity, reason: String },
    /// Where a reservation stands: the answer where `inventory.settle` had nothing to do.
    #[serde(rename = "inventory.settled")]
    StockSettled { reservation_id: ReservationId, order_id: OrderId, sku: Sku, standing: ReservationStanding },
    /// Stock is held beyond its time: the order that it is held for says what is to become of it.
    #[serde(rename = "inventory.hold_overdue")]
    StockHoldOverdue {
        reservation_id: ReservationId,
        order_id: OrderId,
        sku: Sku,
        quantity: Quantity,
        #[serde(with = "rfc3339")]
        expires_at: Timestamp,
    },
    #[serde(rename = "inventory.adjusted")]
    StockAdjusted { sku: Sku, delta: i64, on_hand_after: i64, reason: String, reference: Option<String> },

    // payment-commands
    /// The order stands and awaits this payment: charge it before `expires_at`, for until then its stock is held. What an
    /// earlier build wrote has no such time.
    #[serde(rename = "payment.approve")]
    ApprovePayment {
        payment_id: PaymentId,
        order_id: OrderId,
        #[serde(default, with = "rfc3339::option", skip_serializing_if = "Option::is_none")]
        expires_at: Option<Timestamp>,
    },
    /// The order does not take this payment: do not charge.
    #[serde(rename = "payment.reject")]
    RejectPayment { payment_id: PaymentId, order_id: OrderId, reason: String },
    /// The order does not wait for this payment any more: void it, if its buyer has still to act.
    #[serde(rename = "payment.void")]
    VoidPayment { payment_id: PaymentId, order_id: OrderId, reason: String },
    /// From the payment service to itself: ask the provider.
    #[serde(rename = "payment.execute_charge")]
    ExecuteCharge { payment_id: PaymentId, order_id: OrderId },
    /// From the payment service to itself: tell the provider that nothing is to be charged under this payment any more.
    #[serde(rename = "payment.execute_void")]
    ExecuteVoid { payment_id: PaymentId, order_id: OrderId },
    /// Give this much back.
    #[serde(rename = "payment.refund")]
    RefundPayment { payment_id: PaymentId, order_id: OrderId, refund_id: RefundId, amount_minor: i64, reason: String },
    /// Asked again for want of an answer: see to it that this much is back, and say in any case when it is.
    #[serde(rename = "payment.settle_refund")]
    SettleRefund { payment_id: PaymentId, order_id: OrderId, refund_id: RefundId, amount_minor: i64, reason: String },
    /// From the payment service to itself: ask the provider.
    #[serde(rename = "payment.execute_refund")]
    ExecuteRefund { payment_id: PaymentId, order_id: OrderId, refund_id: RefundId },

    // payment-events
    /// A buyer wants to pay; nothing is charged before the order has agreed.
    #[serde(rename = "payment.requested")]
    PaymentRequested { payment_id: PaymentId, order_id: OrderId, amount_minor: i64, currency: Currency },
    #[serde(rename = "payment.requires_action")]
    PaymentRequiresAction {
        payment_id: PaymentId,
        order_id: OrderId,
        amount_minor: i64,
        currency: Currency,
        provider: String,
        #[serde(default, with = "rfc3339::option", skip_serializing_if = "Option::is_none")]
        expires_at: Option<Timestamp>,
    },
    /// The buyer has acted: the provider is asked again.
    #[serde(rename = "payment.confirmed")]
    PaymentConfirmed { payment_id: PaymentId, order_id: OrderId },
    #[serde(rename = "payment.succeeded")]
    PaymentSucceeded {
        payment_id: PaymentId,
        order_id: OrderId,
        amount_minor: i64,
        currency: Currency,
        provider: String,
        provider_ref: String,
        #[serde(with = "rfc3339")]
        captured_at: Timestamp,
    },
    #[serde(rename = "payment.failed")]
    PaymentFailed { payment_id: PaymentId, order_id: OrderId, decline_code: String, retryable: bool, attempt: u32 },
    /// Nothing was charged, and nothing will be.
    #[serde(rename = "payment.voided")]
    PaymentVoided { payment_id: PaymentId, order_id: OrderId, reason: String },
    #[serde(rename = "payment.refunded")]
    PaymentRefunded {
        payment_id: PaymentId,
        order_id: OrderId,
        refund_id: RefundId,
        amount_minor: i64,
        refunded_total_minor: i64,
        reason: String,
    },

    /// It was given back before: the answer where `payment.settle_refund` had nothing to do.
    #[serde(rename = "payment.refund_settled")]
    RefundSettled { payment_id: PaymentId, order_id: OrderId, refund_id: RefundId, amount_minor: i64 },

    // product-events
    #[serde(rename = "product.created")]
    ProductCreated { product_id: ProductId, version: u64, price_minor: i64, currency: Currency },

    // user-events
    #[serde(rename = "user.registered")]
    UserRegistered { user_id: UserId },
    #[serde(rename = "user.logged_in")]
    UserLoggedIn { user_id: UserId, session_id: SessionId },
    /// `ip_hash` is a keyed hash of the address that the sign-in came from.
    #[serde(rename = "user.login_failed")]
    UserLoginFailed {
        user_id: UserId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ip_hash: Option<String>,
    },
    /// `roles` are all that the user has from now on; `granted_by` is a user id, `first_start` or `operator`.
    #[serde(rename = "user.role_changed")]
    UserRoleChanged { user_id: UserId, roles: Vec<String>, granted_by: String, reason: String },
    #[serde(rename = "user.password_changed")]
    UserPasswordChanged { user_id: UserId },
}

impl Message {
    /// The names of all messages of this build. What has another name comes from a newer one, and is not ours to judge.
    pub const TYPES: [&'static str; 38] = [
        "order.created",
        "order.updated",
        "order.paid",
        "order.cancelled",
        "inventory.reserve",
        "inventory.commit",
        "inventory.release",
        "inventory.settle",
        "inventory.receive",
        "inventory.reserved",
        "inventory.reservation_rejected",
        "inventory.committed",
        "inventory.released",
        "inventory.settled",
        "inventory.hold_overdue",
        "inventory.adjusted",
        "payment.approve",
        "payment.reject",
        "payment.void",
        "payment.execute_charge",
        "payment.execute_void",
        "payment.refund",
        "payment.settle_refund",
        "payment.execute_refund",
        "payment.requested",
        "payment.requires_action",
        "payment.confirmed",
        "payment.succeeded",
        "payment.failed",
        "payment.voided",
        "payment.refunded",
        "payment.refund_settled",
        "product.created",
        "user.registered",
        "user.logged_in",
        "user.login_failed",
        "user.role_changed",
        "user.password_changed",
    ];

    /// Where it travels.
    #[must_use]
    pub const fn topic(&self) -> Topic {
        match self {
            Self::OrderCreated { .. }
            | Self::OrderUpdated { .. }
            | Self::OrderPaid { .. }
            | Self::OrderCancelled { .. } => Topic::OrderEvents,
            Self::ReserveStock { .. }
            | Self::CommitStock { .. }
            | Self::ReleaseStock { .. }
            | Self::SettleStock { .. }
            | Self::ReceiveStock { .. } => Topic::InventoryCommands,
            Self::StockReserved { .. }
            | Self::StockRejected { .. }
            | Self::StockCommitted { .. }
            | Self::StockReleased { .. }
            | Self::StockSettled { .. }
            | Self::StockHoldOverdue { .. }
            | Self::StockAdjusted { .. } => Topic::InventoryEvents,
            Self::ApprovePayment { .. }
            | Self::RejectPayment { .. }
            | Self::VoidPayment { .. }
            | Self::ExecuteCharge { .. }
            | Self::ExecuteVoid { .. }
            | Self::RefundPayment { .. }
            | Self::SettleRefund { .. }
            | Self::ExecuteRefund { .. } => Topic::PaymentCommands,
            Self::PaymentRequested { .. }
            | Self::PaymentRequiresAction { .. }
            | Self::PaymentConfirmed { .. }
            | Self::PaymentSucceeded { .. }
            | Self::PaymentFailed { .. }
            | Self::RefundSettled { .. }
            | Self::PaymentVoided { .. }
            | Self::PaymentRefunded { .. } => Topic::PaymentEvents,
            Self::ProductCreated { .. } => Topic::ProductEvents,
            Self::UserRegistered { .. }
            | Self::UserLoggedIn { .. }
            | Self::UserLoginFailed { .. }
            | Self::UserRoleChanged { .. }
            | Self::UserPasswordChanged { .. } => Topic::UserEvents,
        }
    }

    /// What it is about, and so its key: messages of one key keep their order.
    #[must_use]
    pub fn subject(&self) -> &str {
        match self {
            Self::OrderCreated { order_id, .. }
            | Self::OrderUpdated { order_id, .. }
            | Self::OrderPaid { order_id, .. }
            | Self::OrderCancelled { order_id, .. }
            | Self::ApprovePayment { order_id, .. }
            | Self::RejectPayment { order_id, .. }
            | Self::VoidPayment { order_id, .. }
            | Self::ExecuteCharge { order_id, .. }
            | Self::ExecuteVoid { order_id, .. }
            | Self::RefundPayment { order_id, .. }
            | Self::SettleRefund { order_id, .. }
            | Self::RefundSettled { order_id, .. }
            | Self::ExecuteRefund { order_id, .. }
            | Self::PaymentRequested { order_id, .. }
            | Self::PaymentRequiresAction { order_id, .. }
            | Self::PaymentConfirmed { order_id, .. }
            | Self::PaymentSucceeded { order_id, .. }
            | Self::PaymentFailed { order_id, .. }
            | Self::PaymentVoided { order_id, .. }
            | Self::PaymentRefunded { order_id, .. } => order_id.as_str(),
            Self::ReserveStock { sku, .. }
            | Self::CommitStock { sku, .. }
            | Self::ReleaseStock { sku, .. }
            | Self::SettleStock { sku, .. }
            | Self::StockSettled { sku, .. }
            | Self::ReceiveStock { sku, .. }
            | Self::StockReserved { sku, .. }
            | Self::StockRejected { sku, .. }
            | Self::StockCommitted { sku, .. }
            | Self::StockReleased { sku, .. }
            | Self::StockHoldOverdue { sku, .. }
            | Self::StockAdjusted { sku, .. } => sku.as_str(),
            Self::ProductCreated { product_id, .. } => product_id.as_str(),
            Self::UserRegistered { user_id }
            | Self::UserLoggedIn { user_id, .. }
            | Self::UserLoginFailed { user_id, .. }
            | Self::UserRoleChanged { user_id, .. }
            | Self::UserPasswordChanged { user_id } => user_id.as_str(),
        }
    }
}

/// A message and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The same for every time this message is given.
    pub id: EventId,
    /// Who says it.
    pub source: Service,
    /// What it is about; the key.
    pub subject: String,
    /// When it happened.
    #[serde(with = "rfc3339")]
    pub time: Timestamp,
    /// Its number among the messages of its source, topic and subject: 1, 2, 3 … without a gap or a repetition. Commands have
    /// none, nor has an event whose place is not known: see ADR 12.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// The version of the payload.
    pub schema: u32,
    /// The request that began it all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// The message that caused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub causation_id: Option<String>,
    /// On whose behalf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// The trace of the request that began it all, as W3C Trace Context writes it; CloudEvents' extension of that name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// What it says: `type` and `data`.
    #[serde(flatten)]
    pub message: Message,
}

impl Envelope {
    /// A message by itself: about its own subject, without a number, and caused by nothing that is known.
    #[must_use]
    pub fn new(id: EventId, source: Service, time: Timestamp, message: Message) -> Self {
        Self {
            id,
            source,
            subject: message.subject().to_owned(),
            time,
            seq: None,
            schema: 1,
            correlation_id: None,
            causation_id: None,
            actor: None,
            traceparent: None,
            message,
        }
    }
}

/// The numbers of an event's messages, when its entity had published so many before it. An entity publishes on one topic and
/// about one subject alone, so one count is enough.
#[must_use]
pub fn numbers(messages: &[Message], published_before: Option<u64>) -> Vec<Option<u64>> {
    let mut published = published_before;
    let number = |message: &Message| {
        let next = published.as_mut().filter(|_| message.topic().is_numbered())?;
        *next += 1;
        Some(*next)
    };
    messages.iter().map(number).collect()
}

/// How many of an event's messages are numbered.
#[must_use]
pub fn count_numbered(messages: &[Message]) -> u64 {
    messages.iter().filter(|message| message.topic().is_numbered()).count() as u64
}

/// The id of the `index`-th message that the event `version` of `stream` gives rise to: the same however often the journal
/// is read. It is sorted by `time` like every other id; its other 80 bits are the first of the SHA-256 of where it comes
/// from.
#[must_use]
pub fn event_id(service: Service, stream: &str, version: u64, index: usize, time: Timestamp) -> EventId {
    let origin = format!("{}\n{stream}\n{version}\n{index}", service.name());
    let digest = Sha256::digest(origin.as_bytes());
    let mut low = [0; 16];
    low[6..].copy_from_slice(&digest[..10]);
    let millis = u128::from(time.as_millis().unsigned_abs());
    EventId::from_ulid((millis << 80) | u128::from_be_bytes(low))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_types_is_the_messages_own() {
        let unknown = serde_json::from_str::<Message>(r#"{"type":"?","data":{}}"#).unwrap_err().to_string();
        let (_, expected) = unknown.split_once("expected one of ").unwrap();
        let names: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
        assert_eq!(names, Message::TYPES);
    }

    #[test]
    fn an_approval_says_until_when_it_counts_and_one_of_an_earlier_build_is_read() {
        let old = r#"{"type":"payment.approve","data":{"payment_id":"pay_1","order_id":"ord_1"}}"#;
        let Message::ApprovePayment { expires_at, .. } = serde_json::from_str(old).unwrap() else { panic!() };
        assert_eq!(expires_at, None);
        let approve = Message::ApprovePayment {
            payment_id: PaymentId::parse("pay_1").unwrap(),
            order_id: OrderId::parse("ord_1").unwrap(),
            expires_at: Some(Timestamp::from_millis(1)),
        };
        let json = serde_json::to_value(&approve).unwrap();
        assert_eq!(json["data"]["expires_at"], "1970-01-01T00:00:00.001Z");
        assert_eq!(serde_json::from_value::<Message>(json).unwrap(), approve);
    }

    #[test]
    fn an_envelope_reads_as_the_event_catalogue_says() {
        let order_id = OrderId::parse("ord_1").unwrap();
        let message =
            Message::OrderUpdated { order_id, from: "pending".into(), to: "paid".into(), reason: None, version: 3 };
        let envelope = Envelope {
            id: EventId::parse("evt_1").unwrap(),
            source: Service::Order,
            subject: message.subject().to_owned(),
            time: Timestamp::from_millis(1),
            seq: Some(3),
            schema: 1,
            correlation_id: Some("req_1".into()),
            causation_id: None,
            actor: None,
            traceparent: None,
            message,
        };
        let json = serde_json::to_value(&envelope).unwrap();
        assert_eq!((&json["type"], &json["seq"]), (&"order.updated".into(), &3.into()));
        assert_eq!(json["source"], "order-service");
        assert_eq!(json["subject"], "ord_1");
        assert_eq!(json["time"], "1970-01-01T00:00:00.001Z");
        assert_eq!(json["data"]["to"], "paid");
        assert_eq!(serde_json::from_value::<Envelope>(json).unwrap(), envelope);
    }

    #[test]
    fn events_are_numbered_on_from_what_was_published_and_commands_are_not() {
        let order_id = || OrderId::parse("ord_1").unwrap();
        let event =
            || Message::OrderCancelled { order_id: order_id(), reason: "customer".into(), refund_required: false };
        let command = || Message::ApprovePayment {
            payment_id: PaymentId::parse("pay_1").unwrap(),
            order_id: order_id(),
            expires_at: None,
        };
        let messages = [command(), event(), command(), event()];
        assert_eq!(numbers(&messages, Some(4)), [None, Some(5), None, Some(6)]);
        assert_eq!(numbers(&messages, None), [None; 4]);
        assert_eq!(count_numbered(&messages), 2);
        assert_eq!(Topic::ALL.into_iter().filter(|topic| topic.is_numbered()).count(), 5);
        let without =
            Envelope::new(EventId::parse("evt_1").unwrap(), Service::Order, Timestamp::from_millis(1), command());
        let json = serde_json::to_value(&without).unwrap();
        assert!(json.get("seq").is_none(), "{json}");
        assert_eq!(serde_json::from_value::<Envelope>(json).unwrap(), without);
    }
}
