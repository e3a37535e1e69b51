//! No statement of this service reads a table that grows from one end to the other.

use std::path::Path;

use runtime::{
    ViewSchema,
    testkit::plans::{Rules, check},
};

#[test]
fn no_statement_reads_a_whole_table() {
    // The provider's books are in a journal of their own, with a kind of their own.
    const VIEWS: &[ViewSchema] = &[crate::VIEWS[0], crate::provider::sandbox::VIEWS[0]];
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    assert!(check(&sources, VIEWS, &Rules::default()) >= 8);
}
