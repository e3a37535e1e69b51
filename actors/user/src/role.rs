//! What a user may do, by name, and who said so.

use std::fmt;

use contracts::{Timestamp, UserId};
use serde::{Deserialize, Serialize};

/// A role. Each use case at the edge names the roles it asks for; what no role allows is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Buys, and sees what is theirs. Everybody who registers.
    Customer,
    /// Reads everything, cancels, refunds within a limit.
    Support,
    /// Writes the catalogue and the stock.
    CatalogManager,
    /// Everything.
    Admin,
}

impl Role {
    /// The name in tokens and answers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Customer => "customer",
            Self::Support => "support",
            Self::CatalogManager => "catalog_manager",
            Self::Admin => "admin",
        }
    }

    /// The role of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Customer, Self::Support, Self::CatalogManager, Self::Admin].into_iter().find(|role| role.name() == name)
    }
}

/// On whose word a user may do more, or less, than before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Authority {
    /// Nobody's: a shop without an administrator made one when it started.
    FirstStart,
    /// Whoever runs the shop's machine: a command of the binary, or its settings.
    Operator,
    /// An administrator.
    Administrator(UserId),
    /// The user themselves.
    Owner,
}

/// The name in events and logs: a user id, or a word that is none.
impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FirstStart => f.write_str("first_start"),
            Self::Operator => f.write_str("operator"),
            Self::Administrator(user_id) => f.write_str(user_id.as_str()),
            Self::Owner => f.write_str("owner"),
        }
    }
}

/// How somebody came to a role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// On whose word; `None` where a build wrote it that did not ask.
    pub by: Option<Authority>,
    /// Why, in words.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

/// For people: "first start", "operator", "given by usr_…".
impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.by {
            Some(Authority::FirstStart) => f.write_str("first start"),
            Some(Authority::Operator) => f.write_str("operator"),
            Some(Authority::Owner) => f.write_str("themselves"),
            Some(Authority::Administrator(user_id)) => write!(f, "given by {user_id}"),
            None => f.write_str("unknown: made by an earlier version"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_written_as_its_name() {
        for role in [Role::Customer, Role::Support, Role::CatalogManager, Role::Admin] {
            assert_eq!(serde_json::to_string(&role).unwrap(), format!("\"{}\"", role.name()));
            assert_eq!(Role::named(role.name()), Some(role));
        }
    }
}
