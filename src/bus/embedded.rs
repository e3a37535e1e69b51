//! The embedded bus: each service reads the others' journals, and keeps its position and its dead letters in its own.

use std::sync::Arc;

use bridge::{
    embedded::{
        dead_letters::JournalDeadLetters,
        source::{JournalSource, JournalSourceArguments, RecordOutbox},
    },
    engine::{Bridge, OpenSource, Topics},
    ports::LogSource,
};
use contracts::{Service, Topic};
use runtime::{Journal, supervision::StartError};
use tokio::runtime::Handle;

use super::{Inbox, heard_by, messages_of, record_of, subscription};
use crate::house::House;

/// What a service has set aside, and who could take it in again.
#[derive(Clone)]
pub struct SetAside {
    pub letters: Arc<JournalDeadLetters>,
    pub inbox: Inbox,
}

/// The subscriptions of a service. Must be called within a tokio runtime.
///
/// # Errors
/// When the bridge cannot be built.
pub fn bridge(house: &House, service: Service, home: &Arc<dyn Journal>, inbox: &Inbox) -> Result<Bridge, StartError> {
    let (sources, topics) = heard_by(service);
    let dead_letters = Arc::new(JournalDeadLetters::new(Arc::clone(home), &Handle::current()));
    house.set_aside(service).set(SetAside { letters: Arc::clone(&dead_letters), inbox: Arc::clone(inbox) });
    let mut builder = Bridge::builder().dead_letters(dead_letters);
    for source in sources {
        let topic: Arc<str> = source.name().into();
        let arguments = JournalSourceArguments {
            topic: Arc::clone(&topic),
            name: format!("{service}<{source}").into(),
            source: house.journal(*source).clone(),
            home: Arc::clone(home),
            outbox: outbox_of(*source, topics),
        };
        let open = opener(arguments, Handle::current());
        let topics = Topics::Named(vec![topic]);
        builder = builder.subscribe(subscription(format!("hears-{source}"), service.name(), topics, open, inbox));
    }
    builder.build().map_err(StartError::new)
}

fn opener(arguments: JournalSourceArguments, runtime: Handle) -> OpenSource {
    Arc::new(move |_| {
        let source: Box<dyn LogSource> = Box::new(JournalSource::new(arguments.clone(), runtime.clone()));
        Ok(source)
    })
}

fn outbox_of(source: Service, topics: &'static [Topic]) -> RecordOutbox {
    let name: Arc<str> = source.name().into();
    Arc::new(move |recorded| {
        let messages = messages_of(source, recorded)?.into_iter();
        let wanted = messages.filter(|message| topics.contains(&message.message.topic()));
        wanted.map(|envelope| record_of(&envelope, Arc::clone(&name))).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{DAMAGED, damaged};
    use super::*;

    /// Whoever reads it gets the error, and the engine makes a dead letter of that: `bridge`'s `engine_embedded` has the test.
    #[test]
    fn an_event_that_cannot_be_read_is_an_error_to_every_reader() {
        for (source, stream) in DAMAGED {
            for topics in Service::ALL.map(|reader| heard_by(reader).1) {
                assert!(outbox_of(source, topics)(&damaged(stream)).is_err(), "{source}");
            }
        }
    }
}
