//! Projecting: from the recorded events of one kind of entity to the rows of its read model.
//!
//! It folds a stream's events as its entity does, and gives what [`Entity::views`] says of each; so the rows are those that the
//! entity wrote when the events happened. The type of the entity ends here: the journal sees [`Projector`]. It reads and
//! writes nothing itself.

use super::{JournalError, Recorded, ViewWrite};
use crate::{
    entity::{Entity, EntityId},
    instance::decode_event,
    snapshot, totals,
};

/// Makes one kind's rows from its events, a stream at a time.
pub(super) trait Projector: Send {
    /// Begins with a stream's first event.
    fn begin(&mut self, id: &str);

    /// Goes on in the middle of a stream, with what [`Projector::state`] gave; false where this build cannot read that.
    fn resume(&mut self, id: &str, state: &[u8]) -> bool;

    /// The rows that the stream's next event changes.
    fn apply(&mut self, event: &Recorded) -> Result<Vec<ViewWrite>, JournalError>;

    /// The stream's state, to go on with later; nothing where it cannot be encoded.
    fn state(&self) -> Option<Vec<u8>>;
}

/// The projector of `E`.
pub(super) fn projector<E: Entity>() -> Box<dyn Projector> {
    Box::new(Projection::<E> { id: "".into(), state: E::State::default() })
}

struct Projection<E: Entity> {
    id: EntityId,
    state: E::State,
}

impl<E: Entity> Projector for Projection<E> {
    fn begin(&mut self, id: &str) {
        (self.id, self.state) = (id.into(), E::State::default());
    }

    fn resume(&mut self, id: &str, state: &[u8]) -> bool {
        let Some(state) = snapshot::decode::<E>(state) else { return false };
        (self.id, self.state) = (id.into(), state);
        true
    }

    fn apply(&mut self, recorded: &Recorded) -> Result<Vec<ViewWrite>, JournalError> {
        let event = decode_event::<E>(recorded)?;
        let counted_before = E::counts(&self.state);
        E::evolve(&mut self.state, &event);
        let mut writes = E::views(&self.id, &self.state, &event, recorded.at_ms);
        writes.extend(totals::difference(E::ADD_TO_TOTALS, counted_before, E::counts(&self.state)));
        Ok(writes)
    }

    fn state(&self) -> Option<Vec<u8>> {
        snapshot::encode::<E>(&self.state)
    }
}
