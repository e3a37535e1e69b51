//! What may be done to the administrators from the machine that the shop runs on: by its port while it runs, in its directory
//! while it does not. The operator is trusted with the machine and so with its data; what they do is in the events, in
//! their name, like everything else.

use contracts::{SessionId, UserId};
use runtime::RequestContext;
use serde::{Deserialize, Serialize};

use crate::{
    access::AccessChange,
    error::UserError,
    password::{Password, random_letters},
    profile::Profile,
    role::{Authority, Role},
    service::UserService,
    validation::Registration,
};

/// Random letters in an address that is made up: 60 bits, so that nobody has registered it before.
const ADDRESS_LETTERS: usize = 12;
/// Why, in the events.
const REASON: &str = "by the operator";

/// What the operator wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperatorWish {
    /// Another administrator, with an account of their own and a generated password.
    Create {
        /// Their address.
        email: String,
    },
    /// Who administers the shop.
    List,
    /// A new generated password for an administrator.
    ResetPassword {
        /// Their id, or their address.
        user: String,
    },
    /// An administrator is one no longer.
    Revoke {
        /// Their id, or their address.
        user: String,
    },
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperatorAnswer {
    /// The account, and its password, which nobody else knows.
    Credentials {
        /// Whose.
        user_id: UserId,
        /// The password in clear.
        password: String,
    },
    /// The administrators, a line each: id, masked address, how and when they became one.
    Administrators(Vec<String>),
    /// The one who is none any more.
    Revoked(UserId),
}

impl UserService {
    /// Does what the operator wants. Beside the answer: the sessions that ended with it.
    ///
    /// # Errors
    /// As the use cases it stands for; [`UserError::NotAnAdministrator`] for a user who is none.
    pub async fn for_operator(
        &self,
        wish: OperatorWish,
        context: &RequestContext,
    ) -> Result<(OperatorAnswer, Vec<SessionId>), UserError> {
        let context = &RequestContext { actor: Some("operator".into()), ..context.clone() };
        match wish {
            OperatorWish::Create { email } => {
                let password = Password::generate()?;
                let registration = administrator(&email, &password);
                let user_id = self.make_administrator(registration, Authority::Operator, REASON, context).await?;
                Ok((OperatorAnswer::Credentials { user_id, password: password.reveal().to_owned() }, Vec::new()))
            }
            OperatorWish::List => {
                let administrators = self.administrators(context).await?;
                Ok((OperatorAnswer::Administrators(administrators.iter().map(line).collect()), Vec::new()))
            }
            OperatorWish::ResetPassword { user } => {
                let (user_id, password) = (self.administrator(&user, context).await?, Password::generate()?);
                let ended = self.reset_password(&user_id, password.clone(), Authority::Operator, context).await?;
                Ok((OperatorAnswer::Credentials { user_id, password: password.reveal().to_owned() }, ended))
            }
            OperatorWish::Revoke { user } => {
                let user_id = self.administrator(&user, context).await?;
                let mut roles = self.account(&user_id, context).await?.roles;
                roles.retain(|role| *role != Role::Admin);
                let change = AccessChange { roles: Some(roles), disabled: None };
                let changed = self.change_access(&user_id, change, None, Authority::Operator, REASON, context).await?;
                Ok((OperatorAnswer::Revoked(user_id), changed.ended))
            }
        }
    }

    /// The administrator of that id or address.
    async fn administrator(&self, user: &str, context: &RequestContext) -> Result<UserId, UserError> {
        let user_id = match UserId::parse(user) {
            Ok(user_id) => user_id,
            Err(_) => self.by_email(user).await?.ok_or(UserError::NotFound)?.user_id,
        };
        let is_one = self.account(&user_id, context).await?.is_administrator();
        if is_one { Ok(user_id) } else { Err(UserError::NotAnAdministrator) }
    }
}

/// What an administrator is registered with who has not said their name.
#[must_use]
pub fn administrator(email: &str, password: &Password) -> Registration {
    Registration {
        email: email.to_owned(),
        password: password.clone(),
        first_name: "Shop".to_owned(),
        last_name: "Admin".to_owned(),
        phone: None,
    }
}

/// An address that nobody has and nobody can guess.
///
/// # Errors
/// [`UserError::Unavailable`] when the system gives no random bytes.
pub fn made_up_address() -> Result<String, UserError> {
    Ok(format!("admin-{}@microcommerce.local", random_letters(ADDRESS_LETTERS)?))
}

/// How an administrator became one, for a list that may be logged: no address in clear.
#[must_use]
pub fn line(administrator: &Profile) -> String {
    let how = match administrator.grants.get(&Role::Admin) {
        Some(grant) => format!("{grant}, {}", grant.at.to_rfc3339()),
        None => "unknown".to_owned(),
    };
    format!("{} {} ({how})", administrator.user_id, masked(administrator.email.as_str()))
}

/// The first letter of an address and its domain's: enough for who knows it, nothing for who does not.
fn masked(email: &str) -> String {
    let first = |part: &str| part.chars().next().map_or_else(String::new, |letter| format!("{letter}***"));
    let (local, domain) = email.split_once('@').unwrap_or((email, ""));
    format!("{}@{}", first(local), first(domain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_masked_and_a_made_up_one_is_an_address() {
        assert_eq!(masked("ann@example.com"), "a***@e***");
        let (one, other) = (made_up_address().unwrap(), made_up_address().unwrap());
        assert!(crate::Email::parse(&one).is_ok() && one != other, "{one} {other}");
    }
}
