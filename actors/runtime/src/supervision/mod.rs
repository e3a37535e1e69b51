//! Supervision trees on ractor's links, with OTP's semantics.
//!
//! A [`Supervisor`] owns its children: it starts them in order, starts again what fell, with a growing pause, and gives up
//! (falls itself, for its own parent to decide) when that happens too often. The decisions are pure: [`restart`] says
//! whether a fall is answered by a restart, [`strategy`] whom it concerns and in which order, [`intensity`] how often is
//! too often, [`backoff`] how long to wait. The actor only carries them out.
//!
//! # Where it is OTP, and where it is not
//!
//! - One for one, one for all, rest for one; permanent, transient and temporary children, as in OTP's `supervisor`. A
//!   group is stopped in the reverse of the start order and started in the start order; a temporary child does not come
//!   back by its siblings' fall, a transient one that had ended by itself does.
//! - A failed start during a restart counts as a fall of that child. Each fall counts once against the intensity, however
//!   many it concerns. A first start that fails stops what was started before and fails the supervisor.
//! - Unlike OTP there is a pause before a restart, once for the whole group, and a growing one for a child that keeps
//!   falling. What falls in the pause joins the group or gets a pause of its own; nobody is started twice.
//! - [`Restart::Significant`] is not OTP's `significant`: see there.
//! - What only a new process can mend ([`Fatal`]) ends every supervisor up to the root: no restart, whatever the specs say.
//!
//! # Stopping
//!
//! A child is asked to stop, has its deadline, and is killed after it. While a supervisor stops or starts children it
//! takes no messages; the falls of that time wait in its queue and are handled afterwards. A supervisor that gives up stops
//! its children in order, with little patience, before it falls, so that none of them meets its successor.
//!
//! # Stuck in one message
//!
//! A child with an [`Activity`] and a bound ([`ChildSpec::watched`]) that is in one message for longer counts as failed: it
//! is killed and treated as its spec says. A kill takes effect at an `.await`. A handler that blocks its thread cannot be
//! killed by anybody in this process; it stays in the roster as stuck, and **no replacement is started until it has really
//! ended**: two incarnations that both write are worse than none. Its siblings run on. If it never ends, the process has
//! to be started again; the roster and the log say so. The same holds for a group: it comes back when the last of those
//! that were told to end has ended. Only a kill from above (a whole tree that is killed, not stopped) can leave such a
//! handler behind its successor; there the journal's lock and fences keep it from writing.

pub mod activity;
pub mod backoff;
pub mod intensity;
mod nested;
pub mod restart;
mod spec;
pub mod strategy;
mod supervisor;

pub use activity::{Activity, ActivityReading, Busy};
pub use backoff::Backoff;
pub use intensity::Intensity;
pub use restart::{Exit, ExitKind, Fatal, Restart, exit_of};
pub use spec::{ChildSpec, StartError, SupervisorSpec};
pub use strategy::Strategy;
pub use supervisor::{Supervisor, SupervisorMessage};
