//! The witness: a small file beside the log that remembers how far the log was acknowledged.
//!
//! A log that has lost its tail looks like a shorter log: nothing in it says so. The witness does. A thread of its own notes,
//! behind the commits and at most each [`NOTED_EVERY`], the last acknowledged position and the digest of its event. It notes
//! only what is durable, so it is never ahead of the log; after a crash it may be behind by as much. Two slots are written
//! in turns, each with a number and a checksum: a slot that was torn leaves the other. When the journal is opened the log is
//! compared with it. A log that contradicts its witness is left as it is, and the witness too, until the operator reconciles.
//!
//! A directory that is replaced whole takes its witness with it: then the others' positions are what contradicts.

use std::{
    convert::Infallible,
    fs::File,
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use rusqlite::Connection;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::{
    Position,
    identity::{EventDigest, Incarnation, LogId, LogIdentity, LogMark, MarkedEvent},
    reads,
};
use crate::private_files;

/// How often at most the position is noted: what an acknowledged tail can be cut by without being seen.
const NOTED_EVERY: Duration = Duration::from_millis(200);
/// A slot: a sector, so that one is never torn with the other.
const SLOT_BYTES: usize = 512;
/// The slots.
const SLOTS: u64 = 2;
/// What a slot begins with.
const MAGIC: [u8; 8] = *b"mcwitns1";
/// What of a slot is used, without its checksum.
const CONTENT_BYTES: usize = 72;
/// The checksum behind it.
const CHECKSUM_BYTES: usize = 16;

/// The name of the file in the journal's directory.
pub(super) const FILE_NAME: &str = "journal.witness";

/// What the witness says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Note {
    number: u64,
    mark: LogMark,
}

/// The file.
pub(super) struct Witness {
    file: File,
    last: Option<Note>,
}

impl Witness {
    /// Opens or makes the file in `directory`, and reads what it says.
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        let path = file_in(directory);
        private_files::close_to_others(&path);
        let file = File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        let last = read(&file)?;
        if last.is_none() && file.metadata()?.len() > 0 {
            tracing::warn!(file = %path.display(), "the witness cannot be read: it is begun anew");
        }
        Ok(Self { file, last })
    }

    /// What it says, if it says anything.
    pub(super) fn mark(&self) -> Option<LogMark> {
        self.last.map(|note| note.mark)
    }

    /// Notes a place in the log, durably.
    fn note(&mut self, mark: LogMark) -> io::Result<()> {
        let note = Note { number: self.last.map_or(0, |last| last.number) + 1, mark };
        let Some(slot) = encode(&note) else { return Ok(()) };
        self.file.write_all_at(&slot, (note.number % SLOTS) * SLOT_BYTES as u64)?;
        self.file.sync_data()?;
        self.last = Some(note);
        Ok(())
    }
}

/// The thread that notes.
pub(super) struct WitnessKeeper {
    /// Dropped, it tells it to note the end and to stop.
    stop: Sender<Infallible>,
    /// Disconnected once its connection is closed.
    ended: Receiver<Infallible>,
}

impl WitnessKeeper {
    /// Starts it on a connection of its own that reads. `committed` says what is durable.
    pub(super) fn start(
        mut witness: Witness,
        identity: LogIdentity,
        connection: Connection,
        committed: watch::Receiver<Position>,
    ) -> io::Result<Self> {
        let (stop, stopped) = bounded::<Infallible>(0);
        let (ending, ended) = bounded(0);
        thread::Builder::new().name("journal-witness".to_owned()).spawn(move || {
            let mut has_failed = false;
            loop {
                let is_last = stopped.recv_timeout(NOTED_EVERY) != Err(RecvTimeoutError::Timeout);
                let position = *committed.borrow();
                let noted = note_at(&mut witness, identity, &connection, position);
                if let Err(reason) = &noted
                    && !has_failed
                {
                    // The log is what counts. Without a newer note a later loss is seen less well, that is all.
                    tracing::warn!(reason, "the witness of the log could not be written; it is tried again");
                }
                has_failed = noted.is_err();
                if is_last {
                    break;
                }
            }
            drop(connection);
            drop::<Sender<Infallible>>(ending);
        })?;
        Ok(Self { stop, ended })
    }

    /// Notes the end and stops; from then on nothing is written to the file. False when it has not ended by `deadline`.
    pub(super) fn stop(self, deadline: Instant) -> bool {
        let Self { stop, ended } = self;
        drop(stop);
        matches!(ended.recv_deadline(deadline), Err(RecvTimeoutError::Disconnected))
    }
}

