//! What the world is told of users: a pure function of the journal.
//!
//! `user.registered` and `user.logged_in`, both keyed by the user. They say who and which session, and nothing else: no
//! e-mail address, no hash. A registration starts a session, so `user.logged_in` follows it.

use std::fmt::Display;

use contracts::{Envelope, Message, Service, SessionId, Timestamp, UserId, messages::event_id};
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
    let envelope = |(index, message): (usize, Message)| Envelope {
        id: event_id(Service::User, &recorded.stream, recorded.version, index, time),
        source: Service::User,
        subject: message.subject().to_owned(),
        time,
        seq: recorded.version,
        schema: recorded.schema,
        correlation_id: recorded.correlation_id.clone(),
        causation_id: recorded.causation_id.clone(),
        actor: recorded.actor.clone(),
        traceparent: recorded.traceparent.clone(),
        message,
    };
    Ok(message(recorded)?.into_iter().enumerate().map(envelope).collect())
}

fn message(recorded: &Recorded) -> Result<Option<Message>, JournalError> {
    let (kind, id) = recorded.kind_and_id();
    let corrupt = |error: &dyn Display| JournalError::Corrupt(format!("{}: {error}", recorded.stream));
    match kind {
        User::KIND => match decode_event::<User>(recorded)? {
            UserEvent::Registered { .. } => {
                let user_id = UserId::parse(id).map_err(|error| corrupt(&error))?;
                Ok(Some(Message::UserRegistered { user_id }))
            }
            UserEvent::ProfileChanged { .. } | UserEvent::RolesGranted { .. } | UserEvent::PasswordRehashed { .. } => {
                Ok(None)
            }
        },
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
