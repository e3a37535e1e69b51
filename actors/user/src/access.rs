//! Who may do what: roles, who may sign in at all, and who administers the shop.
//!
//! A role is given by an administrator, or to the account that a shop without an administrator makes when it starts, or that
//! the operator makes; never to one that somebody registered. That one administrator is left is decided by
//! [`crate::administrators`], in whose name every change of one begins and ends; the user's own stream is the truth. What
//! somebody loses, they lose at once: their sessions end with the change.

use std::future::Future;

use contracts::{SessionId, Timestamp, UserId};
use runtime::{CommandId, RequestContext};
use ulid::Ulid;

use crate::{
    administrators::{self, ADMINISTRATORS_MAX, AdministratorsCommand, AdministratorsState},
    commands::{at, fresh_command_id},
    email::Email,
    error::UserError,
    profile::Profile,
    role::{Authority, Grant, Role},
    service::{UserService, read_profile},
    session::RevokeReason,
    user::{UserAccount, UserCommand},
    validation::Registration,
    views::ADMINISTRATORS,
};

/// Rows of the administrators' index that are looked at: those that count, and disabled ones beside them.
const ADMINISTRATORS_LOOKED_AT_MAX: i64 = 10 * ADMINISTRATORS_MAX as i64;

/// What an administrator changes of somebody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessChange {
    /// All the roles from now on.
    pub roles: Option<Vec<Role>>,
    /// Whether they may not sign in.
    pub disabled: Option<bool>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct AccessChanged {
    /// The user as they are now.
    pub profile: Profile,
    /// Their sessions that ended with it: no token of theirs is to be taken from now on.
    pub ended: Vec<SessionId>,
}

/// A page of users, by their ids.
#[derive(Clone, Debug)]
pub struct UserPage {
    /// The users.
    pub users: Vec<Profile>,
    /// The last of them, if others follow.
    pub next: Option<UserId>,
}

/// Whose an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressOf {
    /// Nobody's.
    Nobody,
    /// Somebody's who is no administrator.
    Customer,
    /// An administrator's.
    Administrator,
}

impl UserService {
    /// Makes an administrator with an account of their own, on the word of `by`.
    ///
    /// # Errors
    /// [`UserError::EmailTaken`]: an account that somebody registered is given no role here. [`UserError::Invalid`],
    /// [`UserError::TooManyAdministrators`], `Busy`, `Unavailable`.
    pub async fn make_administrator(
        &self,
        registration: Registration,
        by: Authority,
        reason: &str,
        context: &RequestContext,
    ) -> Result<UserId, UserError> {
        let valid = self.validate(registration, context).await?;
        if self.stored(&valid.email).await?.is_some() {
            return Err(UserError::EmailTaken);
        }
        if self.certain_administrators(context).await?.members.len() >= ADMINISTRATORS_MAX {
            return Err(UserError::TooManyAdministrators);
        }
        let grant = Grant { by: Some(by.clone()), reason: reason.to_owned(), at: at(context) };
        let profile = self.create(valid, Some(grant), None, context).await?;
        // A crash before this is set right at the next start.
        self.settle(&profile.user_id, None, context).await?;
        self.log_change("administrator made", &profile.user_id, &[Role::Customer, Role::Admin], &by, reason, context);
        Ok(profile.user_id)
    }

    /// The administrators and how each became one, by id.
    ///
    /// # Errors
    /// `Busy`, `Unavailable`.
    pub async fn administrators(&self, context: &RequestContext) -> Result<Vec<Profile>, UserError> {
        let rows = self.journal.query(ADMINISTRATORS, vec![ADMINISTRATORS_LOOKED_AT_MAX.into()]).await?;
        let mut administrators = Vec::new();
        for row in &rows {
            let user_id = read_profile(row, 0)?.user_id;
            // A row that an earlier build wrote does not say how: the user's stream does.
            let account = self.account(&user_id, context).await?;
            if account.is_administrator() {
                administrators.push(account.profile(user_id));
            }
        }
        Ok(administrators)
    }

