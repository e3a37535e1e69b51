//! A user: one writer for their profile, their roles and their password's hash.
//!
//! The entity's id is the user id. [`UserAccount::version`] counts the changes that the user, or who administers them, can
//! see: a new hash, or a sign-in that was refused, leaves it as it is.
//!
//! Every event that changes what a user may do says on whose word it does, and why.

use std::collections::BTreeMap;

use contracts::{Timestamp, UserId};
use runtime::{Entity, EntityId, ViewWrite};

use crate::{
    profile::{Change, ProfilePatch},
    role::{Authority, Grant, Role},
};

mod command;
mod event;
mod state;
#[cfg(test)]
mod tests;

pub use self::{
    command::{UserCommand, UserRefusal},
    event::UserEvent,
    state::{UserAccount, UserState},
};

const UPSERT_USER: &str = "INSERT INTO users (user_id, email, password_hash, doc, created_at, updated_at, version) \
                           VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (user_id) DO UPDATE SET doc = excluded.doc, \
                           password_hash = excluded.password_hash, updated_at = excluded.updated_at, \
                           version = excluded.version";

/// The entity.
pub struct User;

impl Entity for User {
    const KIND: &'static str = "user";
    // 2: how they came to their roles, whether they are disabled, and their former passwords.
    const STATE_VERSION: u32 = 2;
    const TABLES: &'static [&'static str] = &[crate::views::USER_TABLES];
    // 2: the same in the document, and the index of the administrators.
    const VIEW_VERSION: u32 = 2;
    type State = UserState;
    type Command = UserCommand;
    type Event = UserEvent;
    type Refusal = UserRefusal;

    fn decide(state: &UserState, command: UserCommand) -> Result<Vec<UserEvent>, UserRefusal> {
        match (&state.account, command) {
            (None, UserCommand::Register { email, password_hash, first_name, last_name, phone, administrator, at }) => {
                let roles = vec![Role::Customer];
                let registered =
                    UserEvent::Registered { email, password_hash, first_name, last_name, phone, roles, at };
                Ok([registered].into_iter().chain(administrator.map(made_administrator)).collect())
            }
            (None, _) => Err(UserRefusal::NotRegistered),
            (Some(_), UserCommand::Register { .. }) => Err(UserRefusal::AlreadyRegistered),
            (Some(account), UserCommand::ChangeProfile { patch, expected_version, at }) => {
                change_profile(account, patch, expected_version, at)
            }
            (Some(account), UserCommand::ChangeAccess { roles, disabled, by, reason, expected_version, at }) => {
                if expected_version != account.version {
                    return Err(UserRefusal::OtherVersion { current: account.version });
                }
                Ok(change_access(account, roles, disabled, by, reason, at))
            }
            (Some(account), UserCommand::ChangePassword { replaces, password_hash, by, at }) => {
                if replaces.is_some_and(|replaces| replaces != account.password_hash) {
                    return Err(UserRefusal::OtherPassword);
                }
                Ok(vec![UserEvent::PasswordChanged { password_hash, by, at }])
            }
            (Some(_), UserCommand::RecordRefusedSignIn { ip_hash, at }) => {
                Ok(vec![UserEvent::SignInRefused { ip_hash, at }])
            }
            (Some(account), UserCommand::ChangePasswordHash { replaces, password_hash }) => {
                let is_current = account.password_hash == replaces;
                Ok(if is_current { vec![UserEvent::PasswordRehashed { password_hash }] } else { vec![] })
            }
            (Some(_), UserCommand::RecordSignIn { session_id, at }) => Ok(vec![UserEvent::SignedIn { session_id, at }]),
        }
    }

    fn published(state: &UserState) -> Option<u64> {
        Some(state.published)
    }

    fn evolve(state: &mut UserState, event: &UserEvent) {
        state.published += event.publishes();
        if let UserEvent::Registered { email, password_hash, first_name, last_name, phone, roles, at } = event {
            state.account = Some(UserAccount {
                email: email.clone(),
                password_hash: password_hash.clone(),
                first_name: first_name.clone(),
                last_name: last_name.clone(),
                phone: phone.clone(),
                address: None,
                roles: roles.clone(),
                created_at: *at,
                updated_at: *at,
                version: 1,
                grants: BTreeMap::new(),
                disabled: false,
                credential: 0,
            });
            if let Some(account) = &mut state.account {
                account.note_grants(None, "", *at);
            }
        } else if let Some(account) = &mut state.account {
            account.evolve(event);
        }
    }

    fn views(id: &EntityId, state: &UserState, event: &UserEvent, _: i64) -> Vec<ViewWrite> {
        let Some(account) = &state.account else { return Vec::new() };
        if matches!(event, UserEvent::SignedIn { .. } | UserEvent::SignInRefused { .. }) {
            return Vec::new();
        }
        let user_id = UserId::parse(id).expect("a user's stream is named by a user id");
        let profile = account.profile(user_id);
        let doc = serde_json::to_string(&profile).expect("a profile is plain data");
        let params = vec![
            (&**id).into(),
            account.email.as_str().into(),
            account.password_hash.as_str().into(),
            doc.into(),
            account.created_at.as_millis().into(),
            account.updated_at.as_millis().into(),
            account.version.cast_signed().into(),
        ];
        vec![ViewWrite::new(UPSERT_USER, params)]
    }
}

fn change_profile(
    account: &UserAccount,
    patch: ProfilePatch,
    expected_version: Option<u64>,
    at: Timestamp,
) -> Result<Vec<UserEvent>, UserRefusal> {
    if expected_version.is_some_and(|expected| expected != account.version) {
        return Err(UserRefusal::OtherVersion { current: account.version });
    }
    let mut changed = account.clone();
    let name = |change: Change<String>, current: &str| change.apply(None).unwrap_or_else(|| current.to_owned());
    changed.first_name = name(patch.first_name, &account.first_name);
    changed.last_name = name(patch.last_name, &account.last_name);
    changed.phone = patch.phone.apply(changed.phone);
    changed.address = match patch.address {
        Change::Keep => changed.address,
        Change::Remove => None,
        Change::Set(address) => Some(address.apply(changed.address)),
    };
    if changed == *account {
        return Ok(vec![]);
    }
    let UserAccount { first_name, last_name, phone, address, .. } = changed;
    Ok(vec![UserEvent::ProfileChanged { first_name, last_name, phone, address, at }])
}

/// The event that follows the registration of somebody who is an administrator from the first moment.
fn made_administrator(Grant { by, reason, at }: Grant) -> UserEvent {
    let granted_by = by.unwrap_or(Authority::Operator);
    UserEvent::RolesChanged { roles: vec![Role::Customer, Role::Admin], granted_by, reason, at }
}

fn change_access(
    account: &UserAccount,
    roles: Option<Vec<Role>>,
    disabled: Option<bool>,
    by: Authority,
    reason: String,
    at: Timestamp,
) -> Vec<UserEvent> {
    let mut events = Vec::new();
    if let Some(mut roles) = roles {
        roles.push(Role::Customer);
        roles.sort_unstable();
        roles.dedup();
        let mut present = account.roles.clone();
        present.sort_unstable();
        if roles != present {
            let (granted_by, reason) = (by.clone(), reason.clone());
            events.push(UserEvent::RolesChanged { roles, granted_by, reason, at });
        }
    }
    match disabled {
        Some(true) if !account.disabled => events.push(UserEvent::Disabled { by, reason, at }),
        Some(false) if account.disabled => events.push(UserEvent::Enabled { by, reason, at }),
        _ => {}
    }
    events
}