fn note_at(
    witness: &mut Witness,
    identity: LogIdentity,
    connection: &Connection,
    position: Position,
) -> Result<(), String> {
    let is_noted = witness.mark().is_some_and(|mark| {
        mark.position == position && mark.event.is_some_and(|event| event.incarnation == identity.incarnation)
    });
    if is_noted {
        return Ok(());
    }
    let events = reads::read_after(connection, position.saturating_sub(1), 1).map_err(|error| error.to_string())?;
    let digest = match events.first() {
        Some(event) if event.position == position => EventDigest::of(event),
        _ if position == 0 => EventDigest::NONE,
        _ => return Err(format!("there is no event at position {position}")),
    };
    witness.note(LogMark::new(identity, position, digest)).map_err(|error| error.to_string())
}

/// Where the witness of the journal in `directory` is.
pub(super) fn file_in(directory: &Path) -> PathBuf {
    directory.join(FILE_NAME)
}

fn encode(note: &Note) -> Option<[u8; SLOT_BYTES]> {
    let event = note.mark.event?;
    let mut slot = [0; SLOT_BYTES];
    let fields: [&[u8]; 6] = [
        &MAGIC,
        &note.number.to_be_bytes(),
        &event.log.0,
        &event.incarnation.0,
        &note.mark.position.to_be_bytes(),
        &event.digest.0,
    ];
    let mut at = 0;
    for field in fields {
        slot[at..at + field.len()].copy_from_slice(field);
        at += field.len();
    }
    let checksum = checksum_of(&slot);
    slot[CONTENT_BYTES..CONTENT_BYTES + CHECKSUM_BYTES].copy_from_slice(&checksum);
    Some(slot)
}

fn checksum_of(slot: &[u8; SLOT_BYTES]) -> [u8; CHECKSUM_BYTES] {
    let mut checksum = [0; CHECKSUM_BYTES];
    checksum.copy_from_slice(&Sha256::digest(&slot[..CONTENT_BYTES])[..CHECKSUM_BYTES]);
    checksum
}

fn decode(slot: &[u8; SLOT_BYTES]) -> Option<Note> {
    if slot[..8] != MAGIC || slot[CONTENT_BYTES..CONTENT_BYTES + CHECKSUM_BYTES] != checksum_of(slot) {
        return None;
    }
    let sixteen = |at: usize| slot[at..at + 16].try_into().ok();
    let number = |at: usize| slot[at..at + 8].try_into().ok().map(u64::from_be_bytes);
    let event = MarkedEvent {
        log: LogId(sixteen(16)?),
        incarnation: Incarnation(sixteen(32)?),
        digest: EventDigest(sixteen(56)?),
    };
    // In the order in which they are written: magic, number, log, incarnation, position, digest.
    let position = number(48)?;
    Some(Note { number: number(8)?, mark: LogMark { position, event: Some(event) } })
}

fn read(file: &File) -> io::Result<Option<Note>> {
    let mut newest: Option<Note> = None;
    for index in 0..SLOTS {
        let mut slot = [0; SLOT_BYTES];
        match file.read_exact_at(&mut slot, index * SLOT_BYTES as u64) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => continue,
            Err(error) => return Err(error),
        }
        let note = decode(&slot);
        if note.map(|note| note.number) > newest.map(|note| note.number) {
            newest = note;
        }
    }
    Ok(newest)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn mark(position: Position) -> LogMark {
        let identity = LogIdentity { log: LogId([7; 16]), incarnation: Incarnation([1; 16]) };
        LogMark::new(identity, position, EventDigest([position as u8; 16]))
    }

    #[test]
    fn the_last_note_is_read_and_a_torn_one_leaves_the_one_before() {
        let directory = tempfile::tempdir().unwrap();
        let mut witness = Witness::open(directory.path()).unwrap();
        assert_eq!(witness.mark(), None);
        for position in 1..=5 {
            witness.note(mark(position)).unwrap();
        }
        assert_eq!(Witness::open(directory.path()).unwrap().mark(), Some(mark(5)));
        // The fifth is in the second slot, the fourth in the first.
        let file = file_in(directory.path());
        let mut bytes = fs::read(&file).unwrap();
        bytes[SLOT_BYTES + 60] ^= 1;
        fs::write(&file, &bytes).unwrap();
        let mut witness = Witness::open(directory.path()).unwrap();
        assert_eq!(witness.mark(), Some(mark(4)));
        // The next takes the torn one's place.
        witness.note(mark(6)).unwrap();
        assert_eq!(Witness::open(directory.path()).unwrap().mark(), Some(mark(6)));
    }

    #[test]
    fn a_file_that_is_none_says_nothing() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(file_in(directory.path()), b"something else").unwrap();
        assert_eq!(Witness::open(directory.path()).unwrap().mark(), None);
    }
}
