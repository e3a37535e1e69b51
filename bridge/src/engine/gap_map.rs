//! The gap map: which records above the committed offset are finished, so that the next owner does not do them again.
//!
//! It travels in the commit's metadata. The form is ASCII and compact: `g1:` and then, for each run of finished records, how
//! far it begins after the end of the one before and how long it is, as numbers of five bits a letter. What does not fit
//! into [`GAP_MAP_BYTES_MAX`] is left out: more is done again, nothing stops and nothing is lost. A text that is not ours,
//! or of another version, is an empty map.

use std::collections::VecDeque;

use crate::ports::{LOG_ID_BYTES_MAX, METADATA_BYTES_MAX};

/// What a map may take: a commit's metadata, less the identity of its log.
pub const GAP_MAP_BYTES_MAX: usize = METADATA_BYTES_MAX - LOG_ID_BYTES_MAX;

const PREFIX: &str = "g1:";
/// Each stands for its index: the low five bits are the digit, the sixth says that more digits follow.
const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const MORE: u8 = 32;
/// A number of 63 bits in digits of five.
const DIGITS_MAX: u32 = 13;
/// No map of ours has more runs: each takes two letters at least.
const RUNS_MAX: usize = (GAP_MAP_BYTES_MAX - PREFIX.len()) / 2;

/// Finished runs of offsets, in order and apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GapMap {
    runs: VecDeque<(i64, i64)>,
}

impl GapMap {
    /// Reads the map that was committed together with `offset`.
    #[must_use]
    pub fn decode(offset: i64, metadata: &str) -> Self {
        Self { runs: decoded(offset, metadata).unwrap_or_default() }
    }

    /// True when the record at `offset` is finished. Asked in the order of offsets: what lies before is forgotten.
    pub fn takes(&mut self, offset: i64) -> bool {
        while self.runs.front().is_some_and(|(_, last)| *last < offset) {
            self.runs.pop_front();
        }
        self.runs.front().is_some_and(|(first, _)| *first <= offset)
    }

    /// The runs that have not been asked for yet, from `offset` on.
    pub fn runs_from(&self, offset: i64) -> impl Iterator<Item = (i64, i64)> {
        let later = self.runs.iter().filter(move |(_, last)| *last >= offset);
        later.map(move |(first, last)| ((*first).max(offset), *last))
    }
}

/// Writes `runs` (in order, apart, all above `offset`) to go with a commit of `offset`: as many as fit, the first ones first.
#[must_use]
pub fn encode(offset: i64, runs: impl Iterator<Item = (i64, i64)>) -> String {
    let mut text = String::new();
    let mut end = offset;
    for (first, last) in runs {
        debug_assert!(first > end && last >= first, "the run {first}..={last} after {end}");
        let length = text.len();
        if length == 0 {
            text.push_str(PREFIX);
        }
        push_number(&mut text, first - end);
        push_number(&mut text, last - first);
        end = last;
        if text.len() > GAP_MAP_BYTES_MAX {
            text.truncate(length);
            break;
        }
    }
    text
}

fn push_number(text: &mut String, number: i64) {
    let mut rest = number.unsigned_abs();
    for _ in 0..DIGITS_MAX {
        let digit = (rest & 31) as u8;
        rest >>= 5;
        let more = if rest == 0 { 0 } else { MORE };
        text.push(char::from(LETTERS[usize::from(digit | more)]));
        if rest == 0 {
            return;
        }
    }
}

fn decoded(offset: i64, metadata: &str) -> Option<VecDeque<(i64, i64)>> {
    let mut letters = metadata.strip_prefix(PREFIX)?.bytes();
    let mut runs = VecDeque::new();
    let mut end = offset;
    while letters.len() > 0 {
        if runs.len() == RUNS_MAX {
            return None;
        }
        let first = end.checked_add(next_number(&mut letters)?)?;
        let last = first.checked_add(next_number(&mut letters)?)?;
        if first <= end {
            return None;
        }
        runs.push_back((first, last));
        end = last;
    }
    Some(runs)
}

