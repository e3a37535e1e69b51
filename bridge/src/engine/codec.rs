//! From a record's value to a message and back.
//!
//! | codec | for |
//! |---|---|
//! | [`Json`] | what others read and write |
//! | [`Bincode`] | internal topics, written and read by one build: its form is not promised to anybody |
//! | [`Raw`] | whoever wants the bytes |

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

/// The first byte of what [`Bincode`] writes: another form would begin with another.
const BINCODE_FORMAT: u8 = 1;
/// The most memory that a value may claim while it is read: what brokers allow a record to be, some times over.
const DECODED_BYTES_MAX: usize = 16 * 1_024 * 1_024;

/// Why a value is no message, or a message no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The record is a tombstone.
    #[error("there is no value")]
    NoValue,
    /// The bytes mean nothing.
    #[error("the value means nothing: {0}")]
    Undecodable(String),
    /// The message cannot be written in this form.
    #[error("the message cannot be written: {0}")]
    Unencodable(String),
}

/// Makes messages from values and values from messages.
pub trait Codec<T>: Send + Sync + 'static {
    /// Reads a value.
    ///
    /// # Errors
    /// [`CodecError`]: the record is to be set aside.
    fn decode(&self, value: Option<&Bytes>) -> Result<T, CodecError>;

    /// Writes a value.
    ///
    /// # Errors
    /// [`CodecError::Unencodable`].
    fn encode(&self, message: &T) -> Result<Bytes, CodecError>;
}

/// JSON.
#[derive(Clone, Copy, Debug, Default)]
pub struct Json;

impl<T: Serialize + DeserializeOwned> Codec<T> for Json {
    fn decode(&self, value: Option<&Bytes>) -> Result<T, CodecError> {
        let value = value.ok_or(CodecError::NoValue)?;
        serde_json::from_slice(value).map_err(|error| CodecError::Undecodable(error.to_string()))
    }

    fn encode(&self, message: &T) -> Result<Bytes, CodecError> {
        let value = serde_json::to_vec(message).map_err(|error| CodecError::Unencodable(error.to_string()))?;
        Ok(value.into())
    }
}

/// Bincode behind a byte that names the form.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bincode;

impl<T: Serialize + DeserializeOwned> Codec<T> for Bincode {
    fn decode(&self, value: Option<&Bytes>) -> Result<T, CodecError> {
        let undecodable = |reason: &str| CodecError::Undecodable(reason.to_owned());
        let value = value.ok_or(CodecError::NoValue)?;
        let Some((&BINCODE_FORMAT, bytes)) = value.split_first() else {
            return Err(undecodable("it begins with the byte of another form"));
        };
        let configuration = bincode::config::standard().with_limit::<DECODED_BYTES_MAX>();
        let (message, read) = bincode::serde::decode_from_slice(bytes, configuration)
            .map_err(|error| CodecError::Undecodable(error.to_string()))?;
        if read < bytes.len() {
            return Err(undecodable("bytes are left over"));
        }
        Ok(message)
    }

    fn encode(&self, message: &T) -> Result<Bytes, CodecError> {
        let mut value = vec![BINCODE_FORMAT];
        let written = bincode::serde::encode_into_std_write(message, &mut value, bincode::config::standard());
        written.map_err(|error| CodecError::Unencodable(error.to_string()))?;
        Ok(value.into())
    }
}

/// The bytes as they are; a tombstone is no bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Raw;

impl Codec<Option<Bytes>> for Raw {
    fn decode(&self, value: Option<&Bytes>) -> Result<Option<Bytes>, CodecError> {
        Ok(value.cloned())
    }

    fn encode(&self, message: &Option<Bytes>) -> Result<Bytes, CodecError> {
        message.clone().ok_or(CodecError::NoValue)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Message = (u64, String, Vec<u8>, Option<bool>);

    proptest! {
        #[test]
        fn what_is_written_is_read_back(message in any::<Message>()) {
            let json = Codec::<Message>::encode(&Json, &message).unwrap();
            prop_assert_eq!(&Codec::<Message>::decode(&Json, Some(&json)).unwrap(), &message);
            let bincode = Codec::<Message>::encode(&Bincode, &message).unwrap();
            prop_assert_eq!(&Codec::<Message>::decode(&Bincode, Some(&bincode)).unwrap(), &message);
        }

        #[test]
        fn any_bytes_are_read_or_refused(value in prop::collection::vec(any::<u8>(), 0..64)) {
            let value = Bytes::from(value);
            let _ = Codec::<Message>::decode(&Json, Some(&value));
            let _ = Codec::<Message>::decode(&Bincode, Some(&value));
        }
    }

    #[test]
    fn a_tombstone_another_form_and_bytes_left_over_are_refused() {
        assert_eq!(Codec::<u64>::decode(&Json, None), Err(CodecError::NoValue));
        let is_refused = |value: &'static [u8]| Codec::<u64>::decode(&Bincode, Some(&value.into())).is_err();
        assert!(is_refused(b"") && is_refused(b"\x02\x05") && is_refused(b"\x01\x05\x05"));
        assert_eq!(Codec::<u64>::decode(&Bincode, Some(&b"\x01\x05"[..].into())), Ok(5));
    }
}
