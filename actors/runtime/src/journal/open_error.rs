//! Why a journal could not be opened.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    damage::is_damage,
    faults::{Fault, fault_of_error},
    schema,
    views::ViewsError,
};
use crate::supervision::StartError;

/// Why a journal could not be opened: one plain sentence each, for the operator.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Somebody else has it.
    #[error(
        "the data directory {} is in use by another process: stop that one, or set DATA_DIR to another directory",
        .0.display()
    )]
    Locked(PathBuf),
    /// A former incarnation in this process has it, and does not end.
    #[error("the data directory {} was not closed within {waited:?} by the former incarnation of its service", .directory.display())]
    NotClosed {
        /// Which directory.
        directory: PathBuf,
        /// For how long it was waited for.
        waited: Duration,
    },
    /// The directory cannot be used.
    #[error("cannot write to the data directory {}: {cause}; set DATA_DIR to a directory that you may write to", .directory.display())]
    Unwritable {
        /// Which directory.
        directory: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The database cannot be used.
    #[error("cannot open the database {}: {cause}", .file.display())]
    Database {
        /// Which file.
        file: PathBuf,
        /// What SQLite said.
        cause: rusqlite::Error,
    },
    /// A later build wrote it.
    #[error(
        "the database {} has layout {found}, and this build knows {} and older: start the newer build again", .file.display(),
        schema::LAYOUT
    )]
    Newer {
        /// Which file.
        file: PathBuf,
        /// Its layout.
        found: i64,
    },
    /// What the start reads of it is not what was written there.
    #[error("the database {} is damaged ({cause}): restore {} from a backup", .file.display(), .file.parent().unwrap_or(.file).display())]
    Damaged {
        /// Which file.
        file: PathBuf,
        /// What was found.
        cause: String,
    },
    /// The read model cannot be made.
    #[error("the read model in {} cannot be brought to this build's form: {cause}; start the build that wrote it", .file.display())]
    Views {
        /// Which file.
        file: PathBuf,
        /// Why not.
        cause: ViewsError,
    },
    /// SQLite would not promise what we promise.
    #[error("SQLite refused {setting} on {}: a commit would not survive a power loss there", .file.display())]
    NotDurable {
        /// Which setting.
        setting: &'static str,
        /// Which file.
        file: PathBuf,
    },
}

impl OpenError {
    /// Whether only a new process can mend it.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::NotClosed { .. } => true,
            Self::Database { cause, .. } => fault_of_error(cause, 0) == Fault::Fatal,
            Self::Locked(_)
            | Self::Unwritable { .. }
            | Self::Newer { .. }
            | Self::Damaged { .. }
            | Self::Views { .. }
            | Self::NotDurable { .. } => false,
        }
    }
}

impl From<OpenError> for StartError {
    fn from(error: OpenError) -> Self {
        if error.is_fatal() { Self::fatal(error) } else { Self::new(error) }
    }
}

/// Why a database cannot be used.
pub(super) fn unusable(file: &Path, cause: rusqlite::Error) -> OpenError {
    let file = file.to_owned();
    if is_damage(&cause) {
        OpenError::Damaged { file, cause: cause.to_string() }
    } else {
        OpenError::Database { file, cause }
    }
}
