//! Which log this is: its identity, its incarnation, and what an event at a position looks like.
//!
//! A log is named by 128 random bits from its creation on, and a copy of its file bears the same name: it *is* the same log, at an
//! earlier moment. An incarnation is given at the creation and at each reconciliation after a restore; later ones sort behind
//! earlier ones. Whoever keeps a place in a log keeps a [`LogMark`]: the position, the log's identity, and the digest of the event at
//! that position. A log that ends before it, has another name, or has another event there is not the log that was read: a
//! [`Contradiction`]. Digests are computed when they are needed and stored with marks alone.

use std::fmt;

use futures::{FutureExt, future::BoxFuture};
use sha2::{Digest, Sha256};

use super::types::{JournalError, Position, Recorded};
use crate::command::now_ms;

/// The name of a log: the same for as long as there are copies of its file.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LogId(pub(super) [u8; 16]);

/// One life of a log: from its creation or from a reconciliation on. The later ones are greater.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Incarnation(pub(super) [u8; 16]);

/// The first 128 bits of the SHA-256 of an event and of its place; all zero before the first event.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventDigest(pub(super) [u8; 16]);

/// A log and its present life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogIdentity {
    /// Its name.
    pub log: LogId,
    /// Its present life.
    pub incarnation: Incarnation,
}

/// Which event was at a position when it was noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarkedEvent {
    /// In which log.
    pub log: LogId,
    /// In which of its lives.
    pub incarnation: Incarnation,
    /// What it was.
    pub digest: EventDigest,
}

/// A place in a log, as its reader keeps it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogMark {
    /// The position.
    pub position: Position,
    /// The event there; nothing where an earlier build noted the position alone.
    pub event: Option<MarkedEvent>,
}

impl LogMark {
    /// The place of `position` in the log `identity`, where the event is `digest`.
    #[must_use]
    pub fn new(identity: LogIdentity, position: Position, digest: EventDigest) -> Self {
        let LogIdentity { log, incarnation } = identity;
        Self { position, event: Some(MarkedEvent { log, incarnation, digest }) }
    }

    /// The place before the first event of a log.
    #[must_use]
    pub fn start_of(identity: LogIdentity) -> Self {
        Self::new(identity, 0, EventDigest::NONE)
    }
}

impl LogMark {
    /// Whether the log `identity`, which ends at `end` and has the event `found` at this mark's position, is the one that the mark was
    /// made in.
    ///
    /// # Errors
    /// [`Contradiction`] when it is not.
    pub fn check(&self, identity: LogIdentity, end: Position, found: Option<EventDigest>) -> Result<(), Contradiction> {
        let position = self.position;
        if let Some(noted) = self.event
            && noted.log != identity.log
        {
            return Err(Contradiction::OtherLog { position, noted: noted.log, found: identity.log });
        }
        if position > end {
            return Err(Contradiction::BeyondTheEnd { position, end });
        }
        match self.event {
            Some(noted) if found != Some(noted.digest) => Err(Contradiction::OtherEvent { position }),
            _ => Ok(()),
        }
    }
}

impl From<Position> for LogMark {
    /// A place of which no more is known than its position.
    fn from(position: Position) -> Self {
        Self { position, event: None }
    }
}

/// Why a log is not the one that a mark was made in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Contradiction {
    /// It is another log.
    #[error("position {position} was noted in the log {noted}, and this is the log {found}")]
    OtherLog {
        /// The noted position.
        position: Position,
        /// The log it was noted in.
        noted: LogId,
        /// The log that is there.
        found: LogId,
    },
    /// It ends before the mark.
    #[error("position {position} was noted, and the log ends at {end}")]
    BeyondTheEnd {
        /// The noted position.
        position: Position,
        /// The log's last position.
        end: Position,
    },
    /// It is an earlier life of the log.
    #[error("position {position} was noted in a later incarnation of the log")]
    LaterLife {
        /// The noted position.
        position: Position,
    },
    /// Its event at that position is another.
    #[error("the event at position {position} is not the one that was noted there")]
    OtherEvent {
        /// The noted position.
        position: Position,
    },
}

impl LogIdentity {
    /// A new log in its first life.
    ///
    /// # Errors
    /// When the system has no random bits.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut log = [0; 16];
        getrandom::fill(&mut log)?;
        Ok(Self { log: LogId(log), incarnation: Incarnation::generate()? })
    }
}

impl Incarnation {
    /// One that begins now: the time in milliseconds, then random bits, so that two copies that begin at once differ.
    pub(super) fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes[6..])?;
        bytes[..6].copy_from_slice(&now_ms().to_be_bytes()[2..]);
        Ok(Self(bytes))
    }
}

