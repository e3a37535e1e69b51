//! What a user is called and where they live, and how that is changed.
//!
//! A change is a JSON merge patch (RFC 7396): what is not named stays, `null` removes, an object is merged.

use std::collections::BTreeMap;

use contracts::{Timestamp, UserId};
use serde::{Deserialize, Deserializer, Serialize};

use crate::{Email, Role, role::Grant};

/// A postal address; a part that was not given is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// Street and number.
    pub street: String,
    /// City.
    pub city: String,
    /// State or province.
    pub state: String,
    /// Postal code.
    pub zip: String,
    /// Country.
    pub country: String,
}

/// A user as they see themselves. It is also the document in the table `users`; times are milliseconds there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Who.
    pub user_id: UserId,
    /// The normalised e-mail address.
    pub email: Email,
    /// Given name.
    pub first_name: String,
    /// Family name.
    pub last_name: String,
    /// Telephone number, as it was given.
    pub phone: Option<String>,
    /// Postal address.
    pub address: Option<Address>,
    /// What they may do.
    pub roles: Vec<Role>,
    /// When they registered.
    pub created_at: Timestamp,
    /// When this last changed.
    pub updated_at: Timestamp,
    /// Counts the changes of this, from 1: the entity tag.
    pub version: u64,
    /// How they came to each role beyond [`Role::Customer`]: for who administers them.
    #[serde(default)]
    pub grants: BTreeMap<Role, Grant>,
    /// Whether they may not sign in.
    #[serde(default)]
    pub disabled: bool,
    /// Passwords that they have had before this one.
    #[serde(default)]
    pub credential: u64,
}

impl Profile {
    /// Whether they administer the shop now.
    #[must_use]
    pub fn is_administrator(&self) -> bool {
        !self.disabled && self.roles.contains(&Role::Admin)
    }
}

/// One member of a merge patch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Change<T> {
    /// It was not named: it stays as it is.
    #[default]
    Keep,
    /// It was `null`: it goes.
    Remove,
    /// It becomes this, or is merged with it.
    Set(T),
}

impl<T> Change<T> {
    /// What becomes of `current`.
    #[must_use]
    pub fn apply(self, current: Option<T>) -> Option<T> {
        match self {
            Self::Keep => current,
            Self::Remove => None,
            Self::Set(new) => Some(new),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Change<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::<T>::deserialize(deserializer)?.map_or(Self::Remove, Self::Set))
    }
}

/// A merge patch of an address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct AddressPatch {
    /// Street and number.
    pub street: Change<String>,
    /// City.
    pub city: Change<String>,
    /// State or province.
    pub state: Change<String>,
    /// Postal code.
    pub zip: Change<String>,
    /// Country.
    pub country: Change<String>,
}

impl AddressPatch {
    /// What becomes of `current`.
    #[must_use]
    pub fn apply(self, current: Option<Address>) -> Address {
        let current = current.unwrap_or_default();
        let part = |change: Change<String>, current: String| change.apply(Some(current)).unwrap_or_default();
        Address {
            street: part(self.street, current.street),
            city: part(self.city, current.city),
            state: part(self.state, current.state),
            zip: part(self.zip, current.zip),
            country: part(self.country, current.country),
        }
    }
}

/// A merge patch of a profile. Members that a user cannot change, such as the e-mail address, are not read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ProfilePatch {
    /// Given name; it cannot be removed.
    pub first_name: Change<String>,
    /// Family name; it cannot be removed.
    pub last_name: Change<String>,
    /// Telephone number.
    pub phone: Change<String>,
    /// Postal address.
    pub address: Change<AddressPatch>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_stays_null_removes_and_an_address_is_merged() {
        let patch: ProfilePatch =
            serde_json::from_str(r#"{"last_name":"New","phone":null,"address":{"city":"B","zip":null}}"#).unwrap();
        assert_eq!(patch.first_name, Change::Keep);
        assert_eq!(patch.last_name, Change::Set("New".to_owned()));
        assert_eq!(patch.phone, Change::Remove);
        let Change::Set(address) = patch.address else { panic!("an address is there") };
        let current = Address { street: "S".into(), city: "A".into(), zip: "1".into(), ..Address::default() };
        let merged = address.apply(Some(current));
        assert_eq!(merged, Address { street: "S".into(), city: "B".into(), ..Address::default() });
    }
}
