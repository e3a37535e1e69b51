//! How far this process knows which sessions were revoked.

use std::sync::atomic::{AtomicI64, Ordering};

use contracts::Timestamp;

/// Up to when the revocations are known, in seconds by the user service's clock.
#[derive(Debug, Default)]
pub struct TrustLog(AtomicI64);

impl TrustLog {
    /// Up to when.
    pub(crate) fn known_until(&self) -> Timestamp {
        Timestamp::from_seconds(self.0.load(Ordering::Relaxed))
    }

    /// It is known up to `as_of`.
    pub(crate) fn learned(&self, as_of: Timestamp) {
        self.0.fetch_max(as_of.as_seconds(), Ordering::Relaxed);
    }
}