impl EventDigest {
    /// The digest before the first event.
    pub const NONE: Self = Self([0; 16]);

    /// The digest of an event where it is.
    #[must_use]
    pub fn of(event: &Recorded) -> Self {
        let mut hash = Sha256::new();
        for number in [event.position, event.version, u64::from(event.schema), event.at_ms.cast_unsigned()] {
            hash.update(number.to_be_bytes());
        }
        let texts = [
            Some(&*event.stream),
            Some(event.event_type.as_str()),
            Some(event.payload.as_str()),
            event.correlation_id.as_deref(),
            event.causation_id.as_deref(),
            event.actor.as_deref(),
        ];
        for text in texts {
            // With its length, so that no two lists of texts look alike; NULL is no text.
            let length = text.map_or(u64::MAX, |text| text.len() as u64);
            hash.update(length.to_be_bytes());
            hash.update(text.unwrap_or_default());
        }
        let mut digest = [0; 16];
        digest.copy_from_slice(&hash.finalize()[..16]);
        Self(digest)
    }
}

/// The digest at `position` of what `read_after` finds there.
pub(super) fn digest_at(
    position: Position,
    read: BoxFuture<'static, Result<Vec<Recorded>, JournalError>>,
) -> BoxFuture<'static, Result<Option<EventDigest>, JournalError>> {
    async move {
        if position == 0 {
            return Ok(Some(EventDigest::NONE));
        }
        let events = read.await?;
        Ok(events.first().filter(|event| event.position == position).map(EventDigest::of))
    }
    .boxed()
}

