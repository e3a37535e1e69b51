//! The whole check of a journal's file: every page of every table and index.
//!
//! Opening a journal reads a few pages of it. What is wrong with the others is found by SQLite's own check, table by table: beside
//! the sale, on a connection and a thread of its own, at most a quarter of the time at work; and before the journal serves
//! where the machine has gone down under it (see `super::boot`), when what the disk had promised may not be there.
//!
//! One table is one read transaction. While that lasts, the log cannot start over, so it is bounded; a table that takes longer is
//! read through in slices instead, each a transaction of its own, which finds damage in its rows and not in its indexes.
//! Whatever it finds goes to `super::damage`. It changes nothing. It ends with its journal.

use std::{
    convert::Infallible,
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use rusqlite::{Connection, ErrorCode, OpenFlags, params_from_iter, types::Value};

use super::{
    connections::leave_the_log_alone,
    damage::{Damage, is_damage},
    progress::ProgressSender,
};

/// Pages, or steps of a statement, between two looks at the clock.
const STEPS: i32 = 64;
/// So long it works…
const WORK: Duration = Duration::from_millis(4);
/// …and then so long it rests.
const REST: Duration = Duration::from_millis(12);
/// The longest read transaction of the check beside the sale.
const TRANSACTION_MAX: Duration = Duration::from_secs(30);
/// Rows in one slice of a table that is too large for that.
const SLICE_ROWS: usize = 2_000;
/// What is found in one table: more lines say nothing more.
const FINDINGS_MAX: u32 = 3;

/// When the check beside the sale runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntegrityChecks {
    /// After the journal was opened.
    pub first_after: Duration,
    /// After the end of the one before.
    pub every: Duration,
}

impl Default for IntegrityChecks {
    fn default() -> Self {
        Self { first_after: Duration::from_secs(1), every: Duration::from_secs(6 * 60 * 60) }
    }
}

/// The thread that checks beside the sale.
pub(super) struct IntegrityChecker {
    end: Sender<Infallible>,
    is_told: Arc<AtomicBool>,
    /// Disconnected once its connection is closed.
    ended: Receiver<Infallible>,
}

impl IntegrityChecker {
    /// Starts it on the database `file`.
    pub(super) fn start(file: &Path, checks: IntegrityChecks, damage: Damage) -> io::Result<Self> {
        let (end, told) = bounded(0);
        let (ending, ended) = bounded::<Infallible>(0);
        let is_told = Arc::new(AtomicBool::new(false));
        let (file, is_over) = (file.to_owned(), Arc::clone(&is_told));
        thread::Builder::new().name("journal-check".to_owned()).spawn(move || {
            let mut pause = checks.first_after;
            while is_time(&told, pause) {
                pause = checks.every;
                // Opened for each round: a connection that was open before would answer from what it has read already.
                let outcome = open(&file).and_then(|mut connection| round(&mut connection, &is_over, &damage));
                match outcome {
                    Ok(()) => {}
                    Err(error) if is_damage(&error) => damage.found(&error.to_string()),
                    Err(error) => tracing::warn!(%error, "the database could not be checked; it is tried again"),
                }
            }
            drop(ending);
        })?;
        Ok(Self { end, is_told, ended })
    }

    /// Ends the check at hand, and the thread with its connection. False when it has not ended by `deadline`.
    pub(super) fn stop(self, deadline: Instant) -> bool {
        let Self { end, is_told, ended } = self;
        is_told.store(true, Ordering::Release);
        drop(end);
        matches!(ended.recv_deadline(deadline), Err(RecvTimeoutError::Disconnected))
    }
}

/// Waits; false when it is over.
fn is_time(told: &Receiver<Infallible>, pause: Duration) -> bool {
    told.recv_timeout(pause) == Err(RecvTimeoutError::Timeout)
}

fn open(file: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    leave_the_log_alone(&connection)?;
    connection.execute_batch("PRAGMA query_only = ON; PRAGMA cache_size = -2048;")?;
    connection.busy_timeout(Duration::from_secs(1))?;
    Ok(connection)
}

