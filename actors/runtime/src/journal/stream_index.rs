//! The stream index: where each version of a stream stands in the order of commits, and which command made it.
//!
//! Events are written one after another at the end of their table. An index by stream has them all over: once there are many
//! streams, nearly every command would change a page of its own, and the log would carry that page. So the index follows
//! behind: a version waits in memory until its stream's turn to be written to the table `versions`. The turns go round in
//! the order of the streams, a slice with each commit: neighbours are written together, and no commit pays for many. That
//! is the rolling merge of O'Neil et al., "The log-structured merge-tree" (Acta Informatica 33, 1996), between one tree in
//! memory and one on disk.
//!
//! The writer changes it, and readers look at it together with the database. Nothing is lost with the memory: what waited is
//! read again, when the journal is opened, from the events since the last round that was finished.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound::{Included, Unbounded},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rusqlite::{Connection, Transaction, params};

use super::{
    Position,
    ends::{newest_position, newest_version},
};
use crate::command::CommandId;

/// What a commit may be made to wait for, of a backlog that a crash has left: a millisecond or two.
const ARREARS_ROWS: usize = 1_024;

/// How often a reader tries to begin without holding up the writer.
const MOMENT_TRIES_MAX: usize = 3;

/// One version of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) number: u64,
    pub(super) position: Position,
    pub(super) command_id: CommandId,
}

/// The part of the index that is in memory.
pub(super) struct StreamIndex {
    waiting: Mutex<Waiting>,
    waiting_max: usize,
}

#[derive(Default)]
struct Waiting {
    /// By stream, each in the order of its versions. Those of a transaction that is not yet committed are the newest.
    streams: BTreeMap<Arc<str>, VecDeque<Version>>,
    count: usize,
    /// How often versions have left for the table.
    departures: u64,
    /// The newest position that was added.
    newest: Position,
    /// The newest position that is committed.
    committed: Position,
    /// The round takes what was there when it began…
    round_through: Position,
    /// …and goes on with this stream; with none, at the first.
    round_at: Option<Arc<str>>,
}

/// What one transaction writes to the table.
#[derive(Default)]
pub(super) struct Slice {
    rows: Vec<(Arc<str>, Version)>,
    /// Where the round goes on.
    next: Option<Arc<str>>,
    /// Set when the round is finished: all up to here is in the table.
    through: Option<Position>,
}

const WAITING: &str = "SELECT stream, version, position, command_id FROM events e \
                       WHERE position > (SELECT through FROM indexed) AND NOT EXISTS \
                       (SELECT 1 FROM versions v WHERE v.stream = e.stream AND v.version = e.version) ORDER BY position";
/// A stream may have been written before its turn; see [`StreamIndex::write_now`].
const INSERT_VERSION: &str =
    "INSERT OR IGNORE INTO versions (stream, version, position, command_id) VALUES (?1, ?2, ?3, ?4)";
const FINISH_ROUND: &str = "UPDATE indexed SET through = ?1";

