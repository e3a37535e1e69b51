//! What travels with every command: who asks, why, when, until when, and under which id.

use std::{
    fmt,
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use sha2::{Digest, Sha256};
use tokio::time::Instant;

/// The identity of a command: 128 bits. The same id on the same entity is the same command: the first outcome is given
/// again and nothing is appended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommandId([u8; 16]);

impl CommandId {
    /// The id that stands for `parts`: the first 128 bits of their SHA-256, each part prefixed by its length, so that
    /// no two lists of parts collide by concatenation.
    #[must_use]
    pub fn of(parts: &[&str]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        let mut id = [0; 16];
        id.copy_from_slice(&hash.finalize()[..16]);
        Self(id)
    }

    /// An id from 128 bits that the caller knows to be unique, such as a ULID.
    #[must_use]
    pub const fn from_u128(bits: u128) -> Self {
        Self(bits.to_be_bytes())
    }

    /// The bytes as they stand in the journal.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Reads the bytes back.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CommandId({:032x})", u128::from_be_bytes(self.0))
    }
}

/// What a command carries besides its content.
#[derive(Clone, Debug)]
pub struct CommandMeta {
    /// The command's identity; see [`CommandId`].
    pub command_id: CommandId,
    /// When it was asked, in milliseconds since the Unix epoch: the only clock that a decision may read, and the time of
    /// the events that follow.
    pub at_ms: i64,
    /// After this moment it is not executed, and nobody waits for it.
    pub deadline: Instant,
    /// The request that began it all.
    pub correlation_id: Option<Arc<str>>,
    /// The message that caused this command.
    pub causation_id: Option<Arc<str>>,
    /// On whose behalf.
    pub actor: Option<Arc<str>>,
    /// The request's place in its trace, as W3C Trace Context writes it. The events that follow keep it.
    pub traceparent: Option<Arc<str>>,
}

impl CommandMeta {
    /// A command asked now, with `patience` until its deadline.
    #[must_use]
    pub fn new(command_id: CommandId, patience: Duration) -> Self {
        Self {
            command_id,
            at_ms: now_ms(),
            deadline: Instant::now() + patience,
            correlation_id: None,
            causation_id: None,
            actor: None,
            traceparent: None,
        }
    }

    /// Names the request that began it.
    #[must_use]
    pub fn correlated(mut self, id: impl Into<Arc<str>>) -> Self {
        self.correlation_id = Some(id.into());
        self
    }

    /// Names the message that caused it.
    #[must_use]
    pub fn caused_by(mut self, id: impl Into<Arc<str>>) -> Self {
        self.causation_id = Some(id.into());
        self
    }

    /// Puts it into a trace.
    #[must_use]
    pub fn traced(mut self, traceparent: Option<impl Into<Arc<str>>>) -> Self {
        self.traceparent = traceparent.map(Into::into);
        self
    }

    /// Names the one on whose behalf it is asked.
    #[must_use]
    pub fn on_behalf_of(mut self, actor: impl Into<Arc<str>>) -> Self {
        self.actor = Some(actor.into());
        self
    }
}

/// The request within which commands are asked: shared by all of its steps.
#[derive(Clone, Debug)]
pub struct RequestContext {
    /// The request's id.
    pub correlation_id: Arc<str>,
    /// When it came in, in milliseconds since the Unix epoch: the time of everything done for it.
    pub at_ms: i64,
    /// Until when its caller waits.
    pub deadline: Instant,
    /// On whose behalf, once that is known.
    pub actor: Option<Arc<str>>,
    /// Its place in its trace, as W3C Trace Context writes it: given by the caller, or begun here.
    pub traceparent: Option<Arc<str>>,
    /// The network address that it came from, where it came from one.
    pub remote: Option<IpAddr>,
}

impl RequestContext {
    /// A request that came in now, with `patience` until its deadline.
    #[must_use]
    pub fn new(correlation_id: impl Into<Arc<str>>, patience: Duration) -> Self {
        Self {
            correlation_id: correlation_id.into(),
            at_ms: now_ms(),
            deadline: Instant::now() + patience,
            actor: None,
            traceparent: None,
            remote: None,
        }
    }

    /// What a command of this request carries.
    #[must_use]
    pub fn command(&self, command_id: CommandId) -> CommandMeta {
        CommandMeta {
            command_id,
            at_ms: self.at_ms,
            deadline: self.deadline,
            correlation_id: Some(Arc::clone(&self.correlation_id)),
            causation_id: None,
            actor: self.actor.clone(),
            traceparent: self.traceparent.clone(),
        }
    }
}

/// Milliseconds since the Unix epoch, from the system's clock.
#[must_use]
pub fn now_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_an_id_do_not_run_into_each_other() {
        assert_ne!(CommandId::of(&["ab", "c"]), CommandId::of(&["a", "bc"]));
        assert_eq!(CommandId::of(&["ab", "c"]), CommandId::of(&["ab", "c"]));
    }
}
