//! Totals over all entities of a kind: what each of them counts for is told from its state, and a command writes the difference.
//!
//! An entity says under which key it counts and with which numbers ([`Entity::counts`]); it is asked before a command and after
//! it. So a total costs nothing where nothing of it changes, and no row of the read model is read to keep one. Pure: who writes
//! is the journal, in the command's own transaction.
//!
//! [`Entity::counts`]: crate::Entity::counts

use crate::journal::{SqlValue, ViewWrite};

/// What one entity counts for in the totals over its kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Counts {
    /// The row of the totals that it counts in, such as a status.
    pub under: SqlValue,
    /// What it adds to that row's numbers, in their order.
    pub numbers: Vec<i64>,
}

impl Counts {
    /// Counts in the row `under` with `numbers`.
    #[must_use]
    pub fn new(under: impl Into<SqlValue>, numbers: impl Into<Vec<i64>>) -> Self {
        Self { under: under.into(), numbers: numbers.into() }
    }
}

/// The writes that bring the totals from what an entity counted for to what it counts for now; `add` is the kind's
/// [`Entity::ADD_TO_TOTALS`](crate::Entity::ADD_TO_TOTALS).
pub(crate) fn difference(add: &'static str, before: Option<Counts>, after: Option<Counts>) -> Vec<ViewWrite> {
    let (less, more) = match (before, after) {
        (Some(before), Some(after)) if before.under == after.under => (None, Some(minus(after, &before.numbers))),
        (before, after) => (before.map(negated), after),
    };
    let changes = |counts: &Counts| counts.numbers.iter().any(|number| *number != 0);
    let write = |Counts { under, numbers }: Counts| {
        let params = std::iter::once(under).chain(numbers.into_iter().map(SqlValue::Integer)).collect();
        ViewWrite::new(add, params)
    };
    [less, more].into_iter().flatten().filter(changes).map(write).collect()
}

fn negated(counts: Counts) -> Counts {
    Counts { numbers: counts.numbers.iter().map(|number| number.wrapping_neg()).collect(), ..counts }
}

fn minus(counts: Counts, numbers: &[i64]) -> Counts {
    let less = counts.numbers.iter().zip(numbers).map(|(after, before)| after.wrapping_sub(*before)).collect();
    Counts { numbers: less, ..counts }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writes(before: Option<Counts>, after: Option<Counts>) -> Vec<Vec<SqlValue>> {
        difference("", before, after).into_iter().map(|write| write.params).collect()
    }

    fn row(under: &str, numbers: [i64; 2]) -> Vec<SqlValue> {
        std::iter::once(under.into()).chain(numbers.map(SqlValue::Integer)).collect()
    }

    #[test]
    fn what_an_entity_counts_for_is_added_once_and_taken_out_where_it_leaves() {
        let counts = |under, numbers: [i64; 2]| Some(Counts::new(under, numbers));
        assert_eq!(writes(None, counts("pending", [1, 500])), [row("pending", [1, 500])]);
        assert_eq!(
            writes(counts("pending", [1, 500]), counts("paid", [1, 500])),
            [row("pending", [-1, -500]), row("paid", [1, 500])],
        );
        assert_eq!(writes(counts("paid", [1, 500]), counts("paid", [1, 200])), [row("paid", [0, -300])]);
        assert_eq!(writes(counts("paid", [1, 500]), None), [row("paid", [-1, -500])]);
    }

    #[test]
    fn nothing_is_written_where_no_number_changes() {
        let counts = |numbers: [i64; 2]| Some(Counts::new(1, numbers));
        assert!(writes(counts([1, 500]), counts([1, 500])).is_empty());
        assert!(writes(None, counts([0, 0])).is_empty(), "it counts for nothing");
        assert!(writes(None, None).is_empty());
    }
}
