//! The inbound engine: from a log's partitions to handlers, in order per key, with progress that is never wrong.
//!
//! ```text
//! LogSource ─► Pump (a thread) ─► PartitionActor (topic, partition, epoch) ─► Handler
//!                 ▲ credits           └ PartitionCore: ledger, lanes, retries   │
//!                 └── commits ◄───────────────── outcomes, batched back ◄───────┘
//! ```
//!
//! It knows no broker: [`ports`](crate::ports) is all it sees of a log. What it promises is in `docs/semantics.md`.
//!
//! # Layout
//!
//! - [`bridge`]: [`Bridge::builder`], the way in; [`subscription`]: topics, group, handler, rules, limits
//! - [`delivery`]: what a handler gets, and how it answers; [`handler`]: mailboxes, entities, async functions
//! - [`partition_core`]: every decision about a partition, pure; made of [`ledger`], [`lanes`], [`retry`], [`gap_map`]
//! - `partition`: its actor; `pump`: the thread that owns a source; [`credits`]: how much it takes
//! - [`stored_offsets`]: progress in a store of your own instead of the log
//! - [`dead_letter`]: what is written, and how it comes back; [`codec`]: values and messages
//! - [`health`]: what there is to see, and whether it is well; [`loss`]: what was lost of a log, until it is acknowledged

pub mod bridge;
pub(crate) mod clock;
pub mod codec;
pub mod credits;
pub mod dead_letter;
pub mod delivery;
pub mod gap_map;
pub mod handler;
pub mod health;
pub mod lanes;
pub mod ledger;
pub mod loss;
pub mod outcome;
mod partition;
pub mod partition_core;
mod pump;
pub mod retry;
pub mod stored_offsets;
pub mod subscription;
mod subscription_actor;

pub use bridge::{Bridge, BridgeBuilder, BuildError};
pub use codec::{Bincode, Codec, CodecError, Json, Raw};
pub use dead_letter::{dead_letter_topic, replay};
pub use delivery::{AckToken, Delivery, Outcome};
pub use handler::Handler;
pub use partition_core::OnDeadKey;
pub use pump::RECORDS_PER_MESSAGE_MAX;
pub use retry::{Exhausted, ExponentialBackoff, RetryPolicy};
pub use stored_offsets::StoredOffsets;
pub use subscription::{CommitEvery, Limits, OpenSource, Subscription, Topics};
