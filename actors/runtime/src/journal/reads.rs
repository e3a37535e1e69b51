//! What is read from a journal's tables.
//!
//! Plain functions on a connection: the embedded journal's readers and the in-memory journal ask the same questions. They
//! see committed rows only. Nothing is written here.

use rusqlite::{Connection, OptionalExtension, params, params_from_iter, types::ValueRef};

use super::{
    JournalError, Loaded, Outcome, Position, QUERY_ROWS_MAX, Recorded, RecordedOutcome, Row, SqlValue,
    damage::is_damage,
    ends::newest_version,
    identity::{EventDigest, Incarnation, LogId, LogMark, MarkedEvent},
    stream_index::{StreamIndex, Version},
};
use crate::{
    command::CommandId,
    seen::{SEEN_COMMANDS_MAX, SeenCommand},
};

/// What [`recorded`] reads, from `events e` as the rest says.
macro_rules! select_events {
    ($from:literal) => {
        concat!(
            "SELECT e.position, e.stream, e.version, event_type, schema, payload, at_ms, correlation_id, causation_id, actor, ",
            "traceparent, published_before FROM ",
            $from
        )
    };
}

/// Prepared statements kept per connection.
pub(super) const STATEMENTS_MAX: usize = 128;

/// A stream as its entity needs it: snapshot, tail and command ids, all of one moment.
pub(super) fn load_stream(
    connection: &Connection,
    index: &StreamIndex,
    stream: &str,
    seen_max: usize,
) -> Result<Loaded, JournalError> {
    load_at_one_moment(connection, index, stream, seen_max).map_err(query_error)
}

/// All events of a stream.
pub(super) fn all_events_of(
    connection: &Connection,
    index: &StreamIndex,
    stream: &str,
) -> Result<Vec<Recorded>, JournalError> {
    let all = |connection| {
        let (_moment, waiting) = index.moment(connection, stream, 1, |_| true)?;
        events_of(connection, &waiting, stream, 0, i64::MAX.unsigned_abs())
    };
    all(connection).map_err(query_error)
}

/// The events after `position`, at most `limit`.
pub(super) fn read_after(
    connection: &Connection,
    position: Position,
    limit: usize,
) -> Result<Vec<Recorded>, JournalError> {
    let mut statement = connection
        .prepare_cached(select_events!("events e WHERE position > ?1 ORDER BY position LIMIT ?2"))
        .map_err(query_error)?;
    let rows = statement.query_map(params![position.cast_signed(), limit as i64], recorded).map_err(query_error)?;
    rows.collect::<Result<_, _>>().map_err(query_error)
}

/// How many events the streams from `first` on and before `end` have. All of them must be in the table `versions`.
pub(super) fn events_between(connection: &Connection, first: &str, end: &str) -> rusqlite::Result<u64> {
    connection
        .prepare_cached("SELECT count(*) FROM versions WHERE stream >= ?1 AND stream < ?2")?
        .query_row([first, end], |row| row.get::<_, i64>(0))
        .map(i64::unsigned_abs)
}

/// The events after this version of `stream` and of the streams after it, before `end`, stream by stream. All of them must be
/// in the table `versions`.
pub(super) fn events_after(
    connection: &Connection,
    stream: &str,
    version: u64,
    end: &str,
    limit: usize,
) -> rusqlite::Result<Vec<Recorded>> {
    let mut statement = connection.prepare_cached(select_events!(
        "versions v JOIN events e ON e.position = v.position \
         WHERE (v.stream, v.version) > (?1, ?2) AND v.stream < ?3 ORDER BY v.stream, v.version LIMIT ?4"
    ))?;
    let rows = statement.query_map(params![stream, version.cast_signed(), end, limit as i64], recorded)?;
    rows.collect()
}

/// The rows of a question to the read model.
pub(super) fn query(connection: &Connection, sql: &str, values: &[SqlValue]) -> Result<Vec<Row>, JournalError> {
    let mut statement = connection.prepare_cached(sql).map_err(query_error)?;
    let columns = statement.column_count();
    let mut rows = statement.query(params_from_iter(values)).map_err(query_error)?;
    let mut answer = Vec::new();
    while let Some(row) = rows.next().map_err(query_error)? {
        if answer.len() == QUERY_ROWS_MAX {
            return Err(JournalError::Query(format!("more than {QUERY_ROWS_MAX} rows: {sql}")));
        }
        let values: Result<Vec<_>, _> = (0..columns).map(|column| row.get_ref(column).map(sql_value)).collect();
        answer.push(Row(values.map_err(query_error)?));
    }
    Ok(answer)
}

