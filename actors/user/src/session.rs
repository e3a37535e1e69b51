//! A session: one sign-in and the family of its refresh tokens, of which one is good at a time.
//!
//! Each token is used once and followed by its successor. A spent token that comes back means that two parties hold the
//! family (RFC 9700, §4.14.2): the session is revoked. One exception: within [`GRACE_MS`] of its use, while its successor
//! has not been used, the spent token is an honest client whose answer was lost: nothing happens, and it is given the same
//! successor again. That needs no stored token, because a successor can be computed from its predecessor
//! ([`crate::TokenIssuer`]). Only hashes come here.

use std::collections::VecDeque;

use contracts::{Timestamp, UserId};
use runtime::{Entity, EntityId, ViewWrite, entity::EventPayload};
use serde::{Deserialize, Serialize};

use crate::refresh_token::TokenHash;

/// How long a spent token whose successor is unused is taken for a lost answer, in milliseconds.
pub const GRACE_MS: i64 = 10_000;
/// The life of a session in milliseconds, however often it is refreshed: 30 days.
pub const SESSION_LIFETIME_MS: i64 = 30 * 24 * 60 * 60 * 1_000;
/// Spent tokens that a session knows again, at 16 bytes each. At one refresh per quarter of an hour a session spends 2,880
/// in its life. An older one is unknown: refused, but no proof of theft.
pub const SPENT_MAX: usize = 4_096;

/// The entity.
pub struct Session;

/// Why a session ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevokeReason {
    /// The user signed out.
    SignedOut,
    /// A spent refresh token came back.
    RefreshReused,
    /// The user has another password.
    PasswordChanged,
    /// The user may not do any more what they might, or may not sign in.
    AccessChanged,
}

impl RevokeReason {
    /// The name in the read model.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SignedOut => "signed_out",
            Self::RefreshReused => "refresh_reused",
            Self::PasswordChanged => "password_changed",
            Self::AccessChanged => "access_changed",
        }
    }
}

/// Commands of a session.
#[derive(Clone, Debug)]
pub enum SessionCommand {
    /// Begin.
    Start {
        /// Whose.
        user_id: UserId,
        /// The first refresh token.
        refresh_hash: TokenHash,
        /// Until when.
        expires_at: Timestamp,
        /// Now.
        at: Timestamp,
    },
    /// Spend a refresh token for its successor.
    Rotate {
        /// The token that was shown.
        presented: TokenHash,
        /// Its successor.
        successor: TokenHash,
        /// Now.
        at: Timestamp,
    },
    /// End.
    Revoke {
        /// Why.
        reason: RevokeReason,
        /// Now.
        at: Timestamp,
    },
}

/// What happened to a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionEvent {
    /// It began.
    Started {
        /// Whose.
        user_id: UserId,
        /// The first refresh token.
        refresh_hash: TokenHash,
        /// Until when.
        expires_at: Timestamp,
        /// When.
        at: Timestamp,
    },
    /// The good token was spent; this is the good one now.
    Rotated {
        /// The successor.
        refresh_hash: TokenHash,
        /// When.
        at: Timestamp,
    },
    /// It ended.
    Revoked {
        /// Why.
        reason: RevokeReason,
        /// When.
        at: Timestamp,
    },
}

impl EventPayload for SessionEvent {
    fn event_type(&self) -> &'static str {
        match self {
            Self::Started { .. } => "session.started",
            Self::Rotated { .. } => "session.rotated",
            Self::Revoked { .. } => "session.revoked",
        }
    }
}

/// Where a session stands.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SessionState {
    /// `None` before it started.
    pub family: Option<Family>,
}

/// A session that was started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Family {
    /// Whose.
    pub user_id: UserId,
    /// Until when.
    pub expires_at: Timestamp,
    /// Set once it has ended before its time.
    pub revoked: Option<RevokeReason>,
    /// The good token.
    current: TokenHash,
    /// The one before it, and when it was spent.
    previous: Option<(TokenHash, Timestamp)>,
    /// The first 128 bits of the spent ones, oldest first: enough to know a token again.
    spent: VecDeque<u128>,
}

/// What a refresh token is to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The good one.
    Good,
    /// Just spent, its successor unused: the answer was lost.
    Lost,
    /// Spent: somebody else has the family.
    Reused,
    /// Not one of this session, or the session is over or was never there.
    Refused(SessionRefusal),
}

/// Why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionRefusal {
    /// The id is another session's.
    AlreadyStarted,
    /// There is no such session.
    NotStarted,
    /// Its time is over.
    Expired,
    /// It was revoked.
    Revoked,
    /// The token is none of this session's.
    UnknownToken,
}

