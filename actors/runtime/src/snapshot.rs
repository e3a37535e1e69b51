//! Snapshots: a cache of an entity's state, so that waking does not read a long stream.
//!
//! The one place that knows bincode. A snapshot starts with a format byte, the versions of its kind's events and of its kind's
//! state, and a checksum over what follows. It is a snapshot when all of that is as this build would write it **and** the
//! state takes up every byte; anything else is no snapshot, and the events are read instead. bincode describes nothing: bytes
//! of another form may well decode to something, so the form's version has to say that they are of this one. A snapshot is never
//! the truth and can be deleted at any time.

use bincode::config;
use sha2::{Digest, Sha256};

use crate::entity::Entity;

/// bincode 2, standard configuration, behind serde, with the header below. Format 1 had neither a state's version nor a checksum.
const FORMAT: u8 = 2;
/// Of the checksum: the first bytes of SHA-256 over the header before it and the body.
const CHECKSUM_BYTES: usize = 8;
/// The format byte, the version of the events and that of the state.
const VERSIONS_BYTES: usize = 1 + 4 + 4;

/// Encodes a state, or nothing where bincode cannot.
pub fn encode<E: Entity>(state: &E::State) -> Option<Vec<u8>> {
    let body = bincode::serde::encode_to_vec(state, config::standard()).ok()?;
    let versions = versions::<E>();
    Some([&versions[..], &checksum(&versions, &body), &body].concat())
}

/// Decodes a state, or nothing where the bytes are of another format or version, or damaged.
pub fn decode<E: Entity>(bytes: &[u8]) -> Option<E::State> {
    let (versions, rest) = bytes.split_at_checked(VERSIONS_BYTES)?;
    let (sum, body) = rest.split_at_checked(CHECKSUM_BYTES)?;
    if versions != self::versions::<E>() || sum != checksum(versions, body) {
        return None;
    }
    let (state, read) = bincode::serde::decode_from_slice(body, config::standard()).ok()?;
    (read == body.len()).then_some(state)
}

fn versions<E: Entity>() -> [u8; VERSIONS_BYTES] {
    let mut versions = [FORMAT; VERSIONS_BYTES];
    versions[1..5].copy_from_slice(&E::SCHEMA.to_be_bytes());
    versions[5..].copy_from_slice(&E::STATE_VERSION.to_be_bytes());
    versions
}

fn checksum(versions: &[u8], body: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let digest = Sha256::new().chain_update(versions).chain_update(body).finalize();
    let mut sum = [0; CHECKSUM_BYTES];
    sum.copy_from_slice(&digest[..CHECKSUM_BYTES]);
    sum
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::entity::EventPayload;

    #[derive(Clone, Serialize, Deserialize)]
    struct Nothing;

    impl EventPayload for Nothing {
        fn event_type(&self) -> &'static str {
            "nothing"
        }
    }

    /// A kind whose events have version `SCHEMA` and whose state has version `STATE`.
    struct Kind<S, const SCHEMA: u32, const STATE: u32>(std::marker::PhantomData<fn() -> S>);

    impl<S, const SCHEMA: u32, const STATE: u32> Entity for Kind<S, SCHEMA, STATE>
    where
        S: Default + Serialize + serde::de::DeserializeOwned + Send + Sync + 'static,
    {
        const KIND: &'static str = "kind";
        const SCHEMA: u32 = SCHEMA;
        const STATE_VERSION: u32 = STATE;
        type State = S;
        type Command = ();
        type Event = Nothing;
        type Refusal = ();
        fn decide(_: &S, (): ()) -> Result<Vec<Nothing>, ()> {
            Ok(vec![])
        }
        fn evolve(_: &mut S, _: &Nothing) {}
    }

    type Written = Kind<(u64, String), 3, 1>;

    #[test]
    fn a_snapshot_of_another_format_version_or_length_is_no_snapshot() {
        let bytes = encode::<Written>(&(7, "seven".to_owned())).unwrap();
        assert_eq!(decode::<Written>(&bytes), Some((7, "seven".to_owned())));
        assert_eq!(decode::<Kind<(u64, String), 4, 1>>(&bytes), None, "other events");
        assert_eq!(decode::<Kind<(u64, String), 3, 2>>(&bytes), None, "another state");
        assert_eq!(decode::<Written>(&bytes[..bytes.len() - 1]), None);
        assert_eq!(decode::<Written>(&[&bytes[..], &[0]].concat()), None);
        let mut other_format = bytes.clone();
        other_format[0] = 1;
        assert_eq!(decode::<Written>(&other_format), None);
        assert_eq!(decode::<Written>(&[]), None);
    }

    #[test]
    fn one_wrong_byte_makes_it_no_snapshot() {
        let bytes = encode::<Written>(&(7, "seven".to_owned())).unwrap();
        for place in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[place] ^= 1;
            assert_eq!(decode::<Written>(&damaged), None, "byte {place}");
        }
    }

    /// A field was taken away, and nobody thought of the version: the old bytes begin with a state that makes sense.
    #[test]
    fn a_state_that_leaves_bytes_unread_is_no_snapshot() {
        let bytes = encode::<Written>(&(7, "seven".to_owned())).unwrap();
        assert_eq!(decode::<Kind<u64, 3, 1>>(&bytes), None);
    }
}
