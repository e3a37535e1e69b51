//! Passwords that are changed: by their owner, who shows the present one, or by the operator.
//!
//! Whoever signed in with the former one is out: their sessions end, all but the one that changes it.

use contracts::{SessionId, UserId};
use runtime::{AskError, RequestContext};

use crate::{
    access::carried_through,
    commands::{at, fresh_command_id},
    error::UserError,
    password::{Password, Verdict},
    refusals::{Reason, Who},
    role::Authority,
    service::UserService,
    session::RevokeReason,
    user::{UserAccount, UserCommand, UserRefusal},
    validation::{FieldError, words_about},
};

/// How often a change is tried whose password's hash has been made anew meanwhile, as a sign-in does.
const TRIES_MAX: u32 = 3;

impl UserService {
    /// Gives a user another password, who shows the present one, and ends their other sessions; says which. Carried through
    /// also when its caller has gone.
    ///
    /// # Errors
    /// [`UserError::InvalidCredentials`] for another password than the present one; [`UserError::Invalid`] for a new one that
    /// is not good; [`UserError::NotFound`], `Busy`, `Unavailable`.
    pub async fn change_password(
        &self,
        user_id: &UserId,
        session_id: &SessionId,
        current: Password,
        new: Password,
        context: &RequestContext,
    ) -> Result<Vec<SessionId>, UserError> {
        let (service, user_id, session_id, context) =
            (self.clone(), user_id.clone(), session_id.clone(), context.clone());
        carried_through(async move {
            for _ in 0..TRIES_MAX {
                let account = service.account(&user_id, &context).await?;
                service.judge(&account, &new, &context).await?;
                let shown =
                    service.passwords.verify(current.clone(), Some(account.password_hash.clone()), context.deadline);
                if shown.await? == Verdict::Wrong || account.disabled {
                    service.refusals.note(&service.users, Who::User(&user_id), Reason::WrongPassword, &context);
                    return Err(UserError::InvalidCredentials);
                }
                let replaces = Some(account.password_hash);
                if service.store(&user_id, replaces, &new, Authority::Owner, &context).await? {
                    let reason = RevokeReason::PasswordChanged;
                    return service.end_sessions(&user_id, Some(&session_id), reason, &context).await;
                }
            }
            Err(UserError::Busy)
        })
        .await
    }

    /// Gives a user another password without asking for the present one, and ends all their sessions; says which.
    ///
    /// # Errors
    /// [`UserError::NotFound`], `Busy`, `Unavailable`.
    pub(crate) async fn reset_password(
        &self,
        user_id: &UserId,
        new: Password,
        by: Authority,
        context: &RequestContext,
    ) -> Result<Vec<SessionId>, UserError> {
        self.store(user_id, None, &new, by, context).await?;
        self.end_sessions(user_id, None, RevokeReason::PasswordChanged, context).await
    }

    async fn judge(&self, account: &UserAccount, new: &Password, context: &RequestContext) -> Result<(), UserError> {
        let words = words_about(account.email.as_str(), &account.first_name, &account.last_name);
        match self.passwords.fault_of(new.clone(), words, context.deadline).await? {
            Some(reason) => Err(UserError::Invalid(vec![FieldError { field: "new_password", reason }])),
            None => Ok(()),
        }
    }

    /// Stores the hash of a new password; false when another hash than the one that it replaces is stored by now.
    async fn store(
        &self,
        user_id: &UserId,
        replaces: Option<String>,
        new: &Password,
        by: Authority,
        context: &RequestContext,
    ) -> Result<bool, UserError> {
        let password_hash = self.passwords.hash(new.clone(), context.deadline).await?;
        let actor = match &by {
            Authority::Owner => user_id.to_string(),
            by => by.to_string(),
        };
        let command = UserCommand::ChangePassword { replaces, password_hash, by: by.clone(), at: at(context) };
        let meta = context.command(fresh_command_id("change-password")).on_behalf_of(actor);
        match self.users.ask(user_id.as_str(), command, meta).await {
            Ok(_) => {
                let remote = context.remote.map(tracing::field::display);
                tracing::info!(%user_id, %by, remote, correlation_id = %context.correlation_id, "password changed");
                Ok(true)
            }
            Err(AskError::Refused(UserRefusal::OtherPassword)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
