//! The test kit: what tests of entities, actors and whole services are written with. Feature `testkit`; never in a
//! production build.
//!
//! # Layout
//!
//! - [`scenario`]: `given(events).when(command).then(events)`: an entity's rules, in memory, in microseconds.
//! - [`probe`]: an actor that writes down what it is told, and waits for what is expected.
//! - [`MemoryJournal`], [`MemoryDisk`], [`Faults`]: the journal in memory, which refuses, delays, crashes on demand.
//! - [`simulation`]: services on one thread in virtual time; a seed fixes every fault and every pause.
//! - [`golden`]: every event ever written can still be read, and means what it meant.
//! - [`plans`]: no statement reads a whole table that grows.
//! - [`Random`], [`TimeSlot`]: seeded choices; whose turn it is.

pub mod golden;
pub mod plans;
pub mod probe;
mod random;
pub mod scenario;
pub mod simulation;
mod time_slot;

pub use probe::Probe;
pub use random::Random;
pub use scenario::{Given, given};
pub use simulation::{Fault, Participant, Service, Simulation, Trace, for_every_seed, simulate};
pub use time_slot::{SLOTS, TimeSlot};

pub use crate::journal::memory::{CommitFault, Faults, MemoryDisk, MemoryJournal};
