//! A user: one writer for their profile, their roles and their password's hash.
//!
//! The entity's id is the user id. [`UserAccount::version`] counts the changes that the user, or who administers them, can
//! see: a new hash, or a sign-in that was refused, leaves it as it is.
//!
//! Every event that changes what a user may do says on whose word it does, and why.

use std::collections::BTreeMap;

use contracts::{SessionId, Timestamp, UserId};
use runtime::{Entity, EntityId, ViewWrite, entity::EventPayload};
use serde::{Deserialize, Serialize};

use crate::{
    email::Email,
    profile::{Address, Change, Profile, ProfilePatch},
    role::{Authority, Grant, Role},
};

const UPSERT_USER: &str = "INSERT INTO users (user_id, email, password_hash, doc, created_at, updated_at, version) \
                           VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (user_id) DO UPDATE SET doc = excluded.doc, \
                           password_hash = excluded.password_hash, updated_at = excluded.updated_at, \
                           version = excluded.version";

/// The entity.
pub struct User;

/// Commands of a user. Their texts have passed [`crate::validation`].
#[derive(Clone, Debug)]
pub enum UserCommand {
    /// Become a user.
    Register {
        /// The claimed address.
        email: Email,
        /// The password's hash as a PHC string.
        password_hash: String,
        /// Given name.
        first_name: String,
        /// Family name.
        last_name: String,
        /// Telephone number.
        phone: Option<String>,
        /// How they come to be an administrator from the first moment, if they do. Everybody else is a customer.
        administrator: Option<Grant>,
        /// Now.
        at: Timestamp,
    },
    /// Change the profile.
    ChangeProfile {
        /// What changes.
        patch: ProfilePatch,
        /// Only if this is the present version.
        expected_version: Option<u64>,
        /// Now.
        at: Timestamp,
    },
    /// Change what the user may do. That one administrator is left is not decided here but in [`crate::administrators`].
    ChangeAccess {
        /// All the roles from now on; [`Role::Customer`] is always one.
        roles: Option<Vec<Role>>,
        /// Whether they may sign in at all.
        disabled: Option<bool>,
        /// On whose word.
        by: Authority,
        /// Why.
        reason: String,
        /// Only if this is the present version.
        expected_version: u64,
        /// Now.
        at: Timestamp,
    },
    /// Another password.
    ChangePassword {
        /// The hash of the password that was shown; `None` where none was asked for.
        replaces: Option<String>,
        /// The hash of the new one as a PHC string.
        password_hash: String,
        /// On whose word.
        by: Authority,
        /// Now.
        at: Timestamp,
    },
    /// Note that somebody tried to sign in as this user and was refused.
    RecordRefusedSignIn {
        /// A keyed hash of the network address that they came from.
        ip_hash: Option<String>,
        /// Now.
        at: Timestamp,
    },
    /// Note that they have signed in: a session is about to begin.
    RecordSignIn {
        /// Which.
        session_id: SessionId,
        /// Now.
        at: Timestamp,
    },
    /// Store another hash of the same password, made with today's parameters.
    ChangePasswordHash {
        /// The hash that the new one was made from; if it is no longer the present one, nothing is done.
        replaces: String,
        /// The new hash as a PHC string.
        password_hash: String,
    },
}

/// What happened to a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UserEvent {
    /// They are a user.
    Registered {
        /// Their address.
        email: Email,
        /// Their password's hash.
        password_hash: String,
        /// Given name.
        first_name: String,
        /// Family name.
        last_name: String,
        /// Telephone number.
        phone: Option<String>,
        /// What they may do.
        roles: Vec<Role>,
        /// When.
        at: Timestamp,
    },
    /// The profile is now this.
    ProfileChanged {
        /// Given name.
        first_name: String,
        /// Family name.
        last_name: String,
        /// Telephone number.
        phone: Option<String>,
        /// Postal address.
        address: Option<Address>,
        /// When.
        at: Timestamp,
    },
    /// They may do more. Written by earlier builds, which did not ask on whose word.
    RolesGranted {
        /// The roles that are new.
        roles: Vec<Role>,
        /// When.
        at: Timestamp,
    },
    /// The same password has another hash.
    PasswordRehashed {
        /// The new hash.
        password_hash: String,
    },
    /// They have signed in. It stands here, and not with the session, because what is said of a user is numbered in one place.
    SignedIn {
        /// The session that was about to begin.
        session_id: SessionId,
        /// When.
        at: Timestamp,
    },
    /// These are their roles from now on.
    RolesChanged {
        /// All of them.
        roles: Vec<Role>,
        /// On whose word.
        granted_by: Authority,
        /// Why.
        reason: String,
        /// When.
        at: Timestamp,
    },
    /// They may not sign in any more.
    Disabled {
        /// On whose word.
        by: Authority,
        /// Why.
        reason: String,
        /// When.
        at: Timestamp,
    },
    /// They may sign in again.
    Enabled {
        /// On whose word.
        by: Authority,
        /// Why.
        reason: String,
        /// When.
        at: Timestamp,
    },
    /// They have another password.
    PasswordChanged {
        /// Its hash.
        password_hash: String,
        /// On whose word.
        by: Authority,
        /// When.
        at: Timestamp,
    },
    /// Somebody tried to sign in as them and was refused.
    SignInRefused {
        /// A keyed hash of the network address that they came from.
        ip_hash: Option<String>,
        /// When.
        at: Timestamp,
    },
}

