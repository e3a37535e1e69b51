//! What the commands of the use cases have in common: when, and under which id.

use contracts::Timestamp;
use runtime::{CommandId, RequestContext};
use ulid::Ulid;

pub(crate) fn at(context: &RequestContext) -> Timestamp {
    Timestamp::from_millis(context.at_ms)
}

/// A command that is asked once: what it means is in its entity's rules, not in its id.
pub(crate) fn fresh_command_id(what: &str) -> CommandId {
    CommandId::of(&[what, &Ulid::generate().to_string()])
}
