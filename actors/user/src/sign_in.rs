//! Signing in, and what follows from it: sessions, their tokens and their end.
//!
//! It owns no state. Who is refused is told the same and waits as long, whoever they say they are; why is in the log
//! ([`crate::refusals`]).

use contracts::{SessionId, Timestamp, UserId, claims::ACCESS_TOKEN_LIFETIME_SECONDS};
use runtime::{AskError, CommandId, RequestContext, SqlValue};

use crate::{
    commands::{at, fresh_command_id},
    email::Email,
    error::UserError,
    password::{Password, Verdict},
    profile::Profile,
    refresh_token::{RefreshToken, TokenHash},
    refusals::{Reason, Who},
    service::{Stored, UserService},
    session::{RevokeReason, SESSION_LIFETIME_MS, SessionCommand, SessionEvent, SessionRefusal, Standing},
    signed_in::{SignedIn, Tokens},
    user::UserCommand,
    validation::FieldError,
};

/// Sessions that are revoked at one go.
const REVOKED_AT_ONCE_MAX: i64 = 500;
/// The most revoked sessions that are told at once: as many as a verifier remembers.
const REVOKED_TOLD_MAX: i64 = 100_000;

impl UserService {
    /// Signs in with a password. It says the same, and takes as long, for a wrong password and for an unknown address.
    ///
    /// # Errors
    /// [`UserError::InvalidCredentials`], also for somebody who is disabled; [`UserError::Invalid`] where one of the two is
    /// missing; `Busy`, `Unavailable`.
    pub async fn login(
        &self,
        email: &str,
        password: Password,
        context: &RequestContext,
    ) -> Result<SignedIn, UserError> {
        let is_missing = [("email", email.trim().is_empty()), ("password", password.as_str().is_empty())];
        let missing = is_missing.into_iter().filter(|(_, is_missing)| *is_missing);
        let faults: Vec<_> = missing.map(|(field, _)| FieldError { field, reason: "is required".to_owned() }).collect();
        if !faults.is_empty() {
            return Err(UserError::Invalid(faults));
        }
        let refused = |who: Who<'_>, reason| {
            self.refusals.note(&self.users, who, reason, context);
            Err(UserError::InvalidCredentials)
        };
        if password.is_too_long() {
            return refused(Who::Address(email), Reason::WrongPassword);
        }
        let stored = match Email::parse(email) {
            Ok(email) => self.stored(&email).await?,
            Err(_) => None,
        };
        let hash = stored.as_ref().map(|stored| stored.password_hash.clone());
        let verdict = self.passwords.verify(password.clone(), hash, context.deadline).await?;
        let stored = match (stored, verdict) {
            (None, _) => return refused(Who::Address(email), Reason::UnknownAddress),
            (Some(stored), Verdict::Wrong) => {
                return refused(Who::User(&stored.profile.user_id), Reason::WrongPassword);
            }
            (Some(stored), _) if stored.profile.disabled => {
                return refused(Who::User(&stored.profile.user_id), Reason::Disabled);
            }
            (Some(stored), Verdict::Right | Verdict::RightButOutdated) => stored,
        };
        if verdict == Verdict::RightButOutdated {
            self.rehash(&stored, password, context).await;
        }
        self.sign_in(stored.profile, context).await
    }

    /// Spends a refresh token for a new pair. An answer that was lost is given again within
    /// [`crate::session::GRACE_MS`], with the same refresh token.
    ///
    /// # Errors
    /// [`UserError::RefreshReused`] when a spent token comes back, which revokes the session; [`UserError::SessionExpired`]
    /// for any other token that is not good; `Busy`, `Unavailable`.
    pub async fn refresh(&self, refresh_token: &str, context: &RequestContext) -> Result<Tokens, UserError> {
        let presented = RefreshToken::parse(refresh_token).ok_or(UserError::SessionExpired)?;
        let session_id = presented.session_id().clone();
        let (hash, at) = (presented.hash(), at(context));
        // Looked at first: what is no token of a session of ours costs no write.
        let look = self.sessions.read(session_id.as_str(), context.deadline, move |state, _| {
            (state.standing(&hash, at), state.family.as_ref().map(|family| family.user_id.clone()))
        });
        let look = look.await?;
        let (Standing::Good | Standing::Lost | Standing::Reused, Some(user_id)) = look else {
            self.refusals.log_refresh(look.1.as_ref(), &session_id, context);
            return Err(UserError::SessionExpired);
        };
        let profile = self.profile(&user_id).await?;
        if profile.disabled {
            // Their sessions are being ended.
            self.refusals.log_refresh(Some(&user_id), &session_id, context);
            return Err(UserError::SessionExpired);
        }
        let successor = self.tokens.successor(&presented)?;
        let rotate = SessionCommand::Rotate { presented: hash, successor: successor.hash(), at };
        let meta = context.command(fresh_command_id("rotate")).on_behalf_of(user_id.as_str());
        let accepted = self.sessions.ask(session_id.as_str(), rotate, meta).await?;
        if accepted.events.iter().any(|event| matches!(event, SessionEvent::Revoked { .. })) {
            tracing::warn!(
                %user_id,
                %session_id,
                remote = context.remote.map(tracing::field::display),
                correlation_id = %context.correlation_id,
                "a spent refresh token came back; the session is revoked"
            );
            return Err(UserError::RefreshReused { session_id });
        }
        self.tokens(&profile, session_id, successor, at)
    }

    /// Ends a session. A session that is over or never was is no error. Its access tokens are good until they expire, for
    /// those who do not ask [`UserService::session_is_live`] or hear of the end.
    ///
    /// # Errors
    /// `Busy`, `Unavailable`.
    pub async fn logout(&self, session_id: &SessionId, context: &RequestContext) -> Result<(), UserError> {
        self.end_session(session_id, RevokeReason::SignedOut, context).await
    }

    async fn end_session(
        &self,
        session_id: &SessionId,
        reason: RevokeReason,
        context: &RequestContext,
    ) -> Result<(), UserError> {
        let revoke = SessionCommand::Revoke { reason, at: at(context) };
        let meta = context.command(fresh_command_id("revoke"));
        match self.sessions.ask(session_id.as_str(), revoke, meta).await {
            Ok(_) | Err(AskError::Refused(SessionRefusal::NotStarted)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Ends all sessions of a user, and says which.
    ///
    /// # Errors
    /// `Busy`, `Unavailable`: then some may be left. Ask again.
    pub async fn logout_everywhere(
        &self,
        user_id: &UserId,
        context: &RequestContext,
    ) -> Result<Vec<SessionId>, UserError> {
        self.end_sessions(user_id, None, RevokeReason::SignedOut, context).await
    }

    /// Ends all sessions of a user but one, and says which.
    pub(crate) async fn end_sessions(
        &self,
        user_id: &UserId,
        but: Option<&SessionId>,
        reason: RevokeReason,
        context: &RequestContext,
    ) -> Result<Vec<SessionId>, UserError> {
        let mut ended = Vec::new();
        loop {
            let live = "SELECT session_id FROM sessions WHERE user_id = ?1 AND revoked_at IS NULL AND expires_at > ?2 \
                        AND session_id <> ?3 ORDER BY created_at LIMIT ?4";
            let but = but.map_or("", SessionId::as_str);
            let params = vec![user_id.as_str().into(), context.at_ms.into(), but.into(), REVOKED_AT_ONCE_MAX.into()];
            let session_ids = self.session_ids(live, params).await?;
            if session_ids.is_empty() {
                return Ok(ended);
            }
            for session_id in session_ids {
                self.end_session(&session_id, reason, context).await?;
                ended.push(session_id);
            }
        }
    }

    /// True while the tokens of a session are good.
    ///
    /// # Errors
    /// `Busy`, `Unavailable`.
    pub async fn session_is_live(&self, session_id: &SessionId, context: &RequestContext) -> Result<bool, UserError> {
        let at = at(context);
        Ok(self.sessions.read(session_id.as_str(), context.deadline, move |state, _| state.is_live(at)).await?)
    }

    /// The sessions revoked at `since` or later, newest first, at most 100,000: for a verifier that starts, and must know
    /// again whose access tokens are not to be taken though they have not expired.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn sessions_revoked_since(&self, since: Timestamp) -> Result<Vec<SessionId>, UserError> {
        let revoked = "SELECT session_id FROM sessions WHERE revoked_at >= ?1 ORDER BY revoked_at DESC LIMIT ?2";
        self.session_ids(revoked, vec![since.as_millis().into(), REVOKED_TOLD_MAX.into()]).await
    }

    pub(crate) async fn sign_in(&self, profile: Profile, context: &RequestContext) -> Result<SignedIn, UserError> {
        let session_id = SessionId::generate();
        let refresh_token = self.tokens.first_refresh_token(&session_id)?;
        let at = at(context);
        let tokens = self.tokens(&profile, session_id.clone(), refresh_token, at)?;
        let refresh_hash: TokenHash = tokens.refresh_token.hash();
        let expires_at = Timestamp::from_millis(at.as_millis().saturating_add(SESSION_LIFETIME_MS));
        // First the word, then the session: no session begins of which nobody is told.
        let note = UserCommand::RecordSignIn { session_id: session_id.clone(), at };
        let note_id = CommandId::of(&["signed_in", session_id.as_str()]);
        let meta = context.command(note_id).on_behalf_of(profile.user_id.as_str());
        self.users.ask(profile.user_id.as_str(), note, meta).await?;
        let start = SessionCommand::Start { user_id: profile.user_id.clone(), refresh_hash, expires_at, at };
        let meta = context.command(fresh_command_id("start")).on_behalf_of(profile.user_id.as_str());
        self.sessions.ask(session_id.as_str(), start, meta).await?;
        // Somebody may have been disabled, or have got another password, while theirs was looked at: then their sessions were
        // ended without this one. Whoever does either later finds this one.
        let account = self.account(&profile.user_id, context).await?;
        if account.disabled || account.credential != profile.credential {
            self.end_session(&session_id, RevokeReason::AccessChanged, context).await?;
            self.refusals.note(&self.users, Who::User(&profile.user_id), Reason::ChangedMeanwhile, context);
            return Err(UserError::InvalidCredentials);
        }
        tracing::info!(
            user_id = %profile.user_id,
            %session_id,
            remote = context.remote.map(tracing::field::display),
            correlation_id = %context.correlation_id,
            "signed in"
        );
        Ok(SignedIn { profile, tokens })
    }

    fn tokens(
        &self,
        profile: &Profile,
        session_id: SessionId,
        refresh_token: RefreshToken,
        at: Timestamp,
    ) -> Result<Tokens, UserError> {
        let access_token = self.tokens.access_token(&profile.user_id, &profile.roles, &session_id, at)?;
        Ok(Tokens { access_token, expires_in_seconds: ACCESS_TOKEN_LIFETIME_SECONDS, refresh_token, session_id })
    }

    /// Brings the hash of a password up to today's parameters. The sign-in does not depend on it.
    async fn rehash(&self, stored: &Stored, password: Password, context: &RequestContext) {
        let user_id = &stored.profile.user_id;
        let Ok(password_hash) = self.passwords.hash(password, context.deadline).await else {
            tracing::warn!(%user_id, "no time to hash a password anew; the next sign-in tries again");
            return;
        };
        let replaces = stored.password_hash.clone();
        let change = UserCommand::ChangePasswordHash { replaces, password_hash };
        let meta = context.command(fresh_command_id("rehash")).on_behalf_of(user_id.as_str());
        if let Err(error) = self.users.ask(user_id.as_str(), change, meta).await {
            tracing::warn!(%user_id, %error, "a new password hash was not stored; the next sign-in tries again");
        }
    }

    async fn session_ids(&self, sql: &'static str, params: Vec<SqlValue>) -> Result<Vec<SessionId>, UserError> {
        let rows = self.journal.query(sql, params).await?;
        rows.iter().map(|row| SessionId::parse(row.text(0)?).map_err(|_| UserError::Unavailable)).collect()
    }
}
