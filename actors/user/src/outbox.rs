//! What the world is told of users: a pure function of the journal.
//!
//! `user.registered`, `user.logged_in`, `user.login_failed`, `user.role_changed` and `user.password_changed`, keyed by the
//! user. They say who, which session, which roles on whose word, and nothing else: no e-mail address, no hash of a password;
//! of a network address a keyed hash. A registration starts a session, so `user.logged_in` follows it.
//!
//! All come from the user's own stream, where they are numbered. In journals of older builds a session spoke of its own start;
//! such a start has no number, since no stream knows its place among what others said.

use std::fmt::Display;

use contracts::{
    Envelope, Message, Service, SessionId, Timestamp, UserId,
    messages::{event_id, numbers},
};
use runtime::{Entity, JournalError, Recorded, decode_event};

use crate::{
    session::{Session, SessionEvent},
    user::{User, UserEvent},
};

/// The messages of one recorded event, in order; the same each time it is asked.
///
/// # Errors
/// [`JournalError::Corrupt`] when the event cannot be read.
pub fn outbox(recorded: &Recorded) -> Result<Vec<Envelope>, JournalError> {
    let time = Timestamp::from_millis(recorded.at_ms);
    let messages = Vec::from_iter(message(recorded)?);
    let numbers = numbers(&messages, recorded.published_before);
    let envelope = |(index, (message, seq)): (usize, (Message, Option<u64>))| Envelope {
        id: event_id(Service::User, &recorded.stream, recorded.version, index, time),
        source: Service::User,
        subject: message.subject().to_owned(),
        time,
        seq,
        schema: recorded.schema,
        correlation_id: recorded.correlation_id.clone(),
        causation_id: recorded.causation_id.clone(),
        actor: recorded.actor.clone(),
        traceparent: recorded.traceparent.clone(),
        message,
    };
    Ok(messages.into_iter().zip(numbers).enumerate().map(envelope).collect())
}

fn message(recorded: &Recorded) -> Result<Option<Message>, JournalError> {
    let (kind, id) = recorded.kind_and_id();
    let corrupt = |error: &dyn Display| JournalError::Corrupt(format!("{}: {error}", recorded.stream));
    match kind {
        User::KIND => {
            let event = decode_event::<User>(recorded)?;
            let user_id = UserId::parse(id).map_err(|error| corrupt(&error))?;
            Ok(match event {
                UserEvent::SignedIn { session_id, .. } => Some(Message::UserLoggedIn { user_id, session_id }),
                UserEvent::Registered { .. } => Some(Message::UserRegistered { user_id }),
                UserEvent::SignInRefused { ip_hash, .. } => Some(Message::UserLoginFailed { user_id, ip_hash }),
                UserEvent::RolesChanged { roles, granted_by, reason, .. } => {
                    let roles = roles.iter().map(|role| role.name().to_owned()).collect();
                    Some(Message::UserRoleChanged { user_id, roles, granted_by: granted_by.to_string(), reason })
                }
                UserEvent::PasswordChanged { .. } => Some(Message::UserPasswordChanged { user_id }),
                UserEvent::ProfileChanged { .. }
                | UserEvent::RolesGranted { .. }
                | UserEvent::PasswordRehashed { .. }
                | UserEvent::Disabled { .. }
                | UserEvent::Enabled { .. } => None,
            })
        }
        Session::KIND if recorded.published_before.is_some() => {
            decode_event::<Session>(recorded)?;
            Ok(None)
        }
        Session::KIND => match decode_event::<Session>(recorded)? {
            SessionEvent::Started { user_id, .. } => {
                let session_id = SessionId::parse(id).map_err(|error| corrupt(&error))?;
                Ok(Some(Message::UserLoggedIn { user_id, session_id }))
            }
            SessionEvent::Rotated { .. } | SessionEvent::Revoked { .. } => Ok(None),
        },
        _ => Ok(None),
    }
}
