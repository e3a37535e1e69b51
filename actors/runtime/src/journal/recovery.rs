//! What is done to a log around its life: the comparison with its witness when it is opened, and the beginning of another life when
//! the operator has reconciled it.
//!
//! Plain functions; nothing here runs while the journal serves.

use std::{fs, io, path::Path};

use rusqlite::Connection;

pub use super::schema::RECONCILED;
use super::{
    connections::open_writer,
    contradictions::Contradictions,
    directory::Directory,
    identity::{EventDigest, LogIdentity},
    open_error::OpenError,
    reads, schema,
    types::Position,
    witness::{self, Witness},
};

/// Under which name a witness contradicts its log.
pub const WITNESS: &str = "the witness beside the log";

/// Opens the witness of the log in `directory`, and compares. Nothing where the log contradicts it: then it is to be left as it is.
pub(super) fn open_witness(
    directory: &Path,
    connection: &Connection,
    identity: LogIdentity,
    end: Position,
    contradictions: &Contradictions,
) -> io::Result<Option<Witness>> {
    let witness = match Witness::open(directory) {
        Ok(witness) => witness,
        // A full disk for example: the log is what counts, and is served without its witness.
        Err(error) => {
            tracing::warn!(directory = %directory.display(), %error, "the witness of the log cannot be opened");
            return Ok(None);
        }
    };
    let Some(mark) = witness.mark() else { return Ok(Some(witness)) };
    let found = digest_at(connection, mark.position).map_err(io::Error::other)?;
    let Err(contradiction) = mark.check(identity, end, found) else { return Ok(Some(witness)) };
    contradictions.raise(
        WITNESS,
        format!(
            "{contradiction}: the log in {} was cut, replaced or restored; `microcommerce recover` shows what that means",
            directory.display()
        ),
    );
    Ok(None)
}

fn digest_at(connection: &Connection, position: Position) -> Result<Option<EventDigest>, super::JournalError> {
    if position == 0 {
        return Ok(Some(EventDigest::NONE));
    }
    let events = reads::read_after(connection, position - 1, 1)?;
    Ok(events.first().filter(|event| event.position == position).map(EventDigest::of))
}

/// Begins another life of the log in `directory`, which must not be open, and forgets its witness: from here on its end is what it
/// is. For the operator's reconciliation alone.
///
/// # Errors
/// [`OpenError`], each a plain sentence.
pub fn begin_incarnation(directory: &Path) -> Result<LogIdentity, OpenError> {
    // First, so that it is given back last.
    let claim = Directory::claim(directory)?;
    let unwritable = |cause| OpenError::Unwritable { directory: directory.to_owned(), cause };
    let file = directory.join("journal.db");
    let database = |cause| OpenError::Database { file: file.clone(), cause };
    let mut connection = open_writer(&file)?;
    let newer = |found| OpenError::Newer { file: file.clone(), found };
    schema::bring_up_to_date(&mut connection).map_err(database)?.map_err(newer)?;
    let identity = schema::begin_incarnation(&connection).map_err(database)?;
    match fs::remove_file(witness::file_in(directory)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unwritable(error)),
        _ => {}
    }
    fs::File::open(directory).and_then(|directory| directory.sync_all()).map_err(unwritable)?;
    connection.close().map_err(|(_, cause)| database(cause))?;
    drop(claim);
    Ok(identity)
}
