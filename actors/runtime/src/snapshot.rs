//! Snapshots: a cache of an entity's state, so that waking does not read a long stream.
//!
//! The one place that knows bincode. A snapshot starts with a format byte and the schema version of its kind; anything
//! unknown is no snapshot, and the events are read instead. It is never the truth and can be deleted at any time.

use bincode::config;
use serde::{Serialize, de::DeserializeOwned};

/// bincode 2, standard configuration, behind serde.
const FORMAT_BINCODE_2: u8 = 1;
/// The format byte and the schema version.
const HEADER_BYTES: usize = 5;

/// Encodes a state, or nothing where bincode cannot.
pub fn encode<S: Serialize>(schema: u32, state: &S) -> Option<Vec<u8>> {
    let mut bytes = vec![FORMAT_BINCODE_2];
    bytes.extend_from_slice(&schema.to_be_bytes());
    bytes.extend(bincode::serde::encode_to_vec(state, config::standard()).ok()?);
    Some(bytes)
}

/// Decodes a state, or nothing where the bytes are of another format, another schema, or damaged.
pub fn decode<S: DeserializeOwned>(schema: u32, bytes: &[u8]) -> Option<S> {
    let (header, body) = bytes.split_at_checked(HEADER_BYTES)?;
    if header[0] != FORMAT_BINCODE_2 || header[1..] != schema.to_be_bytes() {
        return None;
    }
    bincode::serde::decode_from_slice(body, config::standard()).ok().map(|(state, _)| state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_of_another_format_schema_or_length_is_no_snapshot() {
        let bytes = encode(3, &(7_u64, "seven".to_owned())).unwrap();
        assert_eq!(decode::<(u64, String)>(3, &bytes), Some((7, "seven".to_owned())));
        assert_eq!(decode::<(u64, String)>(4, &bytes), None);
        assert_eq!(decode::<(u64, String)>(3, &bytes[..bytes.len() - 1]), None);
        let mut other_format = bytes.clone();
        other_format[0] = 9;
        assert_eq!(decode::<(u64, String)>(3, &other_format), None);
        assert_eq!(decode::<(u64, String)>(3, &[]), None);
    }
}
