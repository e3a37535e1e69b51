//! No statement of this service reads a table that grows from one end to the other, but where the catalogue is searched.

use std::path::Path;

use runtime::testkit::{
    MemoryDisk,
    plans::{Rules, check},
};

use crate::{
    ProductService, SortKey, SortOrder,
    catalog::sql::{self, Choice},
};

#[test]
fn no_statement_reads_a_whole_table() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let rules = Rules {
        put_together: &["catalog/sql.rs"],
        more: &sql::every(),
        // A row for each category.
        small: &["product_counts"],
        allowed: &[
            (
                "WHERE p.archived = 0 ORDER BY",
                "along an index in the order of the pages, up to the one that is asked for",
            ),
            ("p.search_text LIKE", "the catalogue is searched; at most 100 ids are sorted"),
            ("sum(CASE WHEN available < 0", "the sums over the catalogue, which an operator asks for"),
        ],
        ..Rules::default()
    };
    assert!(check(&sources, ProductService::VIEWS, &rules) >= 40);
}

#[test]
fn pages_without_filters_come_from_an_index_in_their_order() {
    let disk = MemoryDisk::new(ProductService::VIEWS).unwrap();
    for choice in [Choice::All, Choice::Category] {
        for sort in [SortKey::Name, SortKey::Price, SortKey::CreatedAt] {
            for order in [SortOrder::Ascending, SortOrder::Descending] {
                let plan = disk.plan(sql::list(choice, sort, order)).unwrap();
                assert!(plan[0].contains("USING INDEX products_by_"), "{choice:?} {sort:?}: {plan:?}");
                assert!(plan.iter().all(|step| !step.contains("B-TREE")), "{choice:?} {sort:?}: {plan:?}");
            }
        }
    }
    for sort in [SortKey::Name, SortKey::Price, SortKey::CreatedAt] {
        let plan = disk.plan(sql::list(Choice::Ids, sort, SortOrder::Ascending)).unwrap();
        assert!(plan[0].contains("(product_id=?)"), "each id is found: {plan:?}");
    }
}
