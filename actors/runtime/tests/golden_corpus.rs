//! Every event that the runtime's own entities may have written can still be read; see `testkit::golden`.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::path::Path;

use microcommerce_runtime::{
    event_samples,
    operation::{Operation, OperationEvent},
    testkit::golden,
};

#[test]
fn every_event_of_an_operation_can_be_read() {
    let samples = event_samples!(OperationEvent {
        OperationEvent::Begun { .. } => OperationEvent::Begun {
            fingerprint: "f1".into(),
            ids: vec!["first".into(), "second".into()],
            holder: "process:attempt".into(),
            lease_until_ms: 1_700_000_030_000,
        },
        OperationEvent::Finished { .. } => OperationEvent::Finished { result: "{}".into(), at_ms: 1_700_000_000_000 },
        OperationEvent::Released {} => OperationEvent::Released {},
    });
    golden::check::<Operation>(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/operation"), samples);
}