/// One round over all tables, at its pace.
fn round(connection: &mut Connection, is_ended: &Arc<AtomicBool>, damage: &Damage) -> rusqlite::Result<()> {
    let began = Instant::now();
    let tables = tables(connection)?;
    for table in &tables {
        pace(connection, is_ended)?;
        let checked = findings(connection, "quick_check", table);
        connection.progress_handler(0, None::<fn() -> bool>)?;
        let found = match checked {
            _ if is_ended.load(Ordering::Acquire) => return Ok(()),
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => {
                tracing::info!(table = table.name, "the table is too large for one look: its rows are read in slices");
                read_through(connection, table, is_ended)
            }
            checked => checked,
        };
        match found {
            Ok(found) => found.iter().for_each(|what| damage.found(&format!("{}: {what}", table.name))),
            Err(error) if is_damage(&error) => damage.found(&format!("{}: {error}", table.name)),
            Err(error) => return Err(error),
        }
    }
    tracing::debug!(tables = tables.len(), seconds = began.elapsed().as_secs(), "the database has been checked");
    Ok(())
}

/// Lets the connection rest after each bit of work, and ends its statement when it is to end or has taken too long.
fn pace(connection: &mut Connection, is_ended: &Arc<AtomicBool>) -> rusqlite::Result<()> {
    let is_ended = Arc::clone(is_ended);
    let began = Instant::now();
    let mut working_since = began;
    connection.progress_handler(
        STEPS,
        Some(move || {
            if working_since.elapsed() >= WORK {
                thread::sleep(REST);
                working_since = Instant::now();
            }
            is_ended.load(Ordering::Acquire) || began.elapsed() >= TRANSACTION_MAX
        }),
    )
}

/// Checks the whole file before anybody is served: as fast as it goes, and the indexes against their tables too. Gives the
/// first finding.
pub(super) fn check_before_serving(
    connection: &Connection,
    progress: &ProgressSender,
) -> rusqlite::Result<Option<String>> {
    let tables = tables(connection)?;
    let mut step = progress.step("checks its database, since the machine went down under it", tables.len() as u64);
    for (done, table) in tables.iter().enumerate() {
        step.done(done as u64);
        let found = findings(connection, "integrity_check", table)?;
        if let Some(what) = found.into_iter().next() {
            return Ok(Some(format!("{}: {what}", table.name)));
        }
    }
    Ok(None)
}

struct Table {
    name: String,
    /// The columns of its key where it has no row ids.
    key: Vec<String>,
}

