//! Every log of a process is watched by a neighbour, which keeps in its own log how far the other has come.
//!
//! Subscribers' positions say when a log was cut, replaced or restored; but not every log has a subscriber here: the users have none,
//! the sandbox provider's books neither, and on Kafka positions are offsets of topics. So each log has one neighbour of this process
//! that notes its end, every [`NOTED_EVERY`], and compares when either starts. What was written since the last note can be cut without its
//! seeing it; the witness and the subscribers see more.
//!
//! A `log-watch` is a child of the keeping service's tree. It owns nothing; when it dies, its supervisor starts it again.

use std::{sync::Arc, time::Duration};

use contracts::Service;
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use runtime::{
    Current, Journal, JournalError, LogMark,
    journal::compare::compare,
    supervision::{ChildSpec, Restart},
};

use crate::house::House;

/// How often the end of a log is noted by its neighbour.
const NOTED_EVERY: Duration = Duration::from_secs(2);
/// The directory of the sandbox provider's books, and their name.
pub const BOOKS: &str = "sandbox-provider";
/// Which service notes the end of which log.
const WATCHED: [(Service, &str); 5] = [
    (Service::Order, Service::User.name()),
    (Service::Order, Service::Product.name()),
    (Service::Payment, Service::Order.name()),
    (Service::Payment, BOOKS),
    (Service::Product, Service::Payment.name()),
];

/// Who notes the end of which log, and under which name.
pub fn watched() -> impl Iterator<Item = (Service, &'static str, Arc<str>)> {
    WATCHED.into_iter().map(|(keeper, log)| (keeper, log, note_name(keeper, log)))
}

/// Never change it.
fn note_name(keeper: Service, log: &str) -> Arc<str> {
    format!("{keeper} watches {log}").into()
}

fn place_of<'a>(house: &'a House, log: &str) -> &'a Current<Arc<dyn Journal>> {
    Service::named(log).map_or(&house.books, |service| house.journal(service))
}

/// Compares the neighbour's note of the log called `log`, which is about to be there, with it; where the neighbour is of this process
/// and has not been there yet it is expected to do so.
///
/// # Errors
/// When a log cannot be read.
pub async fn compare_noted(house: &House, log: &str, journal: &Arc<dyn Journal>) -> Result<(), JournalError> {
    for (keeper, _, name) in watched().filter(|(_, of, _)| *of == log) {
        let place = house.journal(keeper);
        match place.get() {
            Ok(home) => compare_one(&home, &name, log, journal).await?,
            Err(_) if house.settings.role.services().contains(&keeper) && !place.was_ever_taken() => {
                journal.contradictions().expect(&name);
            }
            // It compares when it comes back.
            Err(_) => {}
        }
    }
    Ok(())
}

/// Compares the notes that `keeper` has in its log, `home`, with the logs that are there.
///
/// # Errors
/// When a log cannot be read.
pub async fn compare_notes(house: &House, keeper: Service, home: &Arc<dyn Journal>) -> Result<(), JournalError> {
    for (_, log, name) in watched().filter(|(of, ..)| *of == keeper) {
        if let Ok(journal) = place_of(house, log).get() {
            compare_one(home, &name, log, &journal).await?;
        }
    }
    Ok(())
}

/// Compares the note that `home` has of the log called `log` with it.
///
/// # Errors
/// When a log cannot be read.
pub async fn compare_one(
    home: &Arc<dyn Journal>,
    name: &Arc<str>,
    log: &str,
    journal: &Arc<dyn Journal>,
) -> Result<(), JournalError> {
    let mark = home.position_of(Arc::clone(name)).await?;
    match compare(mark, &**journal).await? {
        Ok(()) => journal.contradictions().withdraw(name),
        Err(contradiction) => {
            journal
                .contradictions()
                .raise(name, format!("what it has noted of {log} does not fit {log}'s log: {contradiction}"));
        }
    }
    Ok(())
}

/// The name of the note that the payment service keeps of the books.
pub fn note_of_the_books() -> Arc<str> {
    note_name(Service::Payment, BOOKS)
}

/// The watch of a service, as a child of its tree.
pub fn child(house: &Arc<House>, keeper: Service, home: &Arc<dyn Journal>) -> ChildSpec {
    let (house, home) = (Arc::clone(house), Arc::clone(home));
    ChildSpec::new("log-watch", Restart::Permanent, move |supervisor| {
        let arguments = (Arc::clone(&house), keeper, Arc::clone(&home));
        async move { Ok(LogWatch::spawn_linked(None, LogWatch, arguments, supervisor).await?.0.get_cell()) }
    })
    .kind("log-watch")
}

struct LogWatch;

struct Note;

impl Actor for LogWatch {
    type Msg = Note;
    type State = (Arc<House>, Service, Arc<dyn Journal>);
    type Arguments = Self::State;

    async fn pre_start(
        &self,
        myself: ActorRef<Note>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        myself.send_interval(NOTED_EVERY, || Note);
        Ok(arguments)
    }

    async fn handle(
        &self,
        _: ActorRef<Note>,
        Note: Note,
        (house, keeper, home): &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        for (_, log, name) in watched().filter(|(of, ..)| of == keeper) {
            let Ok(journal) = place_of(house, log).get() else { continue };
            // A neighbour that is closing is noted the next time.
            if let Err(error) = note(home, &name, &journal).await {
                tracing::debug!(log, %error, "the end of a log could not be noted now");
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Note>,
        _: SupervisionEvent,
        _: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        // It has no children.
        Ok(())
    }
}

/// Notes the end of a log that nobody contradicts.
async fn note(home: &Arc<dyn Journal>, name: &Arc<str>, journal: &Arc<dyn Journal>) -> Result<(), JournalError> {
    let (end, identity) = (*journal.committed().borrow(), journal.identity());
    let noted = home.position_of(Arc::clone(name)).await?;
    let is_noted = noted.position == end && noted.event.is_some_and(|event| event.incarnation == identity.incarnation);
    if is_noted || journal.contradictions().is_any() {
        return Ok(());
    }
    let Some(digest) = journal.digest_at(end).await? else { return Ok(()) };
    home.store_position(Arc::clone(name), LogMark::new(identity, end, digest)).await
}