    /// Sets right what a crash, or a build that did not know of it, has left of who is an administrator.
    ///
    /// # Errors
    /// `Busy`, `Unavailable`.
    pub async fn settle_administrators(&self, context: &RequestContext) -> Result<(), UserError> {
        let rows = self.journal.query(ADMINISTRATORS, vec![ADMINISTRATORS_LOOKED_AT_MAX.into()]).await?;
        let known = self.certain_administrators(context).await?;
        let mut user_ids: Vec<UserId> = known.members.into_iter().chain(known.changing.into_keys()).collect();
        for row in &rows {
            user_ids.push(read_profile(row, 0)?.user_id);
        }
        user_ids.sort();
        user_ids.dedup();
        for user_id in user_ids {
            self.settle(&user_id, None, context).await?;
        }
        Ok(())
    }

    /// Whose an address is; nobody's where it is none.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn owner_of(&self, email: &str) -> Result<AddressOf, UserError> {
        Ok(match self.by_email(email).await? {
            None => AddressOf::Nobody,
            Some(profile) if profile.is_administrator() => AddressOf::Administrator,
            Some(_) => AddressOf::Customer,
        })
    }

    pub(crate) async fn by_email(&self, email: &str) -> Result<Option<Profile>, UserError> {
        let Ok(email) = Email::parse(email) else { return Ok(None) };
        Ok(self.stored(&email).await?.map(|stored| stored.profile))
    }

    /// Users by id, after `after`.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn list_users(&self, after: Option<&UserId>, limit: u32) -> Result<UserPage, UserError> {
        let sql = "SELECT doc FROM users WHERE user_id > ?1 ORDER BY user_id LIMIT ?2";
        let params = vec![after.map_or("", UserId::as_str).into(), (i64::from(limit) + 1).into()];
        let rows = self.journal.query(sql, params).await?;
        let mut users = rows.iter().map(|row| read_profile(row, 0)).collect::<Result<Vec<_>, _>>()?;
        let has_more = users.len() > limit as usize;
        users.truncate(limit as usize);
        let next = users.last().filter(|_| has_more).map(|user| user.user_id.clone());
        Ok(UserPage { users, next })
    }

    /// Changes what a user may do, if `expected_version` is their version or is not given. What they lose, they lose at
    /// once: then all their sessions end. It is carried through also when its caller has gone.
    ///
    /// # Errors
    /// [`UserError::LastAdministrator`], [`UserError::TooManyAdministrators`], [`UserError::InProgress`],
    /// [`UserError::Precondition`], [`UserError::NotFound`], `Busy`, `Unavailable`.
    pub async fn change_access(
        &self,
        user_id: &UserId,
        change: AccessChange,
        expected_version: Option<u64>,
        by: Authority,
        reason: &str,
        context: &RequestContext,
    ) -> Result<AccessChanged, UserError> {
        let (service, user_id, reason, context) = (self.clone(), user_id.clone(), reason.to_owned(), context.clone());
        carried_through(async move {
            let work = Work { service: &service, user_id: &user_id, by, reason: &reason, context: &context };
            work.change(change, expected_version).await
        })
        .await
    }

    /// A user by their own stream.
    pub(crate) async fn account(&self, user_id: &UserId, context: &RequestContext) -> Result<UserAccount, UserError> {
        let account = self.users.read(user_id.as_str(), context.deadline, |state, _| state.account.clone());
        account.await?.ok_or(UserError::NotFound)
    }

    async fn certain_administrators(&self, context: &RequestContext) -> Result<AdministratorsState, UserError> {
        Ok(self.administrators.read(administrators::ID, context.deadline, |state, _| state.clone()).await?)
    }

    /// Ends a change of this user, or sets right what nobody changes: what they are is what their stream says.
    async fn settle(&self, user_id: &UserId, change: Option<&str>, context: &RequestContext) -> Result<(), UserError> {
        let is_member = match self.account(user_id, context).await {
            Ok(account) => account.is_administrator(),
            Err(UserError::NotFound) => false,
            Err(error) => return Err(error),
        };
        let settle = AdministratorsCommand::Settle {
            user_id: user_id.clone(),
            change: change.map(str::to_owned),
            is_member,
            now: now(),
        };
        let meta = context.command(fresh_command_id("settle-administrator"));
        self.administrators.ask(administrators::ID, settle, meta).await?;
        Ok(())
    }

    fn log_change(
        &self,
        what: &'static str,
        user_id: &UserId,
        roles: &[Role],
        by: &Authority,
        reason: &str,
        context: &RequestContext,
    ) {
        let roles: Vec<&str> = roles.iter().map(|role| role.name()).collect();
        let remote = context.remote.map(tracing::field::display);
        let correlation_id = &context.correlation_id;
        tracing::info!(%user_id, roles = roles.join(" "), %by, reason, remote, %correlation_id, "{what}");
    }
}

