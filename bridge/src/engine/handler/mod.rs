//! Who does the work: a ractor mailbox, the runtime's entities, or an async function.
//!
//! | handler | for |
//! |---|---|
//! | [`Mailboxes`] | ractor actors, one or several; a key always goes to the same one |
//! | [`entities`] | the runtime's entities by (kind, id) |
//! | [`each`], [`decoded`], [`lanes`] | an async function of a record, of a message, of a key's records in order |
//!
//! All of them take what they are given at once and answer later, in any order: the engine gives the next record of a key only
//! after the answer to the one before.

mod concurrent;
mod entity;
mod mailbox;

pub use concurrent::{CONCURRENCY_MAX, Concurrent, decoded, each, lanes};
pub use entity::{Addressed, entities};
pub use mailbox::Mailboxes;

use super::delivery::Delivery;

/// Takes deliveries.
pub trait Handler: Send + Sync + 'static {
    /// Takes them and returns at once; each is settled when its effects are durable. A lane's deliveries stand side by side
    /// and in order. It runs in the partition's actor: it must not block. A panic gives all of them again.
    fn handle(&self, deliveries: Vec<Delivery>);
}

impl<F: Fn(Vec<Delivery>) + Send + Sync + 'static> Handler for F {
    fn handle(&self, deliveries: Vec<Delivery>) {
        self(deliveries);
    }
}

/// Splits deliveries into those of one lane each.
pub fn by_lane(deliveries: Vec<Delivery>) -> impl Iterator<Item = Vec<Delivery>> {
    let mut deliveries = deliveries.into_iter().peekable();
    std::iter::from_fn(move || {
        let mut lane = vec![deliveries.next()?];
        while let Some(next) = deliveries.next_if(|next| next.is_of_one_lane_with(&lane[0])) {
            lane.push(next);
        }
        Some(lane)
    })
}
