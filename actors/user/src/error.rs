//! How the use cases fail. It knows nothing of HTTP: the edge has one table for that.

use contracts::SessionId;
use runtime::{AskError, JournalError};

use crate::{
    administrators::AdministratorsRefusal, email_claim::EmailTaken, password::PasswordError, session::SessionRefusal,
    token_issuer::TokenNotMade, user::UserRefusal, validation::FieldError,
};

/// Why a use case did not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// Somebody has registered with this address.
    #[error("this e-mail address is already registered")]
    EmailTaken,
    /// The address or the password is wrong; which of them is not told.
    #[error("the e-mail address or the password is wrong")]
    InvalidCredentials,
    /// A spent refresh token came back: the session has been revoked.
    #[error("the refresh token was used before; sign in again")]
    RefreshReused {
        /// The session: its access tokens are to be refused from now on.
        session_id: SessionId,
    },
    /// The session is over or was revoked, or the refresh token is none of ours.
    #[error("the session has ended; sign in again")]
    SessionExpired,
    /// There is no such user.
    #[error("there is no such user")]
    NotFound,
    /// These fields are not as they must be; never empty.
    #[error("{} field(s) are not valid", .0.len())]
    Invalid(Vec<FieldError>),
    /// The profile has changed since.
    #[error("the profile has changed; its version is {current_version}")]
    Precondition {
        /// The present version.
        current_version: u64,
    },
    /// The shop would be left without an administrator.
    #[error("the last administrator cannot be removed")]
    LastAdministrator,
    /// There are as many administrators as there may be.
    #[error("there are {} administrators, which is the most", crate::administrators::ADMINISTRATORS_MAX)]
    TooManyAdministrators,
    /// The user is none.
    #[error("this user is no administrator")]
    NotAnAdministrator,
    /// Somebody else is changing what this user may do.
    #[error("what this user may do is being changed; try again shortly")]
    InProgress,
    /// Too much is in flight; nothing was done. Try again shortly.
    #[error("too much is in flight; try again shortly")]
    Busy,
    /// There is no room on the disk; nothing was done.
    #[error("there is no room on the disk; nothing was done")]
    Full,
    /// Whether it was done is unknown. Try again, with the same command key where there is one.
    #[error("the user service does not answer; try again shortly")]
    Unavailable,
}

impl From<AskError<EmailTaken>> for UserError {
    fn from(error: AskError<EmailTaken>) -> Self {
        unless_refused(error, |_| Self::EmailTaken)
    }
}

impl From<AskError<UserRefusal>> for UserError {
    fn from(error: AskError<UserRefusal>) -> Self {
        unless_refused(error, |refusal| match refusal {
            UserRefusal::AlreadyRegistered => Self::EmailTaken,
            UserRefusal::NotRegistered => Self::NotFound,
            UserRefusal::OtherVersion { current } => Self::Precondition { current_version: current },
            UserRefusal::OtherPassword => Self::InvalidCredentials,
        })
    }
}

impl From<AskError<AdministratorsRefusal>> for UserError {
    fn from(error: AskError<AdministratorsRefusal>) -> Self {
        unless_refused(error, |refusal| match refusal {
            AdministratorsRefusal::InProgress => Self::InProgress,
            AdministratorsRefusal::Last => Self::LastAdministrator,
            AdministratorsRefusal::TooMany => Self::TooManyAdministrators,
        })
    }
}

impl From<AskError<SessionRefusal>> for UserError {
    fn from(error: AskError<SessionRefusal>) -> Self {
        unless_refused(error, |_| Self::SessionExpired)
    }
}

impl From<PasswordError> for UserError {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Busy => Self::Busy,
            PasswordError::Failed => Self::Unavailable,
        }
    }
}

impl From<JournalError> for UserError {
    fn from(error: JournalError) -> Self {
        tracing::warn!(%error, "the read model of users does not answer");
        Self::Unavailable
    }
}

impl From<TokenNotMade> for UserError {
    fn from(error: TokenNotMade) -> Self {
        tracing::error!(%error, "no token");
        Self::Unavailable
    }
}

fn unless_refused<R>(error: AskError<R>, refused: impl FnOnce(R) -> UserError) -> UserError {
    match error {
        AskError::Refused(refusal) => refused(refusal),
        AskError::Busy => UserError::Busy,
        AskError::Full => UserError::Full,
        AskError::Parked { .. } | AskError::DeadlineExceeded | AskError::Unavailable => UserError::Unavailable,
    }
}