/// Where a subscription stands, 0 before its first.
pub(super) fn position_of(connection: &Connection, subscription: &str) -> Result<LogMark, JournalError> {
    let sql = "SELECT position, log, incarnation, digest FROM positions WHERE subscription = ?1";
    let mark = |row: &rusqlite::Row<'_>| {
        let (log, incarnation, digest): (Option<_>, Option<_>, Option<_>) = (row.get(1)?, row.get(2)?, row.get(3)?);
        let event = log.zip(incarnation).zip(digest).map(|((log, incarnation), digest)| MarkedEvent {
            log: LogId(log),
            incarnation: Incarnation(incarnation),
            digest: EventDigest(digest),
        });
        Ok(LogMark { position: row.get::<_, i64>(0)?.unsigned_abs(), event })
    };
    connection.query_row(sql, [subscription], mark).optional().map(Option::unwrap_or_default).map_err(query_error)
}

fn load_at_one_moment(
    connection: &Connection,
    index: &StreamIndex,
    stream: &str,
    seen_max: usize,
) -> rusqlite::Result<Loaded> {
    let (_moment, waiting) = index.moment(connection, stream, 1, |_| true)?;
    let snapshot = connection
        .prepare_cached("SELECT version, state FROM snapshots WHERE stream = ?1")?
        .query_row([stream], |row| Ok((row.get::<_, i64>(0)?.unsigned_abs(), row.get::<_, Vec<u8>>(1)?)))
        .optional()?;
    let after = snapshot.as_ref().map_or(0, |(version, _)| *version);
    let tail = events_of(connection, &waiting, stream, after, i64::MAX.unsigned_abs())?;
    let (seen, seen_is_complete) = seen_commands(connection, &waiting, stream, seen_max)?;
    Ok(Loaded { snapshot, tail, seen, seen_is_complete })
}

/// The commands that a stream has seen, and whether that is all of them.
fn seen_commands(
    connection: &Connection,
    waiting: &[Version],
    stream: &str,
    seen_max: usize,
) -> rusqlite::Result<(Vec<SeenCommand>, bool)> {
    let mut seen = connection
        .prepare_cached("SELECT command_id FROM commands WHERE stream = ?1 LIMIT ?2")?
        .query_map(params![stream, seen_max.saturating_add(1) as i64], |row| row.get::<_, [u8; 16]>(0))?
        .map(|id| id.map(|id| (CommandId::from_bytes(id), None)))
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let is_complete = seen.len() <= seen_max;
    seen.truncate(seen_max);
    let newest = match waiting.last() {
        Some(version) => version.number,
        None => newest_version(connection, stream)?,
    };
    if newest > SEEN_COMMANDS_MAX as u64 {
        return Ok((seen, false));
    }
    let mut last = None;
    each_command_from(connection, waiting, stream, 1, |version, id| {
        // A command's versions stand together: its first is the one that counts.
        if let Some(id) = id
            && last.replace(id) != Some(id)
        {
            seen.push((id, Some(version)));
        }
        true
    })?;
    Ok((seen, is_complete))
}

/// Gives the versions of a stream from `first` on, each with the id of its command, for as long as `wants_more`.
fn each_command_from(
    connection: &Connection,
    waiting: &[Version],
    stream: &str,
    first: u64,
    mut wants_more: impl FnMut(u64, Option<CommandId>) -> bool,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "SELECT version, command_id FROM versions WHERE stream = ?1 AND version >= ?2 ORDER BY version",
    )?;
    let mut rows = statement.query(params![stream, first.cast_signed()])?;
    let mut next = first;
    while let Some(row) = rows.next()? {
        let version = row.get::<_, i64>(0)?.unsigned_abs();
        let id = row.get::<_, Option<[u8; 16]>>(1)?.map(CommandId::from_bytes);
        if !wants_more(version, id) {
            return Ok(());
        }
        next = version + 1;
    }
    let _ = waiting
        .iter()
        .skip_while(|version| version.number < next)
        .all(|version| wants_more(version.number, Some(version.command_id)));
    Ok(())
}

/// The events of one stream with `after < version`, at most `count` of them.
fn events_of(
    connection: &Connection,
    waiting: &[Version],
    stream: &str,
    after: u64,
    count: u64,
) -> rusqlite::Result<Vec<Recorded>> {
    let mut indexed = connection.prepare_cached(select_events!(
        "versions v JOIN events e ON e.position = v.position \
         WHERE v.stream = ?1 AND v.version > ?2 ORDER BY v.version LIMIT ?3"
    ))?;
    let rows = indexed.query_map(params![stream, after.cast_signed(), count.cast_signed()], recorded)?;
    let mut events = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    let after = events.last().map_or(after, |event| event.version);
    let room = count.saturating_sub(events.len() as u64);
    let waiting =
        waiting.iter().filter(|version| version.number > after).take(usize::try_from(room).unwrap_or(usize::MAX));
    let mut by_position = connection.prepare_cached(select_events!("events e WHERE position = ?1"))?;
    for version in waiting {
        events.push(by_position.query_row([version.position.cast_signed()], recorded)?);
    }
    Ok(events)
}

