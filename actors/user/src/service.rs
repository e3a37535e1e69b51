//! The user service: its use cases, and the children of its tree.
//!
//! It owns no state: the entities decide, the read model answers. What is read here has been committed. When its journal
//! dies the whole tree is started again, with a new [`UserService`].

use std::{num::NonZeroUsize, sync::Arc, thread, time::Duration};

use contracts::{Envelope, InboxError, SessionId, Timestamp, UserId, claims::ACCESS_TOKEN_LIFETIME_SECONDS};
use runtime::{
    AskError, CommandId, Entities, EntitiesConfig, Entity, Gate, Journal, JournalError, Recorded, RequestContext,
    Roster, Row, SqlValue, ViewSchema, supervision::ChildSpec,
};
use ulid::Ulid;

use crate::{
    email::Email,
    email_claim::{EmailClaim, EmailClaimCommand, EmailClaimEvent, EmailTaken},
    error::UserError,
    outbox,
    password::{Password, Passwords, Verdict},
    profile::{Profile, ProfilePatch},
    refresh_token::{RefreshToken, TokenHash},
    role::Role,
    session::{RevokeReason, SESSION_LIFETIME_MS, Session, SessionCommand, SessionEvent, SessionRefusal, Standing},
    signed_in::{SignedIn, Tokens},
    token_issuer::TokenIssuer,
    user::{User, UserCommand, UserState},
    validation::{FieldError, Registration, ValidRegistration},
};

/// Sessions that are revoked at one go.
const REVOKED_AT_ONCE_MAX: i64 = 500;
/// The most revoked sessions that are told at once.
const REVOKED_TOLD_MAX: i64 = 10_000;

/// The bounds of the service.
#[derive(Clone, Debug)]
pub struct UserServiceConfig {
    /// The bounds of each of its three kinds of entity.
    pub entities: EntitiesConfig,
    /// Passwords hashed at a time: each takes a core and 19 MiB.
    pub hashes_parallel: usize,
    /// How long a caller waits for their turn to have a password hashed, at most.
    pub hash_wait_max: Duration,
}

impl Default for UserServiceConfig {
    fn default() -> Self {
        Self {
            // Three kinds × 2 shards × 5,000 awake × about 8 KiB: at most 240 MB.
            entities: EntitiesConfig { shards: 2, active_per_shard_max: 5_000, ..EntitiesConfig::default() },
            hashes_parallel: thread::available_parallelism().map_or(1, NonZeroUsize::get),
            hash_wait_max: Duration::from_secs(2),
        }
    }
}

/// A user that the operator wants to exist.
#[derive(Clone, Debug)]
pub struct Account {
    /// Name, address and the password that they get if they are new.
    pub registration: Registration,
    /// What they may do besides [`Role::Customer`].
    pub roles: Vec<Role>,
}

/// What came of the wish for a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ensured {
    /// Who.
    pub user_id: UserId,
    /// True when they did not exist before: only then the given password is theirs.
    pub is_new: bool,
}

/// The user service. Clones are the same service.
#[derive(Clone)]
pub struct UserService {
    claims: Entities<EmailClaim>,
    users: Entities<User>,
    sessions: Entities<Session>,
    journal: Arc<dyn Journal>,
    tokens: Arc<TokenIssuer>,
    passwords: Passwords,
}

/// A user as the read model has them.
struct Stored {
    profile: Profile,
    password_hash: String,
}

impl UserService {
    /// The read model: what the journal must be opened with.
    pub const VIEWS: &'static [ViewSchema] = &[ViewSchema::of::<User>(), ViewSchema::of::<Session>()];

    /// The service on `journal`, which must have been opened with [`UserService::VIEWS`]. Nothing runs until a supervisor
    /// starts [`UserService::children`].
    #[must_use]
    pub fn new(
        journal: Arc<dyn Journal>,
        gate: &Arc<Gate>,
        roster: &Roster,
        tokens: Arc<TokenIssuer>,
        config: UserServiceConfig,
    ) -> Self {
        let UserServiceConfig { entities, hashes_parallel, hash_wait_max } = config;
        let roster = roster.scoped("user-service");
        Self {
            claims: Entities::new(Arc::clone(&journal), gate, entities.clone(), roster.clone()),
            users: Entities::new(Arc::clone(&journal), gate, entities.clone(), roster.clone()),
            sessions: Entities::new(Arc::clone(&journal), gate, entities, roster),
            journal,
            tokens,
            passwords: Passwords::new(hashes_parallel, hash_wait_max),
        }
    }

