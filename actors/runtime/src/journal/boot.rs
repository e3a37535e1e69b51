//! Whether the machine went down under an open journal.
//!
//! When a process dies, what it had written is in the system's memory and reaches the disk all the same. When the machine dies, the
//! disk has what it was synced to have, if it kept its word. So a journal notes beside itself, in the file `opened`, under which
//! boot of the machine it is open, and takes the note away when it is closed. A note of another boot says that nobody closed
//! it: then the whole file is checked before anybody is served. The note is replaced only after that check, so a check that is cut
//! short is made by the next start.
//!
//! Where the system does not tell its boots apart, there is no such check; the one beside the sale runs in any case.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::private_files;

/// Where Linux says which boot this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// The note's name, beside the database.
const NOTE: &str = "opened";

/// The note of an open journal.
#[derive(Debug)]
pub(super) struct BootNote {
    file: PathBuf,
    /// This boot; nothing where the system does not say.
    boot: Option<String>,
}

impl BootNote {
    /// The note in `directory`, under the present boot.
    pub(super) fn new(directory: &Path) -> Self {
        let boot = fs::read_to_string(BOOT_ID).ok().map(|boot| boot.trim().to_owned());
        Self { file: directory.join(NOTE), boot }
    }

    /// True where the journal was open when the machine went down.
    pub(super) fn machine_went_down(&self) -> bool {
        match (fs::read_to_string(&self.file), &self.boot) {
            (Ok(noted), Some(boot)) => noted.trim() != boot,
            _ => false,
        }
    }

    /// Notes that the journal is open.
    pub(super) fn opened(&self) -> io::Result<()> {
        let Some(boot) = &self.boot else { return Ok(()) };
        fs::write(&self.file, format!("{boot}\n"))?;
        private_files::close_new_file(&self.file)
    }

    /// The journal is closed, and the file is as it should be.
    pub(super) fn closed(&self) {
        // Left there it costs a check after the next boot, no more.
        let _ = fs::remove_file(&self.file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_note_of_another_boot_says_that_the_machine_went_down() {
        let directory = tempfile::tempdir().unwrap();
        let boot = |boot: Option<&str>| BootNote { boot: boot.map(str::to_owned), ..BootNote::new(directory.path()) };
        assert!(!boot(Some("1")).machine_went_down(), "a new directory");
        boot(Some("1")).opened().unwrap();
        assert!(!boot(Some("1")).machine_went_down(), "a process that died");
        assert!(boot(Some("2")).machine_went_down());
        assert!(!boot(None).machine_went_down(), "a system that does not say");
        boot(Some("1")).closed();
        assert!(!boot(Some("2")).machine_went_down());
    }
}
