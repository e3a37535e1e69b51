//! The relay: what was committed here is written to the log, in order per key, and nothing of it is forgotten.
//!
//! ```text
//!  Outbox ──entries in commit order──► Relay (actor) ──records──► LogSink
//!    ▲                                  │ RelayLedger (pure)         │
//!    └──position: all before it is written──┘◄──acknowledgements─────┘
//! ```
//!
//! **Guarantees**, tested in `tests/relay_*.rs` and by the ledger's property tests:
//! - Every record of every committed entry is written at least once: the stored position never passes a record that the log
//!   has not acknowledged. After a crash what lies behind it is written again: readers recognise it by its id (`ce_id`).
//! - Records of one key are written in commit order. The next one of a key is sent after the last one's acknowledgement, so
//!   a failure in between changes nothing; keys do not wait for each other. Records without a key have no order.
//! - When one key's record is not taken, that key alone waits, and is tried again after a growing pause. What it holds back
//!   is bounded ([`RelayLimits`]): then nothing more is read until it gets through.
//! - A record that the log refuses for ever is written to `<topic>.dlq` instead, and only after that was acknowledged does
//!   its key go on; or it waits for people, as [`OnRefused`] says.
//!
//! # Layout
//!
//! - [`ledger`]: what is written, sent, waiting; which record is next. Pure.
//! - [`actor`]: carries it out; [`health`]: what operators see.
//! - [`journal_outbox`]: an [`Outbox`](crate::ports::Outbox) over a runtime's journal.
//! - [`cloud_event`]: what is said of an event, as headers; [`provenance`]: of which log it is, and what that says of the log.

pub mod actor;
pub mod cloud_event;
pub mod health;
pub mod journal_outbox;
pub mod ledger;
pub mod provenance;

pub use actor::{Relay, RelayArguments, RelayMessage, start_relay};
pub use cloud_event::CloudEvent;
pub use health::{ParkedKey, RelayBoard, RelayHealth};
pub use journal_outbox::JournalOutbox;
pub use ledger::{OnRefused, RelayLedger, RelayLimits};
