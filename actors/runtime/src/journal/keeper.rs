//! The keeper: ties a journal's life to a tree's.
//!
//! A child of the tree that works on the journal. When the journal fails, the keeper falls: start it as
//! [`Restart::Significant`](crate::supervision::Restart) and the whole tree is started again on what is on disk. When the
//! tree ends, by order or by a kill, the keeper's end closes the journal, which gives its directory back for the next
//! incarnation. What only a new process can mend is [`Fatal`]: no tree of this process is started again on it.

use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};

use super::{Journal, JournalError};
use crate::supervision::{ChildSpec, Fatal, Restart};

/// What a keeper is sent.
pub enum KeeperMessage {
    /// The journal has closed.
    Closed(JournalError),
}

/// A keeper's state: its end is the journal's.
pub struct Kept(Arc<dyn Journal>);

impl Drop for Kept {
    fn drop(&mut self) {
        // The request is queued at once; what is queued before it is settled first.
        drop(self.0.close());
    }
}

/// The keeper's actor.
pub struct JournalKeeper;

impl JournalKeeper {
    /// The keeper of `journal` as a child, to be started before what uses it.
    pub fn child(name: impl Into<String>, journal: Arc<dyn Journal>) -> ChildSpec {
        ChildSpec::new(name, Restart::Significant, move |supervisor| {
            let journal = Arc::clone(&journal);
            async move { Ok(Self::spawn_linked(None, Self, journal, supervisor).await?.0.get_cell()) }
        })
    }
}

impl Actor for JournalKeeper {
    type Msg = KeeperMessage;
    type State = Kept;
    type Arguments = Arc<dyn Journal>;

    async fn pre_start(
        &self,
        myself: ActorRef<KeeperMessage>,
        journal: Arc<dyn Journal>,
    ) -> Result<Kept, ActorProcessingErr> {
        let closed = journal.closed();
        tokio::spawn(async move {
            let reason = closed.await;
            let _ = myself.send_message(KeeperMessage::Closed(reason));
        });
        Ok(Kept(journal))
    }

    async fn post_stop(&self, _: ActorRef<KeeperMessage>, kept: &mut Kept) -> Result<(), ActorProcessingErr> {
        kept.0.close().await;
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<KeeperMessage>,
        KeeperMessage::Closed(reason): KeeperMessage,
        _: &mut Kept,
    ) -> Result<(), ActorProcessingErr> {
        Err(match reason {
            JournalError::Fatal(reason) => Fatal(reason).into(),
            other => other.into(),
        })
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<KeeperMessage>,
        _: SupervisionEvent,
        _: &mut Kept,
    ) -> Result<(), ActorProcessingErr> {
        // It has no children.
        Ok(())
    }
}
