//! The embedded bus: durable messages between journals without a second log, because the journals *are* the log.
//!
//! [`source::JournalSource`] is a journal as a log: a pure function (the outbox) makes records of its events, in commit order. The
//! bridge's engine gives them to a handler, with bounded retry, dead letters ([`dead_letters`]) and health as everywhere else. The
//! position is kept in the subscriber's own journal, where the handler's effects are.
//!
//! Guarantees, tested in `tests/embedded_bus.rs` and by the suite that every log passes (`tests/engine_embedded.rs`):
//! - every committed event's messages reach the handler, at least once; a crash only delays them;
//! - messages of one key are given one after another, in commit order; keys do not wait for each other;
//! - the position is stored after the effects of everything before it are durable, through the same writer: what a crash
//!   in between repeats, the handler must recognise (the message's id is the same each time).
//!
//! When the source is away the messages wait. One that can never be taken in is kept in the subscriber's journal, where an operator
//! sees it and brings it back.

pub mod dead_letters;
pub mod source;
