//! No statement of this service reads a table that grows from one end to the other.

use std::path::Path;

use runtime::testkit::plans::{Rules, check};

#[test]
fn no_statement_reads_a_whole_table() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    // A row for each status.
    let rules = Rules {
        small: &["order_sums"],
        allowed: &[(
            "WHERE refunds > 0 OR asked_again >= 3",
            "along an index of such rows, in its order, up to the limit",
        )],
        ..Rules::default()
    };
    assert!(check(&sources, crate::VIEWS, &rules) >= 13);
}
