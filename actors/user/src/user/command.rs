//! What may be asked of a user, and why not.

use contracts::{SessionId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    email::Email,
    profile::ProfilePatch,
    role::{Authority, Grant, Role},
};

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
