//! The user service: its use cases, and the children of its tree.
//!
//! It owns no state: the entities decide, the read model answers. What is read here has been committed. When its journal
//! dies the whole tree is started again, with a new [`UserService`].

use std::{num::NonZeroUsize, sync::Arc, thread, time::Duration};

use contracts::{Envelope, InboxError, UserId};
use runtime::{
    AskError, CommandId, Entities, EntitiesConfig, Entity, Gate, Journal, JournalError, Recorded, RequestContext,
    Roster, Row, ViewSchema, supervision::ChildSpec,
};

use crate::{
    administrators::Administrators,
    commands::{at, fresh_command_id},
    email::Email,
    email_claim::{EmailClaim, EmailClaimCommand, EmailClaimEvent, EmailTaken},
    error::UserError,
    outbox,
    password::{Passwords, Verdict},
    profile::{Profile, ProfilePatch},
    refusals::Refusals,
    role::Grant,
    session::Session,
    signed_in::SignedIn,
    token_issuer::TokenIssuer,
    user::{User, UserCommand, UserState},
    validation::{Registration, ValidRegistration},
};

/// The bounds of the service.
#[derive(Clone, Debug)]
pub struct UserServiceConfig {
    /// The bounds of each of its three kinds of entity.
    pub entities: EntitiesConfig,
    /// Passwords hashed at a time: each takes a core and 19 MiB.
    pub hashes_parallel: usize,
    /// How long a caller waits for their turn to have a password hashed, at most.
    pub hash_wait_max: Duration,
    /// The key of the hashes that stand for e-mail and network addresses in logs and messages.
    pub log_key: [u8; 32],
}

impl Default for UserServiceConfig {
    fn default() -> Self {
        Self {
            // Three kinds × 2 shards × 5,000 awake × about 8 KiB: at most 240 MB.
            entities: EntitiesConfig { shards: 2, active_per_shard_max: 5_000, ..EntitiesConfig::default() },
            hashes_parallel: thread::available_parallelism().map_or(1, NonZeroUsize::get),
            hash_wait_max: Duration::from_secs(2),
            log_key: [0; 32],
        }
    }
}

/// The user service. Clones are the same service.
#[derive(Clone)]
pub struct UserService {
    claims: Entities<EmailClaim>,
    pub(crate) users: Entities<User>,
    pub(crate) sessions: Entities<Session>,
    pub(crate) administrators: Entities<Administrators>,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) tokens: Arc<TokenIssuer>,
    pub(crate) passwords: Passwords,
    pub(crate) refusals: Refusals,
}

/// A user as the read model has them.
pub(crate) struct Stored {
    pub(crate) profile: Profile,
    pub(crate) password_hash: String,
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
        let UserServiceConfig { entities, hashes_parallel, hash_wait_max, log_key } = config;
        // There is one entity of this kind.
        let one = EntitiesConfig { shards: 1, active_per_shard_max: 1, ..entities.clone() };
        let roster = roster.scoped("user-service");
        Self {
            claims: Entities::new(Arc::clone(&journal), gate, entities.clone(), roster.clone()),
            users: Entities::new(Arc::clone(&journal), gate, entities.clone(), roster.clone()),
            administrators: Entities::new(Arc::clone(&journal), gate, one, roster.clone()),
            sessions: Entities::new(Arc::clone(&journal), gate, entities, roster),
            journal,
            tokens,
            passwords: Passwords::new(hashes_parallel, hash_wait_max),
            refusals: Refusals::new(log_key),
        }
    }

    /// What its supervisor starts: the shards of all its kinds.
    #[must_use]
    pub fn children(&self) -> Vec<ChildSpec> {
        let mut children = self.claims.shards();
        children.extend(self.users.shards());
        children.extend(self.sessions.shards());
        children.extend(self.administrators.shards());
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

    /// The administrators: one entity, [`crate::administrators::ID`].
    #[must_use]
    pub fn entities_of_administrators(&self) -> &Entities<Administrators> {
        &self.administrators
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
        let valid = self.validate(registration, context).await?;
        // Without a key a registered address is refused before its password costs anything.
        if command_key.is_none() && self.stored(&valid.email).await?.is_some() {
            return Err(UserError::EmailTaken);
        }
        let profile = self.create(valid, None, command_key, context).await?;
        self.sign_in(profile, context).await
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

    /// Makes sure that a customer exists, without signing them in; true when they are new. One who exists stays as they are.
    ///
    /// # Errors
    /// [`UserError::Invalid`] with all that is wrong, `Busy`, `Unavailable`.
    pub async fn ensure_customer(
        &self,
        registration: Registration,
        context: &RequestContext,
    ) -> Result<bool, UserError> {
        let valid = self.validate(registration, context).await?;
        if self.stored(&valid.email).await?.is_some() {
            return Ok(false);
        }
        match self.create(valid, None, None, context).await {
            Ok(_) => Ok(true),
            Err(UserError::EmailTaken) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Looks at every field, the password last: that takes a core for some milliseconds.
    pub(crate) async fn validate(
        &self,
        registration: Registration,
        context: &RequestContext,
    ) -> Result<ValidRegistration, UserError> {
        let (password, words) = (registration.password.clone(), registration.words());
        let password_fault = self.passwords.fault_of(password, words, context.deadline).await?;
        registration.validate(password_fault).map_err(UserError::Invalid)
    }

    /// Claim, then register. The claim says under which id: the one of this attempt, or the one that an attempt before
    /// claimed. That attempt may have died before it registered, or be at it just now: the user decides who was first.
    pub(crate) async fn create(
        &self,
        valid: ValidRegistration,
        administrator: Option<Grant>,
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
        let actor = match (&administrator, &context.actor) {
            (Some(_), Some(actor)) => Arc::clone(actor),
            _ => user_id.as_str().into(),
        };
        let register = UserCommand::Register { email, password_hash, first_name, last_name, phone, administrator, at };
        let meta = context.command(step("register")).on_behalf_of(actor);
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
            let remote = context.remote.map(tracing::field::display);
            tracing::info!(%user_id, remote, correlation_id = %context.correlation_id, "user registered");
        }
        Ok(account.profile(user_id))
    }

    pub(crate) async fn stored(&self, email: &Email) -> Result<Option<Stored>, UserError> {
        let by_email = "SELECT doc, password_hash FROM users WHERE email = ?1";
        let rows = self.journal.query(by_email, vec![email.as_str().into()]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        Ok(Some(Stored { profile: read_profile(row, 0)?, password_hash: row.text(1)?.to_owned() }))
    }
}

pub(crate) fn read_profile(row: &Row, column: usize) -> Result<Profile, UserError> {
    serde_json::from_str(row.text(column)?).map_err(|error| {
        tracing::error!(%error, "a profile in the read model cannot be read");
        UserError::Unavailable
    })
}