impl UserEvent {
    /// How many numbered messages it gives rise to. Never another number for an event of a journal: the numbers of the
    /// messages after it stand on it. A test holds it against [`mod@crate::outbox`].
    #[must_use]
    pub const fn publishes(&self) -> u64 {
        match self {
            Self::Registered { .. }
            | Self::SignedIn { .. }
            | Self::RolesChanged { .. }
            | Self::PasswordChanged { .. }
            | Self::SignInRefused { .. } => 1,
            Self::ProfileChanged { .. }
            | Self::RolesGranted { .. }
            | Self::PasswordRehashed { .. }
            | Self::Disabled { .. }
            | Self::Enabled { .. } => 0,
        }
    }
}

impl EventPayload for UserEvent {
    fn event_type(&self) -> &'static str {
        match self {
            Self::Registered { .. } => "user.registered",
            Self::ProfileChanged { .. } => "user.profile_changed",
            Self::RolesGranted { .. } => "user.roles_granted",
            Self::PasswordRehashed { .. } => "user.password_rehashed",
            Self::SignedIn { .. } => "user.signed_in",
            Self::RolesChanged { .. } => "user.roles_changed",
            Self::Disabled { .. } => "user.disabled",
            Self::Enabled { .. } => "user.enabled",
            Self::PasswordChanged { .. } => "user.password_changed",
            Self::SignInRefused { .. } => "user.sign_in_refused",
        }
    }
}

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

/// Why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UserRefusal {
    /// Somebody has registered under this id.
    AlreadyRegistered,
    /// Nobody has.
    NotRegistered,
    /// The profile has changed since.
    OtherVersion {
        /// The present version.
        current: u64,
    },
    /// The password, or its hash, has changed since.
    OtherPassword,
}

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

impl UserAccount {
    /// Whether they administer the shop now.
    #[must_use]
    pub fn is_administrator(&self) -> bool {
        !self.disabled && self.roles.contains(&Role::Admin)
    }