impl StreamIndex {
    /// Reads again what was not in the table when the journal was last used. From then on about `waiting_max` versions are in
    /// memory: 32 bytes each, and what a tree takes for each of their streams.
    pub(super) fn recover(connection: &Connection, waiting_max: usize) -> rusqlite::Result<Self> {
        let mut waiting = Waiting::default();
        let mut statement = connection.prepare(WAITING)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let version = Version {
                number: row.get::<_, i64>(1)?.unsigned_abs(),
                position: row.get::<_, i64>(2)?.unsigned_abs(),
                command_id: CommandId::from_bytes(row.get(3)?),
            };
            waiting.add(&row.get::<_, String>(0)?.into(), version);
        }
        waiting.newest = newest_position(connection)?;
        waiting.committed = waiting.newest;
        waiting.round_through = waiting.newest;
        Ok(Self { waiting: Mutex::new(waiting), waiting_max })
    }

    /// The stream's newest version, 0 before its first; the transaction that is being written counts.
    pub(super) fn newest_version(&self, connection: &Connection, stream: &str) -> rusqlite::Result<u64> {
        let waiting = self.lock().streams.get(stream).and_then(VecDeque::back).map(|version| version.number);
        match waiting {
            Some(newest) => Ok(newest),
            None => newest_version(connection, stream),
        }
    }

    /// Adds a version whose event has been written in the transaction at hand.
    pub(super) fn add(&self, stream: &Arc<str>, version: Version) {
        self.lock().add(stream, version);
    }

    /// What the transaction at hand should write to the table: what is too many in memory, but of a backlog not more than
    /// [`ARREARS_ROWS`] beyond the `rows` that it writes anyway.
    pub(super) fn due(&self, rows: usize) -> Slice {
        let waiting = self.lock();
        let too_many = waiting.count.saturating_sub(self.waiting_max);
        waiting.slice(too_many.min(rows + ARREARS_ROWS))
    }

    /// The next rows of the round, whether or not there are too many in memory: at most `rows`.
    pub(super) fn next(&self, rows: usize) -> Slice {
        self.lock().slice(rows)
    }

    pub(super) fn is_behind(&self) -> bool {
        self.lock().count > 0
    }

    /// Writes a stream to the table at once, because a statement of this transaction needs all of it there.
    pub(super) fn write_now(&self, connection: &Connection, stream: &str) -> rusqlite::Result<()> {
        let versions = self.lock().streams.get(stream).cloned().unwrap_or_default();
        let mut insert = connection.prepare_cached(INSERT_VERSION)?;
        versions.iter().try_for_each(|version| version.insert(&mut insert, stream))
    }

    /// The transaction is committed, and with it `slice`.
    pub(super) fn committed(&self, slice: Slice) {
        let mut waiting = self.lock();
        waiting.committed = waiting.newest;
        let Slice { rows, next, through } = slice;
        waiting.departures += u64::from(!rows.is_empty());
        for (stream, _) in rows {
            waiting.take_first(&stream);
        }
        waiting.round_at = next;
        if through.is_some() {
            waiting.round_through = waiting.committed;
        }
    }

    /// The transaction is rolled back: what was added in it is gone.
    pub(super) fn rolled_back(&self) {
        let waiting = &mut *self.lock();
        for versions in waiting.streams.values_mut() {
            while versions.pop_back_if(|version| version.position > waiting.committed).is_some() {
                waiting.count -= 1;
            }
        }
        waiting.streams.retain(|_, versions| !versions.is_empty());
        waiting.newest = waiting.committed;
    }

    /// Begins to read at a moment of its own, and gives the versions of `stream` that wait at that moment, in order: from `first`
    /// on, for as long as they are `wanted`. Some of them may be in the table already: only those after the table's last are news.
    pub(super) fn moment<'connection>(
        &self,
        connection: &'connection Connection,
        stream: &str,
        first: u64,
        wanted: impl Fn(&Version) -> bool,
    ) -> rusqlite::Result<(Transaction<'connection>, Vec<Version>)> {
        self.moment_by(|| begin(connection), stream, first, wanted)
    }

    fn moment_by<'connection>(
        &self,
        begin: impl Fn() -> rusqlite::Result<(Transaction<'connection>, Position)>,
        stream: &str,
        first: u64,
        wanted: impl Fn(&Version) -> bool,
    ) -> rusqlite::Result<(Transaction<'connection>, Vec<Version>)> {
        let versions = |waiting: &Waiting, newest| {
            waiting.of(stream, first, |version| version.position <= newest && wanted(version))
        };
        // Where nothing has left the memory since before the moment, what is not here is in the table, as the database is then.
        for _ in 0..MOMENT_TRIES_MAX {
            let departures = self.lock().departures;
            let (moment, newest) = begin()?;
            let waiting = self.lock();
            if waiting.departures == departures {
                return Ok((moment, versions(&waiting, newest)));
            }
        }
        // While it is locked nothing leaves.
        let waiting = self.lock();
        let (moment, newest) = begin()?;
        Ok((moment, versions(&waiting, newest)))
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn begin(connection: &Connection) -> rusqlite::Result<(Transaction<'_>, Position)> {
    let moment = connection.unchecked_transaction()?;
    // The first read sets the moment.
    let newest = newest_position(connection)?;
    Ok((moment, newest))
}

impl Waiting {
    /// The versions of `stream` from `first` on, for as long as they are `wanted`.
    fn of(&self, stream: &str, first: u64, wanted: impl Fn(&Version) -> bool) -> Vec<Version> {
        let Some(versions) = self.streams.get(stream) else { return Vec::new() };
        let start = versions.partition_point(|version| version.number < first);
        versions.range(start..).take_while(|version| wanted(version)).copied().collect()
    }

    fn add(&mut self, stream: &Arc<str>, version: Version) {
        match self.streams.get_mut(stream) {
            Some(waiting) => waiting.push_back(version),
            None => {
                self.streams.insert(Arc::clone(stream), VecDeque::from([version]));
            }
        }
        self.count += 1;
        self.newest = version.position;
    }

    /// The next rows of the round, at most `rows`: fewer where it ends.
    fn slice(&self, rows: usize) -> Slice {
        let mut slice = Slice { next: self.round_at.clone(), ..Slice::default() };
        if rows == 0 {
            return slice;
        }
        let from = self.round_at.as_deref().map_or(Unbounded, Included);
        for (stream, versions) in self.streams.range::<str, _>((from, Unbounded)) {
            for version in versions.iter().take_while(|version| version.position <= self.round_through) {
                if slice.rows.len() == rows {
                    slice.next = Some(Arc::clone(stream));
                    return slice;
                }
                slice.rows.push((Arc::clone(stream), *version));
            }
        }
        Slice { next: None, through: Some(self.round_through), ..slice }
    }

    fn take_first(&mut self, stream: &str) {
        let Some(versions) = self.streams.get_mut(stream) else { return };
        self.count -= usize::from(versions.pop_front().is_some());
        if versions.is_empty() {
            self.streams.remove(stream);
        }
    }
}

impl Slice {
    /// How many rows it writes.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Writes it to the table, in the transaction at hand.
    pub(super) fn write(&self, connection: &Connection) -> rusqlite::Result<()> {
        let mut insert = connection.prepare_cached(INSERT_VERSION)?;
        self.rows.iter().try_for_each(|(stream, version)| version.insert(&mut insert, stream))?;
        if let Some(through) = self.through {
            connection.prepare_cached(FINISH_ROUND)?.execute([through.cast_signed()])?;
        }
        Ok(())
    }
}

impl Version {
    fn insert(&self, insert: &mut rusqlite::CachedStatement<'_>, stream: &str) -> rusqlite::Result<()> {
        let Self { number, position, command_id } = self;
        insert.execute(params![stream, number.cast_signed(), position.cast_signed(), command_id.as_bytes()])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use super::{
        super::{reads, schema},
        *,
    };

    fn version(number: u64, position: Position) -> Version {
        Version { number, position, command_id: CommandId::from_u128(u128::from(position)) }
    }

    fn waiting(versions: &[(&str, u64)]) -> StreamIndex {
        let index = StreamIndex { waiting: Mutex::default(), waiting_max: 0 };
        for (position, (stream, number)) in (1..).zip(versions) {
            index.add(&Arc::from(*stream), version(*number, position));
        }
        index.committed(Slice::default());
        index.lock().round_through = versions.len() as Position;
        index
    }

    fn streams(slice: &Slice) -> Vec<(&str, u64)> {
        slice.rows.iter().map(|(stream, version)| (&**stream, version.number)).collect()
    }

    #[test]
    fn a_round_goes_by_streams_and_takes_what_was_there_when_it_began() {
        let index = waiting(&[("c", 1), ("a", 1), ("b", 1), ("a", 2)]);
        let first = index.next(3);
        assert_eq!((streams(&first), first.through), (vec![("a", 1), ("a", 2), ("b", 1)], None));
        index.add(&Arc::from("c"), version(2, 5));
        index.committed(first);
        let last = index.next(3);
        assert_eq!((streams(&last), last.through), (vec![("c", 1)], Some(4)), "the newer one waits for the next round");
        index.committed(last);
        let next = index.next(3);
        assert_eq!((streams(&next), next.through), (vec![("c", 2)], Some(5)));
        index.committed(next);
        assert!(!index.is_behind());
    }

    #[test]
    fn one_busy_stream_does_not_hold_up_the_round() {
        let index = waiting(&[("a", 1), ("a", 2), ("b", 1)]);
        let mut newest = (2, 3);
        for through in [3, 6, 9] {
            for _ in 0..3 {
                newest = (newest.0 + 1, newest.1 + 1);
                index.add(&Arc::from("a"), version(newest.0, newest.1));
            }
            let slice = index.next(100);
            assert_eq!(slice.through, Some(through));
            index.committed(slice);
        }
    }

    #[test]
    fn readers_beside_the_writer_find_every_stream_whole() -> Result<(), Box<dyn std::error::Error>> {
        const STREAMS: u64 = 5;
        const COMMITS: u64 = 3_000;
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("journal.db");
        let mut connection = Connection::open(&file)?;
        connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;")?;
        schema::bring_up_to_date(&mut connection)?.expect("the file is new");
        let index = StreamIndex::recover(&connection, 7)?;
        let committed = AtomicU64::new(0);
        // Also where the writer falls: readers that waited for its last commit would hide why.
        let is_over = AtomicBool::new(false);
        struct Over<'a>(&'a AtomicBool);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Release);
            }
        }
        let read = || -> Result<u64, Box<dyn std::error::Error + Send + Sync>> {
            let connection = Connection::open(&file)?;
            let mut reads = 0;
            loop {
                let is_last = is_over.load(Ordering::Acquire);
                let rounds = committed.load(Ordering::Acquire);
                let stream = format!("s{}", reads % STREAMS);
                let events = reads::all_events_of(&connection, &index, &stream)?;
                assert!(events.len() as u64 >= rounds, "{} of at least {rounds} events of {stream}", events.len());
                assert!((1..).zip(&events).all(|(number, event)| event.version == number), "{stream} has a gap");
                reads += 1;
                if is_last && reads >= STREAMS {
                    return Ok(reads);
                }
            }
        };
        std::thread::scope(|scope| {
            let readers = [scope.spawn(read), scope.spawn(read)];
            let writer = Over(&is_over);
            for number in 1..=COMMITS {
                connection.execute_batch("BEGIN IMMEDIATE")?;
                for stream in 0..STREAMS {
                    let stream = Arc::from(format!("s{stream}"));
                    let id = CommandId::from_u128(u128::from(number));
                    let position = connection
                        .prepare_cached(
                            "INSERT INTO events (stream, version, event_type, schema, payload, at_ms, command_id) \
                             VALUES (?1, ?2, 'tested', 1, '{}', 0, ?3)",
                        )?
                        .insert(params![stream, number.cast_signed(), id.as_bytes()])?;
                    index.add(&stream, Version { number, position: position.unsigned_abs(), command_id: id });
                }
                let slice = index.due(STREAMS as usize);
                slice.write(&connection)?;
                connection.execute_batch("COMMIT")?;
                index.committed(slice);
                committed.store(number, Ordering::Release);
            }
            drop(writer);
            for reader in readers {
                assert!(reader.join().expect("no reader panics").expect("the stream is read") > COMMITS / 100);
            }
            Ok(())
        })
    }

    #[test]
    fn what_is_rolled_back_has_not_been() {
        let index = waiting(&[("a", 1)]);
        index.add(&Arc::from("a"), version(2, 2));
        index.add(&Arc::from("a"), version(3, 3));
        index.add(&Arc::from("b"), version(1, 4));
        index.rolled_back();
        assert_eq!(streams(&index.next(9)), [("a", 1)]);
        index.add(&Arc::from("a"), version(2, 2));
        let slice = index.next(9);
        assert_eq!(streams(&slice), [("a", 1)], "its round began before");
        index.committed(slice);
        let slice = index.next(9);
        assert_eq!(streams(&slice), [("a", 2)]);
        assert!(index.is_behind());
        index.committed(slice);
        assert!(!index.is_behind(), "none of them is waited for");
    }

    #[test]
    fn a_version_is_known_from_memory_or_from_the_table_and_what_is_there_is_not_read_again()
    -> Result<(), Box<dyn std::error::Error>> {
        let directory = tempfile::tempdir()?;
        let mut connection = Connection::open(directory.path().join("journal.db"))?;
        schema::bring_up_to_date(&mut connection)?.expect("the file is new");
        for (stream, number) in [("a", 1), ("b", 1), ("a", 2)] {
            let id = CommandId::from_u128(number);
            connection.execute(
                "INSERT INTO events (stream, version, event_type, schema, payload, at_ms, command_id) \
                 VALUES (?1, ?2, 'tested', 1, '{}', 0, ?3)",
                params![stream, number as i64, id.as_bytes()],
            )?;
        }
        let index = StreamIndex::recover(&connection, 0)?;
        let newest = |index: &StreamIndex| ["a", "b", "c"].map(|stream| index.newest_version(&connection, stream));
        assert_eq!(newest(&index), [Ok(2), Ok(1), Ok(0)]);
        let slice = index.next(2);
        assert_eq!(streams(&slice), [("a", 1), ("a", 2)]);
        slice.write(&connection)?;
        index.committed(slice);
        assert_eq!(newest(&index), [Ok(2), Ok(1), Ok(0)], "of the first from the table, now");
        let again = StreamIndex::recover(&connection, 0)?;
        assert_eq!(streams(&again.next(9)), [("b", 1)]);
        again.write_now(&connection, "b")?;
        assert_eq!(newest_version(&connection, "b"), Ok(1), "at once, before its turn");
        assert!(!StreamIndex::recover(&connection, 0)?.is_behind());
        let last = index.next(9);
        assert_eq!((streams(&last), last.through), (vec![("b", 1)], Some(3)));
        last.write(&connection)?;
        let through: i64 = connection.query_row("SELECT through FROM indexed", [], |row| row.get(0))?;
        assert_eq!(through, 3, "the round is finished, and no event before its end is looked at again");
        Ok(())
    }

    #[test]
    fn a_round_begins_with_the_first_stream_again() {
        let index = waiting(&[("a", 1), ("b", 1)]);
        let first = index.next(1);
        assert_eq!((streams(&first), first.len()), (vec![("a", 1)], 1));
        index.committed(first);
        index.add(&Arc::from("a"), version(2, 3));
        index.committed(index.next(0));
        let last = index.next(9);
        assert_eq!((streams(&last), last.through), (vec![("b", 1)], Some(2)));
        index.committed(last);
        assert_eq!(streams(&index.next(9)), [("a", 2)]);
    }

    #[test]
    fn a_commit_writes_what_is_too_many_and_of_a_backlog_a_bounded_part() {
        let mut index = waiting(&vec![("a", 1); 5_000]);
        assert_eq!(index.due(10).len(), 10 + ARREARS_ROWS);
        index.waiting_max = 4_997;
        assert_eq!(index.due(10).len(), 3);
        index.waiting_max = 5_000;
        assert_eq!(index.due(10).len(), 0);
    }

    #[test]
    fn the_versions_of_a_stream_are_found_from_any_of_them_on() {
        let index = waiting(&[("a", 4), ("b", 1), ("a", 5), ("a", 6)]);
        let of = |stream: &str, first| -> Vec<u64> {
            let versions = index.lock().of(stream, first, |version| version.position < 4);
            versions.iter().map(|version| version.number).collect()
        };
        assert_eq!([of("a", 0), of("a", 4), of("a", 5), of("a", 6)], [vec![4, 5], vec![4, 5], vec![5], vec![]]);
        assert_eq!(of("c", 1), [0; 0]);
    }

    /// A version that is written to the table while a reader begins is in neither place for it: not in memory any more, and not yet
    /// in the table as the reader's moment has it. Then the reader begins again.
    #[test]
    fn what_leaves_the_memory_while_a_reader_begins_is_found_all_the_same() -> Result<(), Box<dyn std::error::Error>> {
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("journal.db");
        let mut writer = Connection::open(&file)?;
        writer.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;")?;
        schema::bring_up_to_date(&mut writer)?.expect("the file is new");
        let (index, reader) = (StreamIndex::recover(&writer, 0)?, Connection::open(&file)?);
        for leaving in 0..=MOMENT_TRIES_MAX {
            let stream: Arc<str> = format!("s{leaving}").into();
            let stored: Vec<u64> = (1..=leaving as u64 + 1).collect();
            stored.iter().for_each(|number| index.add(&stream, version(*number, *number)));
            index.committed(Slice::default());
            index.lock().round_through = leaving as Position + 1;
            // One version leaves at each of the first beginnings, after the moment is set and before the memory is looked at.
            let beginnings = std::cell::Cell::new(0);
            let begin = || {
                let moment = begin(&reader)?;
                beginnings.set(beginnings.get() + 1);
                if beginnings.get() <= leaving {
                    let slice = index.next(1);
                    slice.write(&writer)?;
                    index.committed(slice);
                }
                Ok((moment.0, Position::MAX))
            };
            let (moment, waiting) = index.moment_by(begin, &stream, 1, |_| true)?;
            let mut found: Vec<u64> = moment
                .prepare("SELECT version FROM versions WHERE stream = ?1 ORDER BY version")?
                .query_map([&*stream], |row| Ok(row.get::<_, i64>(0)?.unsigned_abs()))?
                .collect::<rusqlite::Result<_>>()?;
            found.extend(waiting.iter().map(|version| version.number));
            assert_eq!(found, stored, "each is in one place");
            assert_eq!(beginnings.get(), leaving + 1, "it begins again when one has left, and not otherwise");
            drop(moment);
            for _ in 0..2 {
                index.committed(index.next(9));
            }
            assert!(!index.is_behind());
        }
        Ok(())
    }
}
