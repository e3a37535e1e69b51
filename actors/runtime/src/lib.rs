#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]
//! Supervised, event-sourced actors on [`ractor`], with a durable journal and pipelined group commit.
//!
//! It knows no domain, no HTTP and no message broker: it is for anyone who has entities that must be right.
//!
//! # Layout
//!
//! - [`entity`]: the [`Entity`] trait: `decide` and `evolve`, pure and synchronous.
//! - [`command`]: what travels with every command: its id, time, deadline and cause.
//! - [`entities`]: the handle through which everybody reaches entities by id: admission, shards, replies.
//! - [`shard`]: who is awake, who goes to sleep, what waits for whom; [`seen`]: which commands have been here before.
//! - [`journal`]: the log: events, command ids and views in one transaction; SQLite is the default.
//! - [`operation`]: one key, one execution, one stored result: the entity behind idempotency keys.
//! - [`deadlines`]: the clock that wakes what waits when its time is over.
//! - [`parking`]: entities that fall again and again are left alone for a while.
//! - [`private_files`]: files and folders that only their owner reads.
//! - [`totals`]: sums over all entities of a kind, kept with each command.
//! - [`supervision`]: trees on ractor's links: strategies, restart intensity, backoff, and who is stuck in a message.
//! - [`roster`]: what is alive, since when, how often it fell; the supervisors write it as they act.
//! - [`inspection`]: the roster as an operator reads it: a snapshot, the changes after it, the entities that are awake.
//! - [`current`]: how the outside holds on to something that may be restarted.
//! - `testkit` (with the feature of that name): given/when/then, a journal with faults, the simulation, golden corpora.
//!
//! # One way for every command
//!
//! ```text
//! ask ─► admission ─► shard ─► entity: decide, evolve ─► journal writer: one commit for all that queued ─► replies
//! ```
//!
//! An entity never waits for the disk. Its reply does: it leaves only after the commit.
#![deny(clippy::print_stdout, clippy::print_stderr, reason = "a line may be lost and must not matter: use tracing")]

pub mod admission;
mod ask;
mod awake;
mod changes;
pub mod command;
mod config;
pub mod current;
pub mod deadlines;
pub mod entities;
pub mod entity;
pub mod inspection;
mod instance;
pub mod journal;
pub mod operation;
pub mod parking;
pub mod private_files;
pub mod roster;
pub mod seen;
pub mod shard;
mod snapshot;
pub mod supervision;
#[cfg(feature = "testkit")]
pub mod testkit;
pub mod totals;

pub use admission::Gate;
pub use command::{CommandId, CommandMeta, RequestContext};
pub use current::{Current, Down};
pub use entities::{Accepted, AskError, Entities, EntitiesConfig};
pub use entity::{Entity, EntityId};
pub use instance::decode_event;
pub use journal::{
    Journal, JournalError, Position, Recorded, Row, SqlValue, ViewWrite, identity::LogMark, views::ViewSchema,
};
pub use parking::{ParkedEntity, ParkingRules};
pub use roster::Roster;