/// Reads the outcome of a command; the writer calls it on its own connection.
pub(super) fn outcome_of(
    connection: &Connection,
    index: &StreamIndex,
    stream: &str,
    command_id: CommandId,
    first_version: Option<u64>,
) -> RecordedOutcome {
    outcome_at_one_moment(connection, index, stream, command_id, first_version).map_err(query_error)
}

fn outcome_at_one_moment(
    connection: &Connection,
    index: &StreamIndex,
    stream: &str,
    command_id: CommandId,
    first_version: Option<u64>,
) -> rusqlite::Result<Option<(Outcome, Vec<Recorded>)>> {
    if let Some(first_version) = first_version {
        let is_of_it = |version: &Version| version.command_id == command_id;
        let (_moment, waiting) = index.moment(connection, stream, first_version, is_of_it)?;
        let count = versions_made(connection, &waiting, stream, first_version, command_id)?;
        if count > 0 {
            let events = events_of(connection, &waiting, stream, first_version.saturating_sub(1), count)?;
            return Ok(Some((Outcome::Accepted { first_version, count }, events)));
        }
    }
    // Such a row never changes: it may be read before the moment.
    let stored = stored_outcome(connection, stream, command_id)?;
    let Some(Outcome::Accepted { first_version, count }) = stored else {
        return Ok(stored.map(|refused| (refused, Vec::new())));
    };
    let is_of_it = |version: &Version| version.number < first_version + count;
    let (_moment, waiting) = index.moment(connection, stream, first_version, is_of_it)?;
    let events = events_of(connection, &waiting, stream, first_version.saturating_sub(1), count)?;
    Ok(Some((Outcome::Accepted { first_version, count }, events)))
}

/// The outcome of a command that is found by its id.
fn stored_outcome(connection: &Connection, stream: &str, command_id: CommandId) -> rusqlite::Result<Option<Outcome>> {
    connection
        .prepare_cached(
            "SELECT first_version, event_count, refusal FROM commands WHERE stream = ?1 AND command_id = ?2",
        )?
        .query_row(params![stream, command_id.as_bytes()], |row| {
            Ok(match row.get::<_, Option<String>>(2)? {
                Some(refusal) => Outcome::Refused(refusal),
                None => Outcome::Accepted {
                    first_version: row.get::<_, i64>(0)?.unsigned_abs(),
                    count: row.get::<_, i64>(1)?.unsigned_abs(),
                },
            })
        })
        .optional()
}

/// How many versions, from `first_version` on, this command has made.
fn versions_made(
    connection: &Connection,
    waiting: &[Version],
    stream: &str,
    first_version: u64,
    command_id: CommandId,
) -> rusqlite::Result<u64> {
    let mut count = 0;
    each_command_from(connection, waiting, stream, first_version, |_, id| {
        let is_of_it = id == Some(command_id);
        count += u64::from(is_of_it);
        is_of_it
    })?;
    Ok(count)
}

fn recorded(row: &rusqlite::Row<'_>) -> rusqlite::Result<Recorded> {
    Ok(Recorded {
        position: row.get::<_, i64>(0)?.unsigned_abs(),
        stream: row.get_ref(1)?.as_str()?.into(),
        version: row.get::<_, i64>(2)?.unsigned_abs(),
        event_type: row.get(3)?,
        schema: row.get(4)?,
        payload: row.get(5)?,
        at_ms: row.get(6)?,
        correlation_id: row.get(7)?,
        causation_id: row.get(8)?,
        actor: row.get(9)?,
        traceparent: row.get(10)?,
        published_before: row.get::<_, Option<i64>>(11)?.map(i64::unsigned_abs),
    })
}

fn sql_value(value: ValueRef<'_>) -> SqlValue {
    match value {
        ValueRef::Null => SqlValue::Null,
        ValueRef::Integer(integer) => SqlValue::Integer(integer),
        // The read model has no floats: money is minor units, and averages are for reports.
        ValueRef::Real(real) => SqlValue::Text(real.to_string()),
        ValueRef::Text(text) => SqlValue::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(blob) => SqlValue::Blob(blob.to_vec()),
    }
}

impl rusqlite::ToSql for SqlValue {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        use rusqlite::types::ToSqlOutput::Borrowed;
        Ok(match self {
            Self::Null => Borrowed(ValueRef::Null),
            Self::Integer(integer) => Borrowed(ValueRef::Integer(*integer)),
            Self::Text(text) => Borrowed(ValueRef::Text(text.as_bytes())),
            Self::Blob(blob) => Borrowed(ValueRef::Blob(blob)),
        })
    }
}

pub(super) fn query_error(error: rusqlite::Error) -> JournalError {
    if is_damage(&error) { JournalError::Damaged(error.to_string()) } else { JournalError::Query(error.to_string()) }
}
