//! Files and folders that nobody but their owner reads: 0600 and 0700, whatever the umask says.
//!
//! What is in the data directory are customers' orders, addresses and keys. Modes are changed by name, and nothing is opened for it:
//! closing any descriptor of a database's file gives up the locks that SQLite has on it.

use std::{fs, io, path::Path};

/// Makes the folder `directory`, and those above it that are missing, for their owner alone. One that is there and open to others is
/// closed to them where the system lets us, and warned about.
///
/// # Errors
/// When it cannot be made.
pub fn create_folder(directory: &Path) -> io::Result<()> {
    create_missing(directory)?;
    close_to_others(directory);
    Ok(())
}

/// The same for a folder that may hold other people's things as well: one that is there and open to others is warned about alone.
///
/// # Errors
/// When it cannot be made.
pub fn create_shared_folder(directory: &Path) -> io::Result<()> {
    create_missing(directory)?;
    if let Some(mode) = open_to_others(directory) {
        let path = directory.display();
        tracing::warn!(%path, mode = format!("{mode:o}"), "the data directory is open to others; chmod 700 closes it");
    }
    Ok(())
}

/// How a file is opened that, where it is made, is its owner's alone.
#[must_use]
pub fn options() -> fs::OpenOptions {
    let mut options = fs::OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, OWNER_BITS & 0o666);
    options
}

/// Closes a file or a folder to others, if it is there. Where the system does not let us, an operator is told.
pub fn close_to_others(path: &Path) {
    let Some(mode) = open_to_others(path) else { return };
    match set_mode(path, mode & OWNER_BITS) {
        Ok(()) => {
            tracing::warn!(path = %path.display(), was = format!("{mode:o}"), "was open to others; now it is not")
        }
        Err(error) => tracing::warn!(path = %path.display(), mode = format!("{mode:o}"), %error, "is open to others"),
    }
}

/// Closes a file that has just been made to others, as its mode from the umask may not have.
///
/// # Errors
/// When the system refuses.
pub(crate) fn close_new_file(path: &Path) -> io::Result<()> {
    match open_to_others(path) {
        Some(mode) => set_mode(path, mode & OWNER_BITS),
        None => Ok(()),
    }
}

/// What the owner may do.
const OWNER_BITS: u32 = 0o700;

#[cfg(unix)]
fn create_missing(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(OWNER_BITS).create(directory)
}

/// The permission bits of what is there and open to others.
#[cfg(unix)]
fn open_to_others(path: &Path) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(path).ok()?.permissions().mode() & 0o7777;
    (mode & 0o077 != 0).then_some(mode)
}

#[cfg(unix)]
fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

#[cfg(not(unix))]
fn create_missing(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)
}

#[cfg(not(unix))]
fn open_to_others(_: &Path) -> Option<u32> {
    None
}

#[cfg(not(unix))]
fn set_mode(_: &Path, _: u32) -> io::Result<()> {
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn folders_are_made_for_their_owner_and_an_open_one_is_closed() {
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("data").join("order");
        create_folder(&inner).unwrap();
        assert_eq!((mode(&inner), mode(inner.parent().unwrap())), (0o700, 0o700));
        set_mode(&inner, 0o2775).unwrap();
        create_folder(&inner).unwrap();
        assert_eq!(mode(&inner), 0o700);
    }

    #[test]
    fn a_folder_that_others_may_share_keeps_its_mode() {
        let directory = tempfile::tempdir().unwrap();
        set_mode(directory.path(), 0o755).unwrap();
        create_shared_folder(directory.path()).unwrap();
        assert_eq!(mode(directory.path()), 0o755);
        let new = directory.path().join("data");
        create_shared_folder(&new).unwrap();
        assert_eq!(mode(&new), 0o700);
    }

    #[test]
    fn a_file_is_made_for_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("key");
        options().write(true).create_new(true).open(&file).unwrap();
        assert_eq!(mode(&file), 0o600);
    }

    #[test]
    fn an_open_file_is_closed_to_others_and_what_is_not_there_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("key");
        close_to_others(&file);
        fs::write(&file, "secret").unwrap();
        set_mode(&file, 0o644).unwrap();
        close_to_others(&file);
        assert_eq!(mode(&file), 0o600);
    }
}
