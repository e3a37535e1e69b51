//! The one secret of a data directory: 32 random bytes in a file that only its owner reads.
//!
//! Keys for different uses are made from it, so that none can be told from another.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The secret.
#[derive(Clone)]
pub struct Secret([u8; 32]);

impl Secret {
    /// The secret in `file`, which is made if it is missing: written beside, flushed, then put in place. The directory must
    /// be locked against other processes.
    ///
    /// # Errors
    /// When the file cannot be read or written, or is not 32 bytes.
    pub fn load_or_create(file: &Path) -> io::Result<Self> {
        match fs::read(file) {
            Ok(bytes) => {
                bytes.try_into().map(Self).map_err(|_| io::Error::other("the file is not a secret of 32 bytes"))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::create(file),
            Err(error) => Err(error),
        }
    }

    fn create(file: &Path) -> io::Result<Self> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(io::Error::other)?;
        let beside = file.with_extension("new");
        let mut writing = File::options().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        writing.write_all(&secret)?;
        writing.sync_all()?;
        fs::rename(&beside, file)?;
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
