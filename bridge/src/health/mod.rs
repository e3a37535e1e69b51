//! Service health: the gateway pings every service, a service that lives answers.
//!
//! # Layout
//!
//! - [`wire`]: the ping and the pong as they are on the topics. Frozen.
//! - [`directory`]: who is healthy, decided purely from pongs and time.
//! - [`board`]: one directory shared by the pinger that fills it and the readers.
//! - [`pinger`], [`responder`]: the two actors, children of the gateway's and of each service's tree.
//! - [`transport`]: the port; [`in_process`] and [`kafka`] implement it.
//!
//! ```text
//!  gateway's tree                                                     a service's tree
//!    Pinger ── ping ──► service-ping (key = service) ──► listener ──► Responder ── asks its service ──┐
//!                                                                                                     │
//!    HealthReader ◄── HealthBoard ◄── listener ◄── service-pong (key = service) ◄────── pong ─────────┘
//! ```
//!
//! A reader answers at once from the latest pongs. It is right within a second of a death, because pings go every
//! [`PING_INTERVAL_MS`] and a pong counts for [`directory::OUR_PONG_FRESH_MS`]; and it says [`BusUnreachable`] rather than calling
//! every service dead when it is the broker that is away.

pub mod board;
pub mod directory;
pub mod in_process;
pub mod kafka;
pub mod pinger;
mod process_memory;
pub mod responder;
pub mod transport;
pub mod wire;

pub use board::{HealthBoard, HealthReader};
pub use directory::{HealthDirectory, HealthReport, ServiceHealth};
pub use in_process::InProcessHealth;
pub use kafka::{KafkaHealth, KafkaHealthConfig};
pub use pinger::{PING_INTERVAL_MS, PingerArgs, PingerMessage, start_pinger};
pub use responder::{ConditionCheck, ResponderArgs, ResponderMessage, ServiceCondition, start_responder};
pub use transport::{BusUnreachable, HealthTransport, TransportError};
pub use wire::{Pong, PongDetails};
