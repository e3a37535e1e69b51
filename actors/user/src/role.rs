//! What a user may do, by name.

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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_written_as_its_name() {
        for role in [Role::Customer, Role::Support, Role::CatalogManager, Role::Admin] {
            assert_eq!(serde_json::to_string(&role).unwrap(), format!("\"{}\"", role.name()));
        }
    }
}
