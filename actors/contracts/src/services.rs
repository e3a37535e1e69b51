//! The services by name.

use serde::{Deserialize, Serialize};

/// A service of the shop: one supervised tree, one database, one port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Service {
    /// Payments, refunds and the providers.
    #[serde(rename = "payment-service")]
    Payment,
    /// The catalogue and the stock.
    #[serde(rename = "product-service")]
    Product,
    /// Users, sessions and tokens.
    #[serde(rename = "user-service")]
    User,
    /// Orders and the checkout saga.
    #[serde(rename = "order-service")]
    Order,
}

impl Service {
    /// All of them, in the order of their default ports, 8081 to 8084.
    pub const ALL: [Self; 4] = [Self::Payment, Self::Product, Self::User, Self::Order];

    /// Its place in [`Service::ALL`], for tables of one entry a service.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Payment => 0,
            Self::Product => 1,
            Self::User => 2,
            Self::Order => 3,
        }
    }

    /// The name on the wire, in health reports and as a source of messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Payment => "payment-service",
            Self::Product => "product-service",
            Self::User => "user-service",
            Self::Order => "order-service",
        }
    }

    /// The service called `name`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|service| service.name() == name)
    }
}

impl std::fmt::Display for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a service could not take a message in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InboxError {
    /// Something it needs is not there now: give the message again.
    #[error("not now: {0}")]
    NotNow(String),
    /// It can never be taken in: giving it again is pointless.
    #[error("not a message for this service: {0}")]
    Poison(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_service_stands_at_its_place() {
        assert!(Service::ALL.iter().enumerate().all(|(place, service)| service.index() == place));
    }
}