macro_rules! shown_in_hexadecimal {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", u128::from_be_bytes(self.0))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
        impl $name {
            /// Reads what its display shows.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                let is_plain = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
                let bits = is_plain.then(|| u128::from_str_radix(text, 16).ok()).flatten()?;
                Some(Self(bits.to_be_bytes()))
            }
        }
    )*};
}
shown_in_hexadecimal!(LogId, Incarnation, EventDigest);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::compare::compare;
    use super::*;
    use crate::{
        CommandId,
        journal::{
            Append, Journal, NewEvent,
            memory::{Faults, MemoryDisk, MemoryJournal},
        },
    };

    fn event() -> Recorded {
        Recorded {
            position: 7,
            stream: "order/ord_1".into(),
            version: 2,
            event_type: "order.paid".into(),
            schema: 1,
            payload: "{}".into(),
            at_ms: 5,
            correlation_id: Some("req_1".into()),
            causation_id: None,
            actor: None,
            traceparent: None,
            published_before: None,
        }
    }

    #[test]
    fn a_digest_changes_with_everything_that_makes_an_event_what_it_is() {
        let digest = EventDigest::of(&event());
        assert_eq!(digest, EventDigest::of(&event()));
        let others = [
            Recorded { position: 8, ..event() },
            Recorded { stream: "order/ord_2".into(), ..event() },
            Recorded { version: 3, ..event() },
            Recorded { event_type: "order.cancelled".into(), ..event() },
            Recorded { schema: 2, ..event() },
            Recorded { payload: "{ }".into(), ..event() },
            Recorded { at_ms: 6, ..event() },
            Recorded { correlation_id: None, ..event() },
            Recorded { causation_id: Some(String::new()), ..event() },
            Recorded { actor: Some("usr_1".into()), ..event() },
        ];
        for other in others {
            assert_ne!(digest, EventDigest::of(&other), "{other:?}");
        }
    }

    #[test]
    fn ids_are_read_as_they_are_shown_and_later_lives_are_greater() {
        let identity = LogIdentity::generate().unwrap();
        assert_eq!(LogId::parse(&identity.log.to_string()), Some(identity.log));
        assert_eq!(LogId::parse("+0000000000000000000000000000000"), None);
        assert!(Incarnation([0, 0, 0, 0, 0, 9, 255, 0, 0, 0, 0, 0, 0, 0, 0, 0]) < identity.incarnation);
    }

    const LOG: LogIdentity = LogIdentity { log: LogId([1; 16]), incarnation: Incarnation([2; 16]) };
    const SEEN: EventDigest = EventDigest([3; 16]);

    #[test]
    fn a_place_is_in_the_log_that_has_the_same_name_and_the_same_event_there() {
        let mark = LogMark::new(LOG, 7, SEEN);
        for end in [7, 8] {
            assert_eq!(mark.check(LOG, end, Some(SEEN)), Ok(()));
        }
        let later_life = LogIdentity { incarnation: Incarnation([9; 16]), ..LOG };
        assert_eq!(mark.check(later_life, 7, Some(SEEN)), Ok(()), "a log that was brought in order is the same log");
        let other = LogIdentity { log: LogId([9; 16]), ..LOG };
        let (noted, found) = (LOG.log, other.log);
        assert_eq!(mark.check(other, 7, Some(SEEN)), Err(Contradiction::OtherLog { position: 7, noted, found }));
        assert_eq!(mark.check(LOG, 6, None), Err(Contradiction::BeyondTheEnd { position: 7, end: 6 }));
        for found in [None, Some(EventDigest([4; 16])), Some(EventDigest::NONE)] {
            assert_eq!(mark.check(LOG, 7, found), Err(Contradiction::OtherEvent { position: 7 }), "{found:?}");
        }
    }

    #[test]
    fn the_place_before_the_first_event_is_in_its_own_log_alone() {
        let start = LogMark::start_of(LOG);
        assert_eq!(start.check(LOG, 0, Some(EventDigest::NONE)), Ok(()));
        let other = LogIdentity { log: LogId([9; 16]), ..LOG };
        let contradiction = start.check(other, 0, Some(EventDigest::NONE));
        assert!(matches!(contradiction, Err(Contradiction::OtherLog { position: 0, .. })), "{contradiction:?}");
    }

    #[test]
    fn of_a_place_without_an_event_no_more_is_asked_than_that_the_log_reaches_it() {
        let mark = LogMark::from(7);
        for found in [None, Some(SEEN)] {
            assert_eq!(mark.check(LOG, 7, found), Ok(()));
        }
        assert_eq!(mark.check(LOG, 6, None), Err(Contradiction::BeyondTheEnd { position: 7, end: 6 }));
    }

    #[tokio::test]
    async fn the_digest_at_a_place_is_that_of_the_event_there_and_of_no_later_one() {
        let found = async |position, events: Vec<Recorded>| {
            digest_at(position, async move { Ok(events) }.boxed()).await.unwrap()
        };
        assert_eq!(found(7, vec![event()]).await, Some(EventDigest::of(&event())));
        assert_eq!(found(6, vec![event()]).await, None, "the event at 6 is gone");
        assert_eq!(found(8, vec![]).await, None);
        assert_eq!(found(0, vec![event()]).await, Some(EventDigest::NONE), "before the first event");
        let unread = digest_at(7, async { Err(JournalError::Closed) }.boxed()).await;
        assert_eq!(unread, Err(JournalError::Closed));
    }

    async fn log_with_events(count: u64) -> Arc<MemoryJournal> {
        let log = MemoryJournal::open(&MemoryDisk::new(&[][..]).unwrap(), Faults::none()).await.unwrap();
        let (settled, is_settled) = tokio::sync::oneshot::channel();
        let event = NewEvent { event_type: "order.paid", payload: "{}".into(), published_before: None };
        log.append(Append {
            stream: "order/ord_1".into(),
            first_version: 1,
            events: (0..count).map(|_| event.clone()).collect(),
            schema: 1,
            refusal: None,
            command_id: CommandId::of(&["append"]),
            at_ms: 5,
            correlation_id: None,
            causation_id: None,
            actor: None,
            traceparent: None,
            views: vec![],
            snapshot: None,
            fence: Arc::default(),
            settle: Box::new(|outcome| drop(settled.send(outcome))),
        });
        assert_eq!(is_settled.await, Ok(Ok(())));
        log
    }

    #[tokio::test]
    async fn a_mark_is_compared_with_the_log_that_is_there() {
        let log = log_with_events(3).await;
        let (identity, end) = (log.identity(), *log.committed().borrow());
        assert_eq!(end, 3);
        for event in log.read_after(0, 10).await.unwrap() {
            let mark = LogMark::new(identity, event.position, EventDigest::of(&event));
            assert_eq!(compare(mark, &*log).await, Ok(Ok(())), "{}", event.position);
        }
        assert_eq!(compare(LogMark::start_of(identity), &*log).await, Ok(Ok(())));
        for position in [2, 3] {
            let compared = compare(LogMark::new(identity, position, SEEN), &*log).await;
            assert_eq!(compared, Ok(Err(Contradiction::OtherEvent { position })));
        }
        let compared = compare(LogMark::new(identity, 4, SEEN), &*log).await;
        assert_eq!(compared, Ok(Err(Contradiction::BeyondTheEnd { position: 4, end: 3 })));
        log.close().await;
    }
}
