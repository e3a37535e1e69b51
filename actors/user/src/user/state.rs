//! Who a user is, and how events change it.

use std::collections::BTreeMap;

use contracts::{Timestamp, UserId};
use serde::{Deserialize, Serialize};

use super::event::UserEvent;
use crate::{
    email::Email,
    profile::{Address, Profile},
    role::{Authority, Grant, Role},
};

/// Who the user is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct UserState {
    /// `None` before the registration.
    pub account: Option<UserAccount>,
    /// The numbered messages that were published about them.
    pub published: u64,
}

/// A registered user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserAccount {
    /// Address.
    pub email: Email,
    /// The password's hash as a PHC string.
    pub password_hash: String,
    /// Given name.
    pub first_name: String,
    /// Family name.
    pub last_name: String,
    /// Telephone number.
    pub phone: Option<String>,
    /// Postal address.
    pub address: Option<Address>,
    /// What they may do.
    pub roles: Vec<Role>,
    /// When they registered.
    pub created_at: Timestamp,
    /// When the profile last changed.
    pub updated_at: Timestamp,
    /// Changes of the profile and of the roles, from 1.
    pub version: u64,
    /// How they came to each role beyond [`Role::Customer`].
    pub grants: BTreeMap<Role, Grant>,
    /// Whether they may not sign in.
    pub disabled: bool,
    /// Passwords that they have had before this one.
    pub credential: u64,
}

impl UserAccount {
    /// Whether they administer the shop now.
    #[must_use]
    pub fn is_administrator(&self) -> bool {
        !self.disabled && self.roles.contains(&Role::Admin)
    }

    /// Notes how they came to the roles that are new, and forgets those that are gone.
    pub(super) fn note_grants(&mut self, by: Option<&Authority>, reason: &str, at: Timestamp) {
        let Self { roles, grants, .. } = self;
        grants.retain(|role, _| roles.contains(role));
        for role in roles.iter().filter(|role| **role != Role::Customer) {
            grants.entry(*role).or_insert_with(|| Grant { by: by.cloned(), reason: reason.to_owned(), at });
        }
    }

    /// What the user sees of it.
    #[must_use]
    pub fn profile(&self, user_id: UserId) -> Profile {
        Profile {
            user_id,
            email: self.email.clone(),
            first_name: self.first_name.clone(),
            last_name: self.last_name.clone(),
            phone: self.phone.clone(),
            address: self.address.clone(),
            roles: self.roles.clone(),
            created_at: self.created_at,
            updated_at: self.updated_at,
            version: self.version,
            grants: self.grants.clone(),
            disabled: self.disabled,
            credential: self.credential,
        }
    }

    /// Takes an event into account.
    pub(super) fn evolve(&mut self, event: &UserEvent) {
        match event {
            UserEvent::Registered { .. } | UserEvent::SignInRefused { .. } => {}
            UserEvent::ProfileChanged { first_name, last_name, phone, address, at } => {
                self.first_name.clone_from(first_name);
                self.last_name.clone_from(last_name);
                self.phone.clone_from(phone);
                self.address.clone_from(address);
                self.changed_at(*at);
            }
            UserEvent::RolesGranted { roles, at } => {
                self.roles.extend(roles);
                self.note_grants(None, "", *at);
                self.changed_at(*at);
            }
            UserEvent::RolesChanged { roles, granted_by, reason, at } => {
                self.roles.clone_from(roles);
                self.note_grants(Some(granted_by), reason, *at);
                self.changed_at(*at);
            }
            UserEvent::Disabled { at, .. } => {
                self.disabled = true;
                self.changed_at(*at);
            }
            UserEvent::Enabled { at, .. } => {
                self.disabled = false;
                self.changed_at(*at);
            }
            UserEvent::PasswordRehashed { password_hash } => self.password_hash.clone_from(password_hash),
            UserEvent::SignedIn { .. } => {}
            UserEvent::PasswordChanged { password_hash, .. } => {
                self.password_hash.clone_from(password_hash);
                self.credential += 1;
            }
        }
    }

    fn changed_at(&mut self, at: Timestamp) {
        self.updated_at = at;
        self.version += 1;
    }
}
