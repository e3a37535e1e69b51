//! No statement of the runtime's own reads a table that grows from one end to the other.
#![allow(missing_docs)]

use std::path::Path;

use microcommerce_runtime::testkit::plans::{Rules, check};

#[test]
fn no_statement_reads_a_whole_table() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let rules = Rules {
        macros: &[(
            "select_events",
            "SELECT e.position, e.stream, e.version, event_type, schema, payload, at_ms, correlation_id, causation_id, actor, \
             traceparent, published_before FROM ",
        )],
        // One row each; a row for each kind of entity; a row for each table.
        small: &["identity", "indexed", "view_versions", "sqlite_schema"],
        allowed: &[
            ("GROUP BY command_id", "of one stream, once, when it outgrows its entity's memory"),
            ("SELECT {key}, * FROM {name}", "a slice of a table by its key, for the check of the whole file"),
            ("pragma_table_list", "the tables themselves"),
            ("pragma_table_info", "a table's columns"),
        ],
        ..Rules::default()
    };
    assert!(check(&sources, "", &rules) > 20);
}
