//! Which operation a request is, and under which ids its work runs.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::error::ApiError;
use crate::idempotency::{Fingerprint, IdempotencyKey};
use crate::request::Request;
use crate::shop::Shop;

/// What stands under one key: whose and which it is, and what it asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keyed {
    /// The id of the operation: the SHA-256 of the key within its scope.
    pub(crate) operation_id: String,
    /// What is asked: the HMAC of the request's fingerprint.
    pub(crate) fingerprint: String,
}

impl Keyed {
    /// `principal` asks for what `request` and `body` say; `route` is the request's path with names for its ids.
    ///
    /// # Errors
    /// 400 when the body is not JSON or nests too deep.
    pub(crate) fn new(
        shop: &Shop,
        principal: &str,
        request: &Request,
        route: &str,
        key: &IdempotencyKey,
        body: &[u8],
    ) -> Result<Self, ApiError> {
        let fingerprint = Fingerprint::of(request.method(), request.path().as_str(), body)?;
        let mut mac = Hmac::<Sha256>::new_from_slice(&shop.fingerprint_key).expect("HMAC takes a key of any length");
        mac.update(fingerprint.as_bytes());
        let scope = key.scope(principal, request.method(), route);
        Ok(Self {
            operation_id: hex(&Sha256::digest(scope.as_bytes())),
            fingerprint: hex(&mac.finalize().into_bytes()),
        })
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The ids that the work is to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attempt {
    /// As they were given, or those of an earlier attempt.
    pub(crate) ids: Vec<String>,
    /// An attempt before this one began, and may have done part of the work.
    pub(crate) is_resumed: bool,
}

impl Attempt {
    /// The id at a place.
    ///
    /// # Errors
    /// 500 when what is stored there is no such id: then it was stored for other work.
    pub(crate) fn id<T: std::str::FromStr>(&self, place: usize) -> Result<T, ApiError> {
        let id = self.ids.get(place).and_then(|id| id.parse().ok());
        id.ok_or_else(|| ApiError::internal(format_args!("an operation has no id at place {place}: {:?}", self.ids)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_taken_by_place_and_kind() {
        let attempt = Attempt { ids: vec!["ord_1".into(), "res_2".into()], is_resumed: false };
        assert_eq!(attempt.id::<contracts::OrderId>(0).unwrap().as_str(), "ord_1");
        assert_eq!(attempt.id::<contracts::OrderId>(1).unwrap_err().status(), 500);
        assert_eq!(attempt.id::<contracts::OrderId>(2).unwrap_err().status(), 500);
    }
}
