//! The end of the process, as SIGTERM or Ctrl-C ask for it: heard from the first moment, whatever the process is doing.

use std::io;

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// Whether the process was told to end. Clones hear of the same end.
#[derive(Clone)]
pub struct Ending(watch::Receiver<bool>);

impl Ending {
    /// Listens for the signals from now on; within a tokio runtime.
    ///
    /// # Errors
    /// When the system does not let it.
    pub fn listen() -> io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let (tell, told) = watch::channel(false);
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            // Whoever looks later finds it, too.
            tell.send_replace(true);
        });
        Ok(Self(told))
    }

    /// Completes when the process was told to end.
    pub async fn asked(&self) {
        // An error means that its task is gone, and so the runtime.
        let _ = self.0.clone().wait_for(|is_asked| *is_asked).await;
    }

    /// Whether the process was told to end.
    pub fn is_asked(&self) -> bool {
        *self.0.borrow()
    }
}
