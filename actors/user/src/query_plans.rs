//! No statement of this service reads a table that grows from one end to the other.

use std::path::Path;

use runtime::testkit::plans::{Rules, check};

#[test]
fn no_statement_reads_a_whole_table() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    assert!(check(&sources, crate::UserService::VIEWS, &Rules::default()) >= 8);
}
