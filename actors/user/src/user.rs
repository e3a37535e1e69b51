//! A user: one writer for their profile, their roles and their password's hash.
//!
//! The entity's id is the user id. [`UserAccount::version`] counts the changes that the user can see, so a new hash of the
//! same password leaves it as it is.

use contracts::{SessionId, Timestamp, UserId};
use runtime::{Entity, EntityId, ViewWrite, entity::EventPayload};
use serde::{Deserialize, Serialize};

use crate::{
    email::Email,
    profile::{Address, Change, Profile, ProfilePatch},
    role::Role,
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
        /// What they may do.
        roles: Vec<Role>,
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
    /// Add roles; those already there are left out.
    GrantRoles {
        /// Which.
        roles: Vec<Role>,
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
    /// They may do more.
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
}

impl UserEvent {
    /// How many numbered messages it gives rise to. Never another number for an event of a journal: the numbers of the
    /// messages after it stand on it. A test holds it against [`mod@crate::outbox`].
    #[must_use]
    pub const fn publishes(&self) -> u64 {
        match self {
            Self::Registered { .. } | Self::SignedIn { .. } => 1,
            Self::ProfileChanged { .. } | Self::RolesGranted { .. } | Self::PasswordRehashed { .. } => 0,
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
    /// Changes of the profile, from 1.
    pub version: u64,
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
}

impl Entity for User {
    const KIND: &'static str = "user";
    const TABLES: &'static [&'static str] = &[crate::views::USER_TABLES];
    type State = UserState;
    type Command = UserCommand;
    type Event = UserEvent;
    type Refusal = UserRefusal;

    fn decide(state: &UserState, command: UserCommand) -> Result<Vec<UserEvent>, UserRefusal> {
        match (&state.account, command) {
            (None, UserCommand::Register { email, password_hash, first_name, last_name, phone, roles, at }) => {
                Ok(vec![UserEvent::Registered { email, password_hash, first_name, last_name, phone, roles, at }])
            }
            (None, _) => Err(UserRefusal::NotRegistered),
            (Some(_), UserCommand::Register { .. }) => Err(UserRefusal::AlreadyRegistered),
            (Some(account), UserCommand::ChangeProfile { patch, expected_version, at }) => {
                change_profile(account, patch, expected_version, at)
            }
            (Some(account), UserCommand::GrantRoles { roles, at }) => {
                let roles: Vec<Role> = roles.into_iter().filter(|role| !account.roles.contains(role)).collect();
                Ok(if roles.is_empty() { vec![] } else { vec![UserEvent::RolesGranted { roles, at }] })
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
            });
        } else if let Some(account) = &mut state.account {
            account.evolve(event);
        }
    }

    fn views(id: &EntityId, state: &UserState, event: &UserEvent, _: i64) -> Vec<ViewWrite> {
        let Some(account) = &state.account else { return Vec::new() };
        if matches!(event, UserEvent::SignedIn { .. }) {
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

impl UserAccount {
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
        }
    }

    fn evolve(&mut self, event: &UserEvent) {
        match event {
            UserEvent::Registered { .. } => {}
            UserEvent::ProfileChanged { first_name, last_name, phone, address, at } => {
                self.first_name.clone_from(first_name);
                self.last_name.clone_from(last_name);
                self.phone.clone_from(phone);
                self.address.clone_from(address);
                self.changed_at(*at);
            }
            UserEvent::RolesGranted { roles, at } => {
                self.roles.extend(roles);
                self.changed_at(*at);
            }
            UserEvent::PasswordRehashed { password_hash } => self.password_hash.clone_from(password_hash),
            UserEvent::SignedIn { .. } => {}
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
        UserCommand::Register { email, password_hash, first_name, last_name, phone, roles, at }
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

    fn grant(roles: &[Role]) -> UserCommand {
        UserCommand::GrantRoles { roles: roles.to_vec(), at: Timestamp::from_seconds(3) }
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
        let granted = UserEvent::RolesGranted { roles: vec![Role::Admin], at: Timestamp::from_seconds(3) };
        let rehashed = UserEvent::PasswordRehashed { password_hash: "h2".into() };
        let table = [
            (vec![], register(), Ok(vec![registered()])),
            (vec![], rename("C", None), Err(UserRefusal::NotRegistered)),
            (vec![], grant(&[Role::Admin]), Err(UserRefusal::NotRegistered)),
            (vec![registered()], register(), Err(UserRefusal::AlreadyRegistered)),
            (vec![registered()], rename("C", None), Ok(vec![renamed("C")])),
            (vec![registered()], rename("C", Some(1)), Ok(vec![renamed("C")])),
            (vec![registered()], rename("C", Some(2)), Err(UserRefusal::OtherVersion { current: 1 })),
            (vec![registered(), renamed("C")], rename("D", Some(1)), Err(UserRefusal::OtherVersion { current: 2 })),
            (vec![registered()], rename("Ann", None), Ok(vec![])),
            (vec![registered()], grant(&[Role::Customer, Role::Admin]), Ok(vec![granted.clone()])),
            (vec![registered(), granted], grant(&[Role::Admin]), Ok(vec![])),
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