    /// Notes how they came to the roles that are new, and forgets those that are gone.
    fn note_grants(&mut self, by: Option<&Authority>, reason: &str, at: Timestamp) {
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

    fn evolve(&mut self, event: &UserEvent) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::AddressPatch;

    fn registered() -> UserEvent {
        UserEvent::Registered {
            email: Email::parse("a@b.de").unwrap(),
            password_hash: "h1".into(),
            first_name: "Ann".into(),
            last_name: "B".into(),
            phone: Some("1".into()),
            roles: vec![Role::Customer],
            at: Timestamp::from_seconds(1),
        }
    }

    fn register() -> UserCommand {
        let UserEvent::Registered { email, password_hash, first_name, last_name, phone, roles, at } = registered()
        else {
            panic!("it is Registered")
        };
        assert_eq!(roles, [Role::Customer]);
        UserCommand::Register { email, password_hash, first_name, last_name, phone, administrator: None, at }
    }

    fn rename(first_name: &str, expected_version: Option<u64>) -> UserCommand {
        UserCommand::ChangeProfile {
            patch: ProfilePatch { first_name: Change::Set(first_name.into()), ..ProfilePatch::default() },
            expected_version,
            at: Timestamp::from_seconds(2),
        }
    }

    fn renamed(first_name: &str) -> UserEvent {
        UserEvent::ProfileChanged {
            first_name: first_name.into(),
            last_name: "B".into(),
            phone: Some("1".into()),
            address: None,
            at: Timestamp::from_seconds(2),
        }
    }

    fn access(roles: Option<&[Role]>, disabled: Option<bool>, expected_version: u64) -> UserCommand {
        let (by, reason, at) = (Authority::Operator, "why".to_owned(), Timestamp::from_seconds(3));
        UserCommand::ChangeAccess { roles: roles.map(<[Role]>::to_vec), disabled, by, reason, expected_version, at }
    }

    fn roles_changed(roles: &[Role]) -> UserEvent {
        let (granted_by, reason, at) = (Authority::Operator, "why".to_owned(), Timestamp::from_seconds(3));
        UserEvent::RolesChanged { roles: roles.to_vec(), granted_by, reason, at }
    }

    fn password(replaces: Option<&str>) -> UserCommand {
        let (by, at) = (Authority::Owner, Timestamp::from_seconds(4));
        UserCommand::ChangePassword { replaces: replaces.map(str::to_owned), password_hash: "h3".into(), by, at }
    }

    fn rehash(replaces: &str) -> UserCommand {
        UserCommand::ChangePasswordHash { replaces: replaces.into(), password_hash: "h2".into() }
    }

    fn after(events: &[UserEvent]) -> UserState {
        let mut state = UserState::default();
        events.iter().for_each(|event| User::evolve(&mut state, event));
        state
    }

    #[test]
    fn given_when_then() {
        use Role::{Admin, Customer, Support};
        let at = Timestamp::from_seconds(3);
        let granted = UserEvent::RolesGranted { roles: vec![Admin], at };
        let (by, reason) = (Authority::Operator, "why".to_owned());
        let disabled = UserEvent::Disabled { by: by.clone(), reason: reason.clone(), at };
        let enabled = UserEvent::Enabled { by, reason, at };
        let other_password =
            |by| UserEvent::PasswordChanged { password_hash: "h3".into(), by, at: Timestamp::from_seconds(4) };
        let rehashed = UserEvent::PasswordRehashed { password_hash: "h2".into() };
        let table = [
            (vec![], register(), Ok(vec![registered()])),
            (vec![], rename("C", None), Err(UserRefusal::NotRegistered)),
            (vec![], access(Some(&[Admin]), None, 1), Err(UserRefusal::NotRegistered)),
            (vec![], password(None), Err(UserRefusal::NotRegistered)),
            (vec![registered()], register(), Err(UserRefusal::AlreadyRegistered)),
            (vec![registered()], rename("C", None), Ok(vec![renamed("C")])),
            (vec![registered()], rename("C", Some(1)), Ok(vec![renamed("C")])),
            (vec![registered()], rename("C", Some(2)), Err(UserRefusal::OtherVersion { current: 1 })),
            (vec![registered(), renamed("C")], rename("D", Some(1)), Err(UserRefusal::OtherVersion { current: 2 })),
            (vec![registered()], rename("Ann", None), Ok(vec![])),
            (vec![registered()], access(Some(&[Admin]), None, 1), Ok(vec![roles_changed(&[Customer, Admin])])),
            (vec![registered()], access(Some(&[Admin]), None, 2), Err(UserRefusal::OtherVersion { current: 1 })),
            (vec![registered(), granted.clone()], access(Some(&[Admin]), None, 2), Ok(vec![])),
            (vec![registered(), granted.clone()], access(Some(&[]), None, 2), Ok(vec![roles_changed(&[Customer])])),
            (
                vec![registered(), granted],
                access(Some(&[Support]), Some(true), 2),
                Ok(vec![roles_changed(&[Customer, Support]), disabled.clone()]),
            ),
            (vec![registered()], access(None, Some(true), 1), Ok(vec![disabled.clone()])),
            (vec![registered(), disabled.clone()], access(None, Some(true), 2), Ok(vec![])),
            (vec![registered(), disabled], access(None, Some(false), 2), Ok(vec![enabled])),
            (vec![registered()], access(None, Some(false), 1), Ok(vec![])),
            (vec![registered()], password(Some("h1")), Ok(vec![other_password(Authority::Owner)])),
            (vec![registered()], password(Some("h2")), Err(UserRefusal::OtherPassword)),
            (vec![registered()], password(None), Ok(vec![other_password(Authority::Owner)])),
            (vec![registered()], rehash("h1"), Ok(vec![rehashed.clone()])),
            (vec![registered(), rehashed], rehash("h1"), Ok(vec![])),
        ];
        for (given, when, then) in table {
            let what = format!("{given:?} {when:?}");
            assert_eq!(User::decide(&after(&given), when), then, "{what}");
        }
    }

    #[test]
    fn a_rehash_changes_no_version_and_everything_else_does() {
        let rehashed = UserEvent::PasswordRehashed { password_hash: "h2".into() };
        let account = after(&[registered(), renamed("C"), rehashed]).account.unwrap();
        assert_eq!((account.version, account.updated_at), (2, Timestamp::from_seconds(2)));
        assert_eq!((account.password_hash.as_str(), account.first_name.as_str()), ("h2", "C"));
    }

    #[test]
    fn who_registers_is_a_customer_and_each_role_beyond_says_how_it_came_about() {
        let account = after(&[registered()]).account.unwrap();
        assert!(!account.is_administrator() && account.grants.is_empty());

        let grant = Grant {
            by: Some(Authority::FirstStart),
            reason: "no administrator".into(),
            at: Timestamp::from_seconds(1),
        };
        let UserCommand::Register { email, password_hash, first_name, last_name, phone, at, .. } = register() else {
            panic!("it is Register")
        };
        let administrator = Some(grant.clone());
        let command = UserCommand::Register { email, password_hash, first_name, last_name, phone, administrator, at };
        let events = User::decide(&UserState::default(), command).unwrap();
        let account = after(&events).account.unwrap();
        assert!(account.is_administrator());
        assert_eq!(account.grants, BTreeMap::from([(Role::Admin, grant.clone())]));

        // A later role does not change how the first came about, and what is taken away is forgotten.
        let more =
            after(&[events.clone(), vec![roles_changed(&[Role::Customer, Role::Support, Role::Admin])]].concat());
        let more = more.account.unwrap();
        assert_eq!(more.grants[&Role::Admin], grant);
        assert_eq!(more.grants[&Role::Support].by, Some(Authority::Operator));
        let less = after(&[events, vec![roles_changed(&[Role::Customer])]].concat()).account.unwrap();
        assert!(less.grants.is_empty() && !less.is_administrator());

        // Earlier builds did not say.
        let old = UserEvent::RolesGranted { roles: vec![Role::Admin], at: Timestamp::from_seconds(3) };
        assert_eq!(after(&[registered(), old]).account.unwrap().grants[&Role::Admin].by, None);
    }

    #[test]
    fn another_password_is_another_credential_and_a_rehash_is_not() {
        let credential = |events: &[UserEvent]| after(events).account.unwrap().credential;
        let (by, at) = (Authority::Owner, Timestamp::from_seconds(4));
        let changed = UserEvent::PasswordChanged { password_hash: "h3".into(), by, at };
        assert_eq!(credential(&[registered(), UserEvent::PasswordRehashed { password_hash: "h2".into() }]), 0);
        assert_eq!(credential(&[registered(), changed]), 1);
    }

    #[test]
    fn an_address_is_merged_and_removed() {
        let patch = |address| UserCommand::ChangeProfile {
            patch: ProfilePatch { address, ..ProfilePatch::default() },
            expected_version: None,
            at: Timestamp::from_seconds(4),
        };
        let mut state = after(&[registered()]);
        let city = |city: &str| AddressPatch { city: Change::Set(city.into()), ..AddressPatch::default() };
        for (change, expected) in
            [(Change::Set(city("X")), Some("X")), (Change::Keep, Some("X")), (Change::Remove, None)]
        {
            for event in User::decide(&state, patch(change)).unwrap() {
                User::evolve(&mut state, &event);
            }
            let address = state.account.as_ref().unwrap().address.as_ref();
            assert_eq!(address.map(|address| address.city.as_str()), expected);
        }
    }

    #[test]
    fn the_document_of_the_read_model_holds_no_hash() {
        let state = after(&[registered()]);
        let views = User::views(&"usr_1".into(), &state, &registered(), 0);
        let runtime::SqlValue::Text(doc) = &views[0].params[3] else { panic!("the document is text") };
        assert!(!doc.contains("h1"));
        assert_eq!(serde_json::from_str::<Profile>(doc).unwrap().version, 1);
    }
}
