//! What an entity is: a decider, and nothing else.
//!
//! An entity's whole behaviour is two plain functions. They take values and give values: no clock, no randomness, no I/O;
//! time and ids come in the command. That makes every rule testable in memory and every replay the same as the first run.
//! The pattern is the *decider* of functional event sourcing (Chassaing, 2021).

use std::sync::Arc;

use serde::{Serialize, de::DeserializeOwned};

use crate::{journal::ViewWrite, totals::Counts};

/// The name of one entity within its kind, such as an order's id. Cheap to clone.
pub type EntityId = Arc<str>;

/// One kind of event-sourced entity.
///
/// `decide` may refuse: that is an answer. A panic in either function is a fault: it ends this entity's actor alone, its
/// callers are told "unavailable", and the next command wakes it again from the journal.
pub trait Entity: Send + Sync + 'static {
    /// The kind's name: the first half of the stream name `kind/id`. It is written to disk: never change it.
    const KIND: &'static str;
    /// The version of the event payloads that this build writes. Older ones pass through [`Entity::upcast`].
    const SCHEMA: u32 = 1;
    /// The version of [`Entity::State`]'s form, which is apart from the events'. Another one whenever a field of the state, or of
    /// anything in it, comes, goes, moves or changes its meaning: snapshots of other versions are not read.
    const STATE_VERSION: u32 = 1;
    /// The tables of this kind's read model: `CREATE TABLE IF NOT EXISTS …` and their indexes. No other kind has them.
    const TABLES: &'static [&'static str] = &[];
    /// The version of [`Entity::TABLES`] **and of what [`Entity::views`] writes there**, stored documents too. Another one
    /// whenever either changes: where a file holds another version, newer or older, the tables are dropped and projected anew
    /// from the events. What [`Entity::counts`] gives is of it too.
    const VIEW_VERSION: u32 = 1;
    /// The statement that adds to a row of the totals over this kind: its first parameter is the row's key, the others are
    /// what is added to its numbers; see [`Entity::counts`]. It makes the row where there is none.
    const ADD_TO_TOTALS: &'static str = "";

    /// What the decision is made on. Rebuilt by folding the events; a snapshot of it is a cache and never the truth.
    type State: Default + Serialize + DeserializeOwned + Send + Sync + 'static;
    /// What may be asked: an imperative, such as `Reserve`.
    type Command: Send + 'static;
    /// What happened: past tense, such as `Reserved`.
    type Event: EventPayload;
    /// Why not: a value, recorded, so that a repeated command gets the first answer.
    type Refusal: Serialize + DeserializeOwned + Clone + std::fmt::Debug + Send + 'static;

    /// Decides what happens, without making it happen. No events means: nothing to do, and that is fine.
    ///
    /// # Errors
    /// The refusal, when the rules say no. It is recorded under the command's id and changes nothing else.
    fn decide(state: &Self::State, command: Self::Command) -> Result<Vec<Self::Event>, Self::Refusal>;

    /// Applies one event. Total: it cannot refuse what has happened.
    fn evolve(state: &mut Self::State, event: &Self::Event);

    /// The rows of the read model that this event changes, written in the event's own transaction. `state` already
    /// includes the event. A pure function of what it is given, as the two above, and no two entities write the same row: so the
    /// rows can be made from the events again.
    fn views(id: &EntityId, state: &Self::State, event: &Self::Event, at_ms: i64) -> Vec<ViewWrite> {
        let _ = (id, state, event, at_ms);
        Vec::new()
    }

    /// What the entity counts for in the totals over its kind, `None` where it counts for nothing. What changes by a command is
    /// written with it, by [`Entity::ADD_TO_TOTALS`]. Totals are sums: they come out the same in any order.
    fn counts(state: &Self::State) -> Option<Counts> {
        let _ = state;
        None
    }

    /// How many numbered messages the entity has published so far, as its state counts them; `None` where its messages have
    /// no numbers. The count from before an event is written beside it ([`Recorded::published_before`]), so that whoever makes
    /// messages from the log alone can number them without the state.
    ///
    /// [`Recorded::published_before`]: crate::Recorded::published_before
    fn published(state: &Self::State) -> Option<u64> {
        let _ = state;
        None
    }

    /// Turns a payload written by schema version `from` into one of [`Entity::SCHEMA`].
    fn upcast(event_type: &str, from: u32, payload: serde_json::Value) -> serde_json::Value {
        let _ = (event_type, from);
        payload
    }
}

/// An event as it is written: JSON, with a stable type name beside it.
pub trait EventPayload: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {
    /// The event's stable name, such as `order.created`. It is written to disk: never change it.
    fn event_type(&self) -> &'static str;
}