/// The clock that leases of changes are held by: the time of the step, not of the request that asks for it.
fn now() -> Timestamp {
    Timestamp::now()
}

/// Does work to its end, whatever becomes of who asked for it.
pub(crate) async fn carried_through<T: Send + 'static>(
    work: impl Future<Output = Result<T, UserError>> + Send + 'static,
) -> Result<T, UserError> {
    tokio::spawn(work).await.unwrap_or(Err(UserError::Unavailable))
}

/// One change of one user.
struct Work<'a> {
    service: &'a UserService,
    user_id: &'a UserId,
    by: Authority,
    reason: &'a str,
    context: &'a RequestContext,
}

impl Work<'_> {
    async fn change(self, change: AccessChange, expected_version: Option<u64>) -> Result<AccessChanged, UserError> {
        let Self { service, user_id, context, .. } = self;
        let before = service.account(user_id, context).await?;
        if expected_version.is_some_and(|expected| expected != before.version) {
            return Err(UserError::Precondition { current_version: before.version });
        }
        let roles = change.roles.as_ref().unwrap_or(&before.roles);
        let will_be = !change.disabled.unwrap_or(before.disabled) && roles.contains(&Role::Admin);
        let lease = match (before.is_administrator(), will_be) {
            (true, false) => Some(self.begin(true).await?),
            (false, true) => Some(self.begin(false).await?),
            _ => None,
        };
        let outcome = self.ask(change, before.version).await;
        if let Some(lease) = lease {
            service.settle(user_id, Some(&lease), context).await?;
        }
        outcome?;

        let after = service.account(user_id, context).await?;
        if after.version != before.version {
            let what = if after.disabled == before.disabled { "roles changed" } else { "access changed" };
            service.log_change(what, user_id, &after.roles, &self.by, self.reason, context);
        }
        let has_lost = after.disabled || before.roles.iter().any(|role| !after.roles.contains(role));
        let ended = match has_lost {
            true => service.end_sessions(user_id, None, RevokeReason::AccessChanged, context).await?,
            false => Vec::new(),
        };
        Ok(AccessChanged { profile: after.profile(user_id.clone()), ended })
    }

    /// Begins a change of an administrator, in a name of its own.
    async fn begin(&self, is_leaving: bool) -> Result<String, UserError> {
        let change = Ulid::generate().to_string();
        let begin = || {
            let (user_id, change, now) = (self.user_id.clone(), change.clone(), now());
            let command = AdministratorsCommand::Begin { user_id, change, is_leaving, now };
            let meta = self.context.command(fresh_command_id("change-administrator"));
            self.service.administrators.ask(administrators::ID, command, meta)
        };
        let begun = begin().await.map_err(UserError::from);
        let begun = match begun {
            // A crash may have left another out who is one.
            Err(UserError::LastAdministrator) => {
                self.service.settle_administrators(self.context).await?;
                begin().await.map_err(UserError::from)
            }
            begun => begun,
        };
        begun.map(|_| change)
    }

    async fn ask(&self, change: AccessChange, expected_version: u64) -> Result<(), UserError> {
        let command = UserCommand::ChangeAccess {
            roles: change.roles,
            disabled: change.disabled,
            by: self.by.clone(),
            reason: self.reason.to_owned(),
            expected_version,
            at: at(self.context),
        };
        let id: CommandId = fresh_command_id("change-access");
        let meta = self.context.command(id).on_behalf_of(self.by.to_string());
        self.service.users.ask(self.user_id.as_str(), command, meta).await?;
        Ok(())
    }
}
