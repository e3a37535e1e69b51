//! Supervision trees on ractor's links, with OTP's semantics.
//!
//! A [`Supervisor`] owns its children: it starts them in order, starts again what fell, with a growing pause, and gives up
//! (falls itself, for its own parent to decide) when that happens too often. The decisions are pure: [`restart`] says
//! who is started again, [`intensity`] how often is too often, [`backoff`] how long to wait.
//!
//! Strategy: one_for_one.

pub mod backoff;
pub mod intensity;
pub mod restart;
mod supervisor;

pub use backoff::Backoff;
pub use intensity::Intensity;
pub use restart::{Exit, ExitKind, Restart, exit_of};
pub use supervisor::{ChildSpec, StartError, Supervisor, SupervisorMessage, SupervisorSpec};
