//! The one secret of a house: 32 random bytes in a file of the data directory that only its owner reads, or a setting where
//! the house has several directories.
//!
//! Keys for different uses are made from it, so that none can be told from another.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use hmac::{Hmac, KeyInit, Mac};
use runtime::private_files;
use sha2::{Digest, Sha256};

/// The secret.
#[derive(Clone)]
pub struct Secret([u8; 32]);

impl Secret {
    /// The secret that a setting gives.
    pub fn given(text: &str) -> Self {
        Self(Sha256::digest(text.as_bytes()).into())
    }

    /// The secret in `file`.
    ///
    /// # Errors
    /// When the file cannot be read, or is not 32 bytes.
    pub fn load(file: &Path) -> io::Result<Self> {
        let bytes = fs::read(file)?;
        bytes.try_into().map(Self).map_err(|_| io::Error::other("the file is not a secret of 32 bytes"))
    }

    /// The secret in `file`, which is made if it is missing: written beside, flushed, then put in place. Of several
    /// processes that make it at once one is first, and the others read what it made.
    ///
    /// # Errors
    /// When the file cannot be read or written, or is not 32 bytes.
    pub fn load_or_create(file: &Path) -> io::Result<Self> {
        if let Some(directory) = file.parent() {
            private_files::create_shared_folder(directory)?;
        }
        private_files::close_to_others(file);
        match Self::load(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::create(file),
            loaded => loaded,
        }
    }

    fn create(file: &Path) -> io::Result<Self> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(io::Error::other)?;
        // A name of its own, for each that makes one at the same time.
        let beside = file.with_extension(format!("new-{:016x}", getrandom::u64().map_err(io::Error::other)?));
        let mut writing = private_files::options().write(true).create(true).truncate(true).open(&beside)?;
        writing.write_all(&secret)?;
        writing.sync_all()?;
        // A link, unlike a rename, does not take the place of what another process has put there.
        let put_in_place = fs::hard_link(&beside, file);
        fs::remove_file(&beside)?;
        match put_in_place {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Self::load_or_create(file),
            other => other?,
        }
        if let Some(directory) = file.parent() {
            File::open(directory)?.sync_all()?;
        }
        Ok(Self(secret))
    }

    /// The key for `use_`: HMAC-SHA-256 of its name under the secret.
    pub fn key(&self, use_: &str) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(use_.as_bytes());
        mac.finalize().into_bytes().into()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn processes_that_start_at_once_have_one_secret() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("data").join("secret.key");
        let keys: Vec<[u8; 32]> = std::thread::scope(|scope| {
            let make = || Secret::load_or_create(&file).unwrap().key("use");
            let makers: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
            makers.into_iter().map(|maker| maker.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]));
        assert_eq!(Secret::load_or_create(&file).unwrap().key("use"), keys[0]);
    }

    #[test]
    fn nobody_but_its_owner_reads_it() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("data").join("secret.key");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        Secret::load_or_create(&file).unwrap();
        assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        Secret::load_or_create(&file).unwrap();
        assert_eq!(mode(&file), 0o600);
    }

    #[test]
    fn keys_for_different_uses_differ() {
        let secret = Secret::given("a setting of thirty-two characters");
        assert_ne!(secret.key("one"), secret.key("other"));
    }
}
