//! What the client's statistics show of a partition that stands still: that records are gone, that the log was cut, that nothing comes.
//!
//! Pure. A report is of a moment before it is read, and records may have come in between. So a report counts only where the next one, a
//! second later, finds the partition at the same place.

use super::statistics::Progress;

/// After this many reports in a row (one a second) that there are records, that they are asked for from the same place, and that none
/// came, somebody has a look.
const QUIET_REPORTS_MAX: u32 = 5;

/// What the reports show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// The log begins behind the next record.
    BeginsAt(i64),
    /// The log ends before the next record.
    EndsAt(i64),
    /// There are records, and none comes.
    Quiet,
}

/// The reports since the partition last moved.
#[derive(Debug)]
pub(super) struct Standstill {
    fetched_to: i64,
    quiet_reports: u32,
    /// The next record of the last report, where that lay outside the log.
    outside_at: Option<i64>,
}

impl Standstill {
    pub(super) fn new() -> Self {
        Self { fetched_to: -1, quiet_reports: 0, outside_at: None }
    }

    /// Records came, or reading began elsewhere.
    pub(super) fn moved(&mut self) {
        self.quiet_reports = 0;
        self.outside_at = None;
    }

    /// Takes a report. `next` is the offset of the next record; nothing where it is not known, or something of the partition waits to be
    /// given. `is_wanted`: there is credit for records.
    pub(super) fn report(&mut self, next: Option<i64>, progress: &Progress, is_wanted: bool) -> Option<Sign> {
        let is_same_place = progress.fetched_to == std::mem::replace(&mut self.fetched_to, progress.fetched_to);
        let Some(next) = next.filter(|_| progress.is_queue_empty) else {
            self.moved();
            return None;
        };
        let outside = if progress.first > next {
            Some(Sign::BeginsAt(progress.first))
        } else if progress.end < next && progress.fetched_to < next {
            Some(Sign::EndsAt(progress.end))
        } else {
            None
        };
        if outside.is_some() {
            self.quiet_reports = 0;
            let is_still = self.outside_at.replace(next) == Some(next);
            return outside.filter(|_| is_still);
        }
        self.outside_at = None;
        let is_quiet = is_same_place && !progress.is_drained && is_wanted;
        self.quiet_reports = if is_quiet { self.quiet_reports + 1 } else { 0 };
        (self.quiet_reports >= QUIET_REPORTS_MAX).then(|| {
            self.quiet_reports = 0;
            Sign::Quiet
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(first: i64, end: i64, fetched_to: i64) -> Progress {
        let is_drained = fetched_to >= end;
        Progress { topic: "t".to_owned(), partition: 0, first, end, fetched_to, is_queue_empty: true, is_drained }
    }

    #[test]
    fn a_report_from_before_the_last_records_shows_nothing() {
        let mut standstill = Standstill::new();
        // The report says that the log ends at 100; meanwhile 100 to 105 were given, again and again.
        for next in [106, 112, 118] {
            assert_eq!(standstill.report(Some(next), &progress(0, next - 6, next - 6), true), None);
            assert_eq!(
                standstill.report(Some(next), &progress(0, next, next), true),
                None,
                "the next one has caught up"
            );
        }
        // Records came between two reports, both of them late.
        assert_eq!(standstill.report(Some(130), &progress(0, 124, 124), true), None);
        standstill.moved();
        assert_eq!(standstill.report(Some(130), &progress(0, 124, 124), true), None);
    }

    #[test]
    fn a_log_that_ends_before_the_next_record_shows_in_two_reports() {
        let mut standstill = Standstill::new();
        assert_eq!(standstill.report(Some(10), &progress(0, 4, 4), true), None);
        assert_eq!(standstill.report(Some(10), &progress(0, 4, 4), true), Some(Sign::EndsAt(4)));
        // What was fetched lies there: the end is what is late.
        let mut standstill = Standstill::new();
        for _ in 0..3 {
            assert_eq!(standstill.report(Some(10), &progress(0, 4, 10), true), None);
        }
    }

    #[test]
    fn a_log_that_begins_behind_the_next_record_shows_in_two_reports_of_the_same_place() {
        let mut standstill = Standstill::new();
        assert_eq!(standstill.report(Some(3), &progress(8, 9, 3), true), None);
        assert_eq!(standstill.report(Some(0), &progress(8, 9, 0), true), None, "it is read from elsewhere since");
        assert_eq!(standstill.report(Some(0), &progress(8, 9, 0), true), Some(Sign::BeginsAt(8)));
        // Where reading stands is not known while records wait to be given.
        assert_eq!(standstill.report(None, &progress(8, 9, 0), true), None);
        assert_eq!(standstill.report(Some(0), &progress(8, 9, 0), true), None);
    }

    #[test]
    fn records_that_do_not_come_show_after_five_reports_and_only_to_who_wants_them() {
        let mut standstill = Standstill::new();
        let there_is_something = progress(0, 9, 3);
        let mut signs = |is_wanted: bool, count: usize| -> Vec<Option<Sign>> {
            (0..count).map(|_| standstill.report(Some(3), &there_is_something, is_wanted)).collect()
        };
        assert_eq!(signs(false, 9), [None; 9], "without credit nothing is asked for");
        assert_eq!(signs(true, 5), [None, None, None, None, Some(Sign::Quiet)]);
        assert_eq!(signs(true, 4), [None; 4], "and again only after as many");
        standstill.moved();
        assert_eq!(standstill.report(Some(3), &there_is_something, true), None);
        assert_eq!(standstill.report(Some(3), &progress(0, 9, 4), true), None, "it was fetched from further on");
    }

    #[test]
    fn the_first_record_and_the_end_are_places_within_the_log() {
        let mut standstill = Standstill::new();
        for next in [4, 9] {
            for _ in 0..3 {
                // It is drained: nothing is missing, and nothing is asked for.
                assert_eq!(standstill.report(Some(next), &progress(4, 9, 9), true), None, "{next}");
            }
        }
        // Fetching has not come as far as reading was told to; the log ends right there.
        let behind = Progress { is_drained: true, ..progress(4, 9, 8) };
        for _ in 0..3 {
            assert_eq!(standstill.report(Some(9), &behind, true), None);
        }
    }

    #[test]
    fn while_anything_waits_in_the_client_nothing_is_missing() {
        let mut standstill = Standstill::new();
        for is_queue_empty in [true, false, true] {
            let report = Progress { is_queue_empty, ..progress(8, 9, 0) };
            assert_eq!(standstill.report(Some(0), &report, true), None, "each report is the first that counts");
        }
    }

    #[test]
    fn a_partition_that_is_drained_or_is_fetched_from_further_on_is_not_quiet() {
        let mut standstill = Standstill::new();
        let drained = Progress { is_drained: true, ..progress(0, 9, 3) };
        let signs: Vec<_> = (0..9).map(|_| standstill.report(Some(3), &drained, true)).collect();
        assert_eq!(signs, [None; 9]);
        let signs: Vec<_> = (3..12).map(|to| standstill.report(Some(3), &progress(0, 99, to), true)).collect();
        assert_eq!(signs, [None; 9]);
        // One report of another kind, and the quiet ones are counted anew.
        let quiet = progress(0, 99, 11);
        for _ in 0..2 {
            let signs: Vec<_> = (0..4).map(|_| standstill.report(Some(3), &quiet, true)).collect();
            assert_eq!(signs, [None; 4]);
            assert_eq!(standstill.report(Some(3), &quiet, false), None);
        }
    }
}