fn next_number(letters: &mut impl Iterator<Item = u8>) -> Option<i64> {
    let mut number: i64 = 0;
    for digit in 0..DIGITS_MAX {
        let letter = letters.next()?;
        let value = LETTERS.iter().position(|known| *known == letter)? as u8;
        number = number.checked_add(i64::from(value & 31).checked_mul(1_i64.checked_shl(5 * digit)?)?)?;
        if value & MORE == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn runs() -> impl Strategy<Value = (i64, Vec<(i64, i64)>)> {
        let steps = prop::collection::vec((1_i64..1_000_000, 0_i64..1_000_000), 0..2_000);
        (0_i64..i64::MAX / 2, steps).prop_map(|(offset, steps)| {
            let mut end = offset;
            let runs = steps.into_iter().map(|(gap, length)| {
                let first = end + gap;
                end = first + length;
                (first, end)
            });
            (offset, runs.collect())
        })
    }

    proptest! {
        #[test]
        fn what_is_read_is_a_first_part_of_what_was_written_and_all_of_it_where_it_fits((offset, runs) in runs()) {
            let text = encode(offset, runs.iter().copied());
            prop_assert!(text.is_ascii() && text.len() <= GAP_MAP_BYTES_MAX);
            let read: Vec<_> = GapMap::decode(offset, &text).runs.into();
            prop_assert_eq!(&runs[..read.len()], &read[..]);
            // One run is at most two times thirteen letters.
            prop_assert!(read.len() == runs.len() || text.len() + 26 > GAP_MAP_BYTES_MAX);
        }

        #[test]
        fn a_text_of_somebody_else_is_an_empty_map_or_an_ordered_one(offset in any::<i64>(), text in "(g1:)?[A-Za-z0-9_ -]{0,64}") {
            let map = GapMap::decode(offset, &text);
            let mut end = offset;
            for (first, last) in map.runs {
                prop_assert!(first > end && last >= first);
                end = last;
            }
        }
    }

    #[test]
    fn a_map_takes_what_it_may_to_the_last_byte_and_no_run_more() {
        assert_eq!(GAP_MAP_BYTES_MAX, 4_032, "what is left of a commit's metadata beside the identity of its log");
        // Each run is two letters; the first is one more where the space is odd.
        let first = if (GAP_MAP_BYTES_MAX - PREFIX.len()).is_multiple_of(2) { 1 } else { 32 };
        let count = (GAP_MAP_BYTES_MAX - PREFIX.len()) / 2;
        let runs = |count: usize| (0..count as i64).map(|run| (first + 2 * run, first + 2 * run));
        assert_eq!(encode(0, runs(count)).len(), GAP_MAP_BYTES_MAX);
        assert_eq!(encode(0, runs(count + 1)), encode(0, runs(count)), "one more does not fit");
        assert_eq!(GapMap::decode(0, &encode(0, runs(count))).runs.len(), count);
        let longer = encode(0, runs(count)) + &encode(0, runs(2))[PREFIX.len()..];
        assert_eq!(GapMap::decode(0, &longer), GapMap::default(), "no map of ours has so many runs");
    }

    #[test]
    fn finished_offsets_are_taken_and_others_not() {
        let text = encode(10, [(12, 13), (20, 20)].into_iter());
        let mut map = GapMap::decode(10, &text);
        let taken: Vec<i64> = (10..25).filter(|offset| map.takes(*offset)).collect();
        assert_eq!(taken, [12, 13, 20]);
        assert!(!GapMap::decode(10, "").takes(10));
        assert_eq!(GapMap::decode(10, &text).runs_from(13).collect::<Vec<_>>(), [(13, 13), (20, 20)]);
        assert_eq!(encode(10, std::iter::empty()), "");
    }
}
