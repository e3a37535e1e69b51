//! What happens to a user, as their journal has it.

use contracts::{SessionId, Timestamp};
use runtime::entity::EventPayload;
use serde::{Deserialize, Serialize};

use crate::{
    email::Email,
    profile::Address,
    role::{Authority, Role},
};

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