    /// What its supervisor starts: the shards of all three kinds.
    #[must_use]
    pub fn children(&self) -> Vec<ChildSpec> {
        let mut children = self.claims.shards();
        children.extend(self.users.shards());
        children.extend(self.sessions.shards());
        children
    }

    /// The messages of one recorded event; see [`mod@crate::outbox`].
    ///
    /// # Errors
    /// [`JournalError::Corrupt`] when the event cannot be read.
    pub fn outbox(recorded: &Recorded) -> Result<Vec<Envelope>, JournalError> {
        outbox::outbox(recorded)
    }

    /// Takes a message in. No message concerns this service: all are ignored.
    ///
    /// # Errors
    /// None yet.
    pub async fn inbox(&self, envelope: &Envelope) -> Result<(), InboxError> {
        tracing::trace!(id = %envelope.id, "ignored");
        Ok(())
    }

    /// The users by id.
    #[must_use]
    pub fn users(&self) -> &Entities<User> {
        &self.users
    }

    /// The sessions by id.
    #[must_use]
    pub fn sessions(&self) -> &Entities<Session> {
        &self.sessions
    }

    /// The address claims by the addresses' digests ([`Email::digest`]).
    #[must_use]
    pub fn claims(&self) -> &Entities<EmailClaim> {
        &self.claims
    }

    /// The public half of the key that signs access tokens.
    #[must_use]
    pub fn token_issuer(&self) -> &TokenIssuer {
        &self.tokens
    }

    /// Registers a customer and signs them in.
    ///
    /// With a `command_key`, the same registration again is the same user, with a new session; it must show the same
    /// password. If the user was registered and their session could not be started, the answer is `Unavailable`: with a
    /// key, ask again; without one, sign in.
    ///
    /// # Errors
    /// [`UserError::Invalid`] with all that is wrong, [`UserError::EmailTaken`], `Busy`, `Unavailable`.
    pub async fn register(
        &self,
        registration: Registration,
        command_key: Option<&str>,
        context: &RequestContext,
    ) -> Result<SignedIn, UserError> {
        let valid = registration.validate().map_err(UserError::Invalid)?;
        // Without a key a registered address is refused before its password costs anything.
        if command_key.is_none() && self.stored(&valid.email).await?.is_some() {
            return Err(UserError::EmailTaken);
        }
        let profile = self.create(valid, vec![Role::Customer], command_key, context).await?;
        self.sign_in(profile, context).await
    }