fn tables(connection: &Connection) -> rusqlite::Result<Vec<Table>> {
    let sql = "SELECT name, wr FROM pragma_table_list WHERE schema = 'main' AND type = 'table' ORDER BY name";
    let mut statement = connection.prepare(sql)?;
    let tables = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let tables = tables.collect::<rusqlite::Result<Vec<(String, bool)>>>()?;
    let mut key_of = connection.prepare("SELECT name FROM pragma_table_info(?1) WHERE pk > 0 ORDER BY pk")?;
    let with_key = |(name, is_without_row_ids): (String, bool)| {
        let key = if is_without_row_ids {
            key_of.query_map([&name], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?
        } else {
            Vec::new()
        };
        Ok(Table { name, key })
    };
    tables.into_iter().map(with_key).collect()
}

/// What SQLite's check of one table says, if it does not say that all is well.
fn findings(connection: &Connection, check: &str, table: &Table) -> rusqlite::Result<Vec<String>> {
    let mut found = Vec::new();
    connection.pragma(None, check, &table.name, |row| {
        let line: String = row.get(0)?;
        if line != "ok" && found.len() < FINDINGS_MAX as usize {
            found.push(line.lines().map(str::trim).collect::<Vec<_>>().join(" "));
        }
        Ok(())
    })?;
    Ok(found)
}

/// Reads every row of a table, slice by slice.
fn read_through(connection: &Connection, table: &Table, is_ended: &AtomicBool) -> rusqlite::Result<Vec<String>> {
    let quoted = |name: &String| format!("\"{}\"", name.replace('"', "\"\""));
    let key = if table.key.is_empty() {
        "rowid".to_owned()
    } else {
        table.key.iter().map(quoted).collect::<Vec<_>>().join(", ")
    };
    let width = table.key.len().max(1);
    let places = (1..=width).map(|number| format!("?{number}")).collect::<Vec<_>>().join(", ");
    let name = quoted(&table.name);
    let first = format!("SELECT {key}, * FROM {name} ORDER BY {key} LIMIT {SLICE_ROWS}");
    let next = format!("SELECT {key}, * FROM {name} WHERE ({key}) > ({places}) ORDER BY {key} LIMIT {SLICE_ROWS}");
    let mut after: Vec<Value> = Vec::new();
    while !is_ended.load(Ordering::Acquire) {
        let began = Instant::now();
        let mut statement = connection.prepare_cached(if after.is_empty() { &first } else { &next })?;
        let columns = statement.column_count();
        let mut rows = statement.query(params_from_iter(&after))?;
        let mut last = Vec::new();
        let mut count = 0;
        while let Some(row) = rows.next()? {
            for column in width..columns {
                // What of a row is not on its page is read with its value.
                let _ = row.get_ref(column)?;
            }
            last = (0..width).map(|column| row.get(column)).collect::<rusqlite::Result<_>>()?;
            count += 1;
        }
        drop(rows);
        if count < SLICE_ROWS {
            break;
        }
        after = last;
        thread::sleep(began.elapsed() * 3);
    }
    Ok(Vec::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(rows: i64) -> (tempfile::TempDir, std::path::PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("some.db");
        let connection = Connection::open(&file).unwrap();
        connection
            .execute_batch(
                "CREATE TABLE by_row (a TEXT, b TEXT); CREATE INDEX by_a ON by_row (a);
                 CREATE TABLE by_key (a TEXT, b INTEGER, c TEXT, PRIMARY KEY (a, b)) WITHOUT ROWID;",
            )
            .unwrap();
        let filler = "x".repeat(300);
        connection.execute_batch("BEGIN").unwrap();
        for row in 0..rows {
            connection.execute("INSERT INTO by_row VALUES (?1, ?2)", (format!("{row} {filler}"), &filler)).unwrap();
            let key = (row / 7).to_string();
            connection.execute("INSERT INTO by_key VALUES (?1, ?2, ?3)", (key, row, &filler)).unwrap();
        }
        connection.execute_batch("COMMIT").unwrap();
        (directory, file)
    }

    /// Overwrites one page in the middle of a table or index.
    fn damage_a_page_of(file: &Path, name: &str) {
        let connection = Connection::open(file).unwrap();
        let sql = "SELECT pageno FROM dbstat WHERE name = ?1 AND pagetype = 'leaf' ORDER BY pageno LIMIT 1 OFFSET 3";
        let page: i64 = connection.query_row(sql, [name], |row| row.get(0)).unwrap();
        drop(connection);
        let mut bytes = std::fs::read(file).unwrap();
        let begin = (page as usize - 1) * 4_096;
        bytes[begin..begin + 64].fill(0xff);
        std::fs::write(file, bytes).unwrap();
    }

    fn found_in_round(file: &Path) -> Option<String> {
        let damage = Damage::none();
        round(&mut open(file).unwrap(), &Arc::default(), &damage).unwrap();
        damage.subscribe().borrow().clone()
    }

    #[test]
    fn one_page_of_a_table_or_an_index_is_found_wherever_it_is() {
        for name in ["by_row", "by_key", "by_a"] {
            let (_directory, file) = database(500);
            assert_eq!(found_in_round(&file), None);
            damage_a_page_of(&file, name);
            let found = found_in_round(&file).unwrap();
            assert!(found.contains(if name == "by_a" { "by_row" } else { name }), "{found}");
            let before = check_before_serving(&open(&file).unwrap(), &ProgressSender::default());
            assert!(before.map_or_else(|error| is_damage(&error), |found| found.is_some()), "{name}");
        }
    }

    #[test]
    fn slices_read_every_row_of_a_table_and_find_what_cannot_be_read() {
        for name in ["by_row", "by_key"] {
            let (_directory, file) = database(3 * SLICE_ROWS as i64 + 1);
            let of_table = |connection: &Connection| {
                let table = tables(connection).unwrap().into_iter().find(|table| table.name == name).unwrap();
                read_through(connection, &table, &AtomicBool::new(false))
            };
            assert_eq!(of_table(&open(&file).unwrap()).unwrap(), Vec::<String>::new());
            damage_a_page_of(&file, name);
            assert!(is_damage(&of_table(&open(&file).unwrap()).unwrap_err()), "{name}");
        }
    }
}
