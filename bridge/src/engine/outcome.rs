//! What a handler's answer may be, and to which delivery it belongs: plain values.

use std::{borrow::Cow, time::Duration};

use super::{dead_letter::ErrorKind, lanes::LaneId, ledger::Sequence};

/// Words for people. Only the first [`REASON_BYTES_MAX`](super::dead_letter::REASON_BYTES_MAX) bytes are kept for long.
pub type Reason = Cow<'static, str>;

/// What came of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its effects are durable.
    Done,
    /// It failed: it is given again, which spends one of the policy's attempts.
    Retry {
        /// After this long; by the policy's backoff where nothing is said.
        after: Option<Duration>,
        /// Why.
        reason: Reason,
    },
    /// It could not be tried, because something that is needed is busy or away: it is given again and no attempt is spent.
    NotNow {
        /// After this long; by the policy's backoff where nothing is said.
        after: Option<Duration>,
        /// Why.
        reason: Reason,
    },
    /// It can never be done: it goes to the dead letters at once.
    DeadLetter {
        /// What kind of failure it is.
        kind: ErrorKind,
        /// Why.
        reason: Reason,
    },
    /// It is of no interest. As `Done`, but counted apart.
    Skip,
    /// Something is wrong beyond this record: nothing more of its partition is delivered until the partition is assigned
    /// anew, and health says why.
    Halt {
        /// Why.
        reason: Reason,
    },
}

impl Outcome {
    /// A failed try, given again by the policy's backoff.
    pub fn retry(reason: impl Into<Reason>) -> Self {
        Self::Retry { after: None, reason: reason.into() }
    }

    /// Not to be tried now; no attempt is spent.
    pub fn not_now(reason: impl Into<Reason>) -> Self {
        Self::NotNow { after: None, reason: reason.into() }
    }

    /// To the dead letters, because the handler says so.
    pub fn dead_letter(reason: impl Into<Reason>) -> Self {
        Self::DeadLetter { kind: ErrorKind::Rejected, reason: reason.into() }
    }

    /// To the dead letters, because its bytes mean nothing.
    pub fn undecodable(reason: impl Into<Reason>) -> Self {
        Self::DeadLetter { kind: ErrorKind::Undecodable, reason: reason.into() }
    }

    /// Stops the partition.
    pub fn halt(reason: impl Into<Reason>) -> Self {
        Self::Halt { reason: reason.into() }
    }
}

/// Which delivery an answer belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The record.
    pub sequence: Sequence,
    /// Its lane.
    pub lane: LaneId,
}