    /// Signs in with a password. It says the same, and takes as long, for a wrong password and for an unknown address.
    ///
    /// # Errors
    /// [`UserError::InvalidCredentials`]; [`UserError::Invalid`] where one of the two is missing; `Busy`, `Unavailable`.
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
        let stored = match Email::parse(email) {
            Ok(email) => self.stored(&email).await?,
            Err(_) => None,
        };
        let hash = stored.as_ref().map(|stored| stored.password_hash.clone());
        let verdict = self.passwords.verify(password.clone(), hash, context.deadline).await?;
        let (Some(stored), Verdict::Right | Verdict::RightButOutdated) = (stored, verdict) else {
            tracing::info!(correlation_id = %context.correlation_id, "sign-in refused");
            return Err(UserError::InvalidCredentials);
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
        let (Standing::Good | Standing::Lost | Standing::Reused, Some(user_id)) = look.await? else {
            return Err(UserError::SessionExpired);
        };
        let profile = self.profile(&user_id).await?;
        let successor = self.tokens.successor(&presented)?;
        let rotate = SessionCommand::Rotate { presented: hash, successor: successor.hash(), at };
        let meta = context.command(fresh_command_id("rotate")).on_behalf_of(user_id.as_str());
        let accepted = self.sessions.ask(session_id.as_str(), rotate, meta).await?;
        if accepted.events.iter().any(|event| matches!(event, SessionEvent::Revoked { .. })) {
            tracing::warn!(%user_id, %session_id, "a spent refresh token came back; the session is revoked");
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
        let revoke = SessionCommand::Revoke { reason: RevokeReason::SignedOut, at: at(context) };
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
        let mut ended = Vec::new();
        loop {
            let live = "SELECT session_id FROM sessions WHERE user_id = ?1 AND revoked_at IS NULL AND expires_at > ?2 \
                        ORDER BY created_at LIMIT ?3";
            let params = vec![user_id.as_str().into(), context.at_ms.into(), REVOKED_AT_ONCE_MAX.into()];
            let session_ids = self.session_ids(live, params).await?;
            if session_ids.is_empty() {
                return Ok(ended);
            }
            for session_id in session_ids {
                self.logout(&session_id, context).await?;
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

    /// The sessions revoked at `since` or later, newest first, at most 10,000: for a verifier that starts, and must know
    /// again whose access tokens are not to be taken though they have not expired.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn sessions_revoked_since(&self, since: Timestamp) -> Result<Vec<SessionId>, UserError> {
        let revoked = "SELECT session_id FROM sessions WHERE revoked_at >= ?1 ORDER BY revoked_at DESC LIMIT ?2";
        self.session_ids(revoked, vec![since.as_millis().into(), REVOKED_TOLD_MAX.into()]).await
    }

    /// A user as they see themselves.
    ///
    /// # Errors
    /// [`UserError::NotFound`], `Unavailable`.
    pub async fn profile(&self, user_id: &UserId) -> Result<Profile, UserError> {
        let rows = self.journal.query("SELECT doc FROM users WHERE user_id = ?1", vec![user_id.as_str().into()]);
        let rows = rows.await?;
        rows.first().map_or(Err(UserError::NotFound), |row| read_profile(row, 0))
    }

    /// Changes a profile, if `expected_version` is its version or is not given, and gives what it is now. A patch that
    /// changes nothing leaves the version as it is.
    ///
    /// # Errors
    /// [`UserError::Invalid`] with all that is wrong, [`UserError::Precondition`], [`UserError::NotFound`], `Busy`,
    /// `Unavailable`.
    pub async fn change_profile(
        &self,
        user_id: &UserId,
        patch: ProfilePatch,
        expected_version: Option<u64>,
        context: &RequestContext,
    ) -> Result<Profile, UserError> {
        let patch = patch.validate().map_err(UserError::Invalid)?;
        let change = UserCommand::ChangeProfile { patch, expected_version, at: at(context) };
        let meta = context.command(fresh_command_id("change-profile")).on_behalf_of(user_id.as_str());
        self.users.ask(user_id.as_str(), change, meta).await?;
        self.profile(user_id).await
    }

    /// Makes sure that a user exists and has these roles. One who exists keeps their name and their password and only
    /// gains roles.
    ///
    /// # Errors
    /// [`UserError::Invalid`] with all that is wrong, `Busy`, `Unavailable`.
    pub async fn ensure_user(&self, account: Account, context: &RequestContext) -> Result<Ensured, UserError> {
        let valid = account.registration.validate().map_err(UserError::Invalid)?;
        let email = valid.email.clone();
        let mut roles = account.roles;
        roles.push(Role::Customer);
        roles.sort_unstable();
        roles.dedup();
        if let Some(stored) = self.stored(&email).await? {
            return self.grant(stored.profile, roles, context).await;
        }
        match self.create(valid, roles.clone(), None, context).await {
            Ok(profile) => Ok(Ensured { user_id: profile.user_id, is_new: true }),
            Err(UserError::EmailTaken) => {
                let stored = self.stored(&email).await?.ok_or(UserError::Unavailable)?;
                self.grant(stored.profile, roles, context).await
            }
            Err(error) => Err(error),
        }
    }

    /// Claim, then register. The claim says under which id: the one of this attempt, or the one that an attempt before
    /// claimed. That attempt may have died before it registered, or be at it just now: the user decides who was first.
    async fn create(
        &self,
        valid: ValidRegistration,
        roles: Vec<Role>,
        command_key: Option<&str>,
        context: &RequestContext,
    ) -> Result<Profile, UserError> {
        let proposed = UserId::generate();
        let attempt = match command_key {
            Some(key) => ["key", key],
            None => ["attempt", proposed.as_str()],
        };
        let step = |name: &str| CommandId::of(&["register", attempt[0], attempt[1], name]);
        let password_hash = self.passwords.hash(valid.password.clone(), context.deadline).await?;

        let claim = EmailClaimCommand::Claim { user_id: proposed.clone() };
        let user_id = match self.claims.ask(valid.email.digest(), claim, context.command(step("claim"))).await {
            Ok(accepted) => match accepted.events.into_iter().next() {
                Some(EmailClaimEvent::Claimed { user_id }) => user_id,
                None => proposed.clone(),
            },
            Err(AskError::Refused(EmailTaken { user_id })) => user_id,
            Err(error) => return Err(error.into()),
        };

        let ValidRegistration { email, password, first_name, last_name, phone } = valid;
        let at = at(context);
        let register = UserCommand::Register { email, password_hash, first_name, last_name, phone, roles, at };
        let meta = context.command(step("register")).on_behalf_of(user_id.as_str());
        let accepted = self.users.ask(user_id.as_str(), register, meta).await?;
        let mut state = UserState::default();
        accepted.events.iter().for_each(|event| User::evolve(&mut state, event));
        let account = state.account.ok_or(UserError::Unavailable)?;
        if accepted.is_repeat {
            // A key is no password: whoever repeats a registration must know what was registered.
            let stored = Some(account.password_hash.clone());
            if self.passwords.verify(password, stored, context.deadline).await? == Verdict::Wrong {
                return Err(UserError::EmailTaken);
            }
        } else {
            tracing::info!(%user_id, correlation_id = %context.correlation_id, "user registered");
        }
        Ok(account.profile(user_id))
    }

    async fn grant(&self, profile: Profile, roles: Vec<Role>, context: &RequestContext) -> Result<Ensured, UserError> {
        let user_id = profile.user_id;
        if roles.iter().any(|role| !profile.roles.contains(role)) {
            let grant = UserCommand::GrantRoles { roles, at: at(context) };
            let meta = context.command(fresh_command_id("grant"));
            self.users.ask(user_id.as_str(), grant, meta).await?;
            tracing::info!(%user_id, "roles granted");
        }
        Ok(Ensured { user_id, is_new: false })
    }

    async fn sign_in(&self, profile: Profile, context: &RequestContext) -> Result<SignedIn, UserError> {
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
        tracing::info!(user_id = %profile.user_id, %session_id, correlation_id = %context.correlation_id, "signed in");
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

    async fn stored(&self, email: &Email) -> Result<Option<Stored>, UserError> {
        let by_email = "SELECT doc, password_hash FROM users WHERE email = ?1";
        let rows = self.journal.query(by_email, vec![email.as_str().into()]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        Ok(Some(Stored { profile: read_profile(row, 0)?, password_hash: row.text(1)?.to_owned() }))
    }

    async fn session_ids(&self, sql: &'static str, params: Vec<SqlValue>) -> Result<Vec<SessionId>, UserError> {
        let rows = self.journal.query(sql, params).await?;
        rows.iter().map(|row| SessionId::parse(row.text(0)?).map_err(|_| UserError::Unavailable)).collect()
    }
}

fn at(context: &RequestContext) -> Timestamp {
    Timestamp::from_millis(context.at_ms)
}

/// A command that is asked once: what it means is in its entity's rules, not in its id.
fn fresh_command_id(what: &str) -> CommandId {
    CommandId::of(&[what, &Ulid::generate().to_string()])
}

fn read_profile(row: &Row, column: usize) -> Result<Profile, UserError> {
    serde_json::from_str(row.text(column)?).map_err(|error| {
        tracing::error!(%error, "a profile in the read model cannot be read");
        UserError::Unavailable
    })
}
