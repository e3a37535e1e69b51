//! Whether a log goes on from where it was read: the one comparison of a position with the log that is there now.
//!
//! Pure. A *position* is the offset of the next record, of the log with an identity; the log may be another one of the same name
//! (a topic was deleted and made again, a broker was replaced by an empty one), may have been cut behind the position, or may have
//! removed records that were still to be read (retention). Holes *between* records, which compaction and transactions leave, are
//! not looked at: only where the log begins and ends counts.

use crate::ports::LogState;

/// How a log relates to a position in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Continuity {
    /// The next record is there, or will be.
    GoesOn,
    /// The records from `from` to before `to` are gone.
    Skipped {
        /// The position.
        from: i64,
        /// The log's first offset.
        to: i64,
    },
    /// The position is of another log, or beyond the end of this one; in words.
    WentBack(String),
}

/// Compares `position`, which was reached in the log `id` where that is known, with the log as it is.
#[must_use]
pub fn continuity(position: i64, id: Option<&str>, log: &LogState) -> Continuity {
    if let (Some(before), Some(now)) = (id, log.id.as_deref())
        && before != now
    {
        return Continuity::WentBack(format!(
            "it was made again: the log {before} was read to offset {position}, and this is {now}, which ends at {}",
            log.end
        ));
    }
    if position > log.end {
        return Continuity::WentBack(format!("it was read to offset {position} and ends at {}", log.end));
    }
    if position < log.first {
        return Continuity::Skipped { from: position, to: log.first };
    }
    Continuity::GoesOn
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(id: Option<&str>, first: i64, end: i64) -> LogState {
        LogState { id: id.map(Into::into), first, end }
    }

    #[test]
    fn a_position_within_the_log_goes_on_and_so_does_one_at_its_very_end() {
        for position in [3, 5, 9] {
            assert_eq!(continuity(position, Some("a"), &log(Some("a"), 3, 9)), Continuity::GoesOn);
            assert_eq!(continuity(position, None, &log(Some("a"), 3, 9)), Continuity::GoesOn);
        }
    }

    #[test]
    fn a_position_before_the_first_record_has_lost_what_lies_between() {
        assert_eq!(continuity(2, None, &log(None, 3, 9)), Continuity::Skipped { from: 2, to: 3 });
    }

    #[test]
    fn a_position_beyond_the_end_or_of_another_log_went_back_whatever_its_offset() {
        let reason = |position, id, log: LogState| match continuity(position, id, &log) {
            Continuity::WentBack(reason) => reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(reason(10, None, log(None, 3, 9)), "it was read to offset 10 and ends at 9");
        // Also where the new log has grown beyond the position, which no offset would show.
        assert!(
            reason(5, Some("a"), log(Some("b"), 0, 9)).contains("it was made again: the log a was read to offset 5")
        );
        assert!(reason(0, Some("a"), log(Some("b"), 0, 0)).contains("made again"));
    }
}
