//! The embedded bus: each service reads the others' journals, and keeps its position and its dead letters in its own.

use std::sync::Arc;

use bridge::{
    embedded::{
        dead_letters::JournalDeadLetters,
        source::{JournalSource, JournalSourceArguments, RecordOutbox, contradicts},
    },
    engine::{Bridge, OpenSource, Topics},
    ports::LogSource,
};
use contracts::{Service, Topic};
use runtime::{Journal, JournalError, journal::compare::compare, supervision::StartError};
use tokio::runtime::Handle;

use super::{Inbox, heard_by, messages_of, record_of, subscription};
use crate::house::House;

/// What a service has set aside, and who could take it in again.
#[derive(Clone)]
pub struct SetAside {
    pub letters: Arc<JournalDeadLetters>,
    pub inbox: Inbox,
}

/// Under which name a service keeps how far it has come in the log of `source`. Never change it.
pub fn position_name(service: Service, source: Service) -> Arc<str> {
    format!("{service}<{source}").into()
}

/// Compares the others' positions in the log of `service`, `home`, and its own in the others' logs. Who has not been there yet will
/// compare when it comes, and is expected to.
///
/// # Errors
/// When a log cannot be read.
pub async fn compare_all(house: &House, service: Service, home: &Arc<dyn Journal>) -> Result<(), JournalError> {
    for reader in Service::ALL.into_iter().filter(|reader| heard_by(*reader).0.contains(&service)) {
        let place = house.journal(reader);
        match if reader == service { Ok(Arc::clone(home)) } else { place.get() } {
            Ok(readers) => compare_one(reader, &readers, service, home).await?,
            Err(_) if !place.was_ever_taken() => home.contradictions().expect(&position_name(reader, service)),
            // It compares before it reads.
            Err(_) => {}
        }
    }
    for source in heard_by(service).0.iter().filter(|source| **source != service) {
        if let Ok(log) = house.journal(*source).get() {
            compare_one(service, home, *source, &log).await?;
        }
    }
    Ok(())
}

async fn compare_one(
    reader: Service,
    home: &Arc<dyn Journal>,
    source: Service,
    log: &Arc<dyn Journal>,
) -> Result<(), JournalError> {
    let name = position_name(reader, source);
    let mark = home.position_of(Arc::clone(&name)).await?;
    match compare(mark, &**log).await? {
        Ok(()) => log.contradictions().withdraw(&name),
        Err(contradiction) => log.contradictions().raise(&name, contradicts(source.name(), &contradiction)),
    }
    Ok(())
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
            name: position_name(service, *source),
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
