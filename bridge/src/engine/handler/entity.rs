//! Deliveries as commands to the runtime's entities.
//!
//! An entity's answer comes after its commit, so `Done` is durable. A record that comes again must carry the same command
//! id: then it has its effect once. Busy, late and unavailable spend no attempt: the entity has not looked at the record.

use std::sync::Arc;

use runtime::{AskError, CommandMeta, Entities, Entity, EntityId};

use super::{Concurrent, each};
use crate::{engine::delivery::Outcome, record::Record};

/// A command on its way to an entity.
pub struct Addressed<C> {
    /// Which entity.
    pub id: EntityId,
    /// What it is asked to do.
    pub command: C,
    /// The command's id, made from what identifies the message, and its deadline.
    pub meta: CommandMeta,
}

/// Asks an entity for each record. `route` says whom and what, or what becomes of a record that is for nobody; `refused`
/// says what becomes of a refusal (`Done` where a refusal is an answer like any other). Must be called within a tokio
/// runtime.
pub fn entities<E, Route, Refused>(
    entities: Entities<E>,
    concurrency_max: usize,
    route: Route,
    refused: Refused,
) -> Concurrent
where
    E: Entity,
    Route: Fn(&Record) -> Result<Addressed<E::Command>, Outcome> + Send + Sync + 'static,
    Refused: Fn(E::Refusal) -> Outcome + Send + Sync + 'static,
{
    let refused = Arc::new(refused);
    each(concurrency_max, move |record| {
        let routed = route(&record);
        let (entities, refused) = (entities.clone(), Arc::clone(&refused));
        async move {
            let Addressed { id, command, meta } = match routed {
                Ok(addressed) => addressed,
                Err(outcome) => return outcome,
            };
            match entities.ask(id, command, meta).await {
                Ok(_) => Outcome::Done,
                Err(AskError::Refused(refusal)) => refused(refusal),
                Err(AskError::Busy) => Outcome::not_now("too many commands are in flight"),
                Err(AskError::Full) => Outcome::not_now("there is no room on the disk"),
                Err(AskError::DeadlineExceeded) => Outcome::not_now("no answer within the deadline"),
                Err(AskError::Parked { retry_after }) => {
                    Outcome::NotNow { after: Some(retry_after), reason: "the entity is parked".into() }
                }
                Err(AskError::Unavailable) => Outcome::not_now("the entity is unavailable"),
            }
        }
    })
}