impl SessionState {
    /// What the token `presented` is to this session at the time `at`.
    #[must_use]
    pub fn standing(&self, presented: &TokenHash, at: Timestamp) -> Standing {
        let Some(family) = &self.family else { return Standing::Refused(SessionRefusal::NotStarted) };
        if family.revoked.is_some() {
            return Standing::Refused(SessionRefusal::Revoked);
        }
        if at >= family.expires_at {
            return Standing::Refused(SessionRefusal::Expired);
        }
        if family.current == *presented {
            return Standing::Good;
        }
        match &family.previous {
            Some((previous, spent_at))
                if previous == presented && at.as_millis() - spent_at.as_millis() <= GRACE_MS =>
            {
                Standing::Lost
            }
            _ if family.spent.contains(&presented.prefix()) => Standing::Reused,
            _ => Standing::Refused(SessionRefusal::UnknownToken),
        }
    }

    /// True while its tokens are good.
    #[must_use]
    pub fn is_live(&self, at: Timestamp) -> bool {
        self.family.as_ref().is_some_and(|family| family.revoked.is_none() && at < family.expires_at)
    }
}

impl Entity for Session {
    const KIND: &'static str = "session";
    const TABLES: &'static [&'static str] = &[crate::views::SESSION_TABLES];
    type State = SessionState;
    type Command = SessionCommand;
    type Event = SessionEvent;
    type Refusal = SessionRefusal;

    fn decide(state: &SessionState, command: SessionCommand) -> Result<Vec<SessionEvent>, SessionRefusal> {
        match command {
            SessionCommand::Start { user_id, refresh_hash, expires_at, at } => match &state.family {
                None => Ok(vec![SessionEvent::Started { user_id, refresh_hash, expires_at, at }]),
                Some(_) => Err(SessionRefusal::AlreadyStarted),
            },
            SessionCommand::Rotate { presented, successor, at } => match state.standing(&presented, at) {
                Standing::Good => Ok(vec![SessionEvent::Rotated { refresh_hash: successor, at }]),
                Standing::Lost => Ok(vec![]),
                Standing::Reused => Ok(vec![SessionEvent::Revoked { reason: RevokeReason::RefreshReused, at }]),
                Standing::Refused(refusal) => Err(refusal),
            },
            SessionCommand::Revoke { reason, at } => match &state.family {
                None => Err(SessionRefusal::NotStarted),
                Some(family) if family.revoked.is_some() => Ok(vec![]),
                Some(_) => Ok(vec![SessionEvent::Revoked { reason, at }]),
            },
        }
    }

    /// A session publishes nothing: its user does, who numbers what is said of them. Of a start without this count its
    /// build's outbox spoke, and so does ours.
    fn published(_: &SessionState) -> Option<u64> {
        Some(0)
    }

    fn evolve(state: &mut SessionState, event: &SessionEvent) {
        match (&mut state.family, event) {
            (family, SessionEvent::Started { user_id, refresh_hash, expires_at, .. }) => {
                *family = Some(Family {
                    user_id: user_id.clone(),
                    expires_at: *expires_at,
                    revoked: None,
                    current: *refresh_hash,
                    previous: None,
                    spent: VecDeque::new(),
                });
            }
            (Some(family), SessionEvent::Rotated { refresh_hash, at }) => {
                let spent = std::mem::replace(&mut family.current, *refresh_hash);
                if family.spent.len() == SPENT_MAX {
                    family.spent.pop_front();
                }
                family.spent.push_back(spent.prefix());
                family.previous = Some((spent, *at));
            }
            (Some(family), SessionEvent::Revoked { reason, .. }) => family.revoked = Some(*reason),
            (None, SessionEvent::Rotated { .. } | SessionEvent::Revoked { .. }) => {}
        }
    }

    fn views(id: &EntityId, _: &SessionState, event: &SessionEvent, _: i64) -> Vec<ViewWrite> {
        let session_id = || (&**id).into();
        let write = match event {
            SessionEvent::Started { user_id, expires_at, at, .. } => ViewWrite::new(
                "INSERT INTO sessions (session_id, user_id, created_at, refreshed_at, expires_at) \
                 VALUES (?1, ?2, ?3, ?3, ?4)",
                vec![session_id(), user_id.as_str().into(), at.as_millis().into(), expires_at.as_millis().into()],
            ),
            SessionEvent::Rotated { at, .. } => ViewWrite::new(
                "UPDATE sessions SET refreshed_at = ?2 WHERE session_id = ?1",
                vec![session_id(), at.as_millis().into()],
            ),
            SessionEvent::Revoked { reason, at } => ViewWrite::new(
                "UPDATE sessions SET revoked_at = ?2, revoked_reason = ?3 WHERE session_id = ?1",
                vec![session_id(), at.as_millis().into(), reason.name().into()],
            ),
        };
        vec![write]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(number: u64) -> TokenHash {
        TokenHash::of(&number.to_string())
    }

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn start() -> SessionCommand {
        SessionCommand::Start {
            user_id: UserId::parse("usr_1").unwrap(),
            refresh_hash: token(0),
            expires_at: at(SESSION_LIFETIME_MS),
            at: at(0),
        }
    }

    fn rotate(presented: u64, millis: i64) -> SessionCommand {
        SessionCommand::Rotate { presented: token(presented), successor: token(presented + 1), at: at(millis) }
    }

    fn rotated(to: u64, millis: i64) -> SessionEvent {
        SessionEvent::Rotated { refresh_hash: token(to), at: at(millis) }
    }

    fn revoked(reason: RevokeReason, millis: i64) -> SessionEvent {
        SessionEvent::Revoked { reason, at: at(millis) }
    }

    fn sign_out(millis: i64) -> SessionCommand {
        SessionCommand::Revoke { reason: RevokeReason::SignedOut, at: at(millis) }
    }

    fn after(commands: &[SessionCommand]) -> SessionState {
        let mut state = SessionState::default();
        for command in commands {
            for event in Session::decide(&state, command.clone()).unwrap() {
                Session::evolve(&mut state, &event);
            }
        }
        state
    }

    #[test]
    fn given_when_then() {
        use RevokeReason::{RefreshReused, SignedOut};
        let reuse = || Ok(vec![revoked(RefreshReused, 20_000)]);
        let table = [
            (vec![], rotate(0, 1), Err(SessionRefusal::NotStarted)),
            (vec![], sign_out(1), Err(SessionRefusal::NotStarted)),
            (vec![start()], start(), Err(SessionRefusal::AlreadyStarted)),
            (vec![start()], rotate(0, 1), Ok(vec![rotated(1, 1)])),
            (vec![start()], rotate(7, 1), Err(SessionRefusal::UnknownToken)),
            (vec![start()], rotate(0, SESSION_LIFETIME_MS - 1), Ok(vec![rotated(1, SESSION_LIFETIME_MS - 1)])),
            (vec![start()], rotate(0, SESSION_LIFETIME_MS), Err(SessionRefusal::Expired)),
            // A lost answer: the same token within the grace, its successor unused.
            (vec![start(), rotate(0, 1)], rotate(0, 1 + GRACE_MS), Ok(vec![])),
            // Too late, or the successor has been used.
            (vec![start(), rotate(0, 1)], rotate(0, 20_000), reuse()),
            (vec![start(), rotate(0, 19_999), rotate(1, 19_999)], rotate(0, 20_000), reuse()),
            (vec![start(), rotate(0, 1), rotate(1, 2), rotate(2, 3)], rotate(0, 20_000), reuse()),
            // A revoked family has no good token.
            (vec![start(), rotate(0, 1), rotate(0, 20_000)], rotate(1, 20_001), Err(SessionRefusal::Revoked)),
            (vec![start(), sign_out(5)], rotate(0, 6), Err(SessionRefusal::Revoked)),
            (vec![start()], sign_out(5), Ok(vec![revoked(SignedOut, 5)])),
            (vec![start(), sign_out(5)], sign_out(6), Ok(vec![])),
        ];
        for (given, when, then) in table {
            let what = format!("{given:?} {when:?}");
            assert_eq!(Session::decide(&after(&given), when), then, "{what}");
        }
    }

    #[test]
    fn a_session_knows_a_bounded_number_of_spent_tokens() {
        let mut state = after(&[start()]);
        for number in 1..=(SPENT_MAX as u64 + 1) {
            Session::evolve(&mut state, &rotated(number, 0));
        }
        assert_eq!(state.family.as_ref().unwrap().spent.len(), SPENT_MAX);
        assert_eq!(state.standing(&token(0), at(1)), Standing::Refused(SessionRefusal::UnknownToken));
        assert_eq!(state.standing(&token(1), at(1)), Standing::Reused);
    }

    #[test]
    fn every_event_is_in_the_read_model_and_none_is_told_of() {
        let state = after(&[start()]);
        let written = |event: &SessionEvent| {
            let [write] = &Session::views(&"ses_1".into(), &state, event, 0)[..] else { panic!("{event:?}") };
            assert_eq!(write.params[0], "ses_1".into());
            (write.sql.split(' ').next().unwrap(), write.params.last().cloned().unwrap())
        };
        let [started] = &Session::decide(&SessionState::default(), start()).unwrap()[..] else { panic!("it starts") };
        assert_eq!(written(started), ("INSERT", SESSION_LIFETIME_MS.into()));
        assert_eq!(written(&rotated(1, 5)), ("UPDATE", 5.into()));
        for (reason, name) in [
            (RevokeReason::SignedOut, "signed_out"),
            (RevokeReason::RefreshReused, "refresh_reused"),
            (RevokeReason::PasswordChanged, "password_changed"),
            (RevokeReason::AccessChanged, "access_changed"),
        ] {
            assert_eq!(written(&revoked(reason, 5)), ("UPDATE", name.into()));
        }
        assert_eq!(Session::published(&after(&[start(), rotate(0, 1), sign_out(5)])), Some(0));
    }

    #[test]
    fn it_is_live_from_its_start_to_its_end() {
        assert_eq!(SESSION_LIFETIME_MS, 2_592_000_000, "30 days");
        assert!(!SessionState::default().is_live(at(0)));
        let state = after(&[start()]);
        assert_eq!((state.is_live(at(0)), state.is_live(at(SESSION_LIFETIME_MS))), (true, false));
        assert!(!after(&[start(), sign_out(5)]).is_live(at(6)));
    }
}
