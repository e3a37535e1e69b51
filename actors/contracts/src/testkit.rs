//! For the tests of services (feature `testkit`): what every service owes the others.

use crate::Envelope;

/// Holds what a history tells others against what its entity counts: `told` has, for each event in order, its messages and how many
/// numbered ones the entity counts for it. All of those are numbered, from 1, without a gap or a repetition; commands have no number.
///
/// # Panics
/// With the messages of the first event for which that is not so.
#[track_caller]
pub fn assert_numbered(told: impl IntoIterator<Item = (Vec<Envelope>, u64)>) {
    let mut numbers = Vec::new();
    for (index, (envelopes, count)) in told.into_iter().enumerate() {
        let is_right = |envelope: &Envelope| envelope.seq.is_some() == envelope.message.topic().is_numbered();
        assert!(envelopes.iter().all(is_right), "event {index}: {envelopes:?}");
        let numbered: Vec<u64> = envelopes.iter().filter_map(|envelope| envelope.seq).collect();
        assert_eq!(numbered.len() as u64, count, "event {index}: {envelopes:?}");
        numbers.extend(numbered);
    }
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
}
