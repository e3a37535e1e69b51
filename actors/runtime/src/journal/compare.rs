//! Whether a log is the one that a mark was made in.

use super::{
    Journal, JournalError,
    identity::{Contradiction, LogMark},
};

/// Compares a mark with the log that is there now.
///
/// # Errors
/// [`JournalError`] when the log cannot be read: then nothing is known.
pub async fn compare(mark: LogMark, log: &dyn Journal) -> Result<Result<(), Contradiction>, JournalError> {
    let (end, identity) = (*log.committed().borrow(), log.identity());
    let found = if mark.position > end { None } else { log.digest_at(mark.position).await? };
    Ok(mark.check(identity, end, found))
}
