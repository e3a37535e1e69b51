//! The catalogue: what was created is found, sorted and paged, with its exact price, also after a restart.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod support;

use std::time::Duration;

use contracts::{Currency, ItemRef, Money, ProductId, Quantity, QuoteLine, Sku};
use product_service::{
    ListQuery, NewProduct, Page, ProductChange, ProductError, QuoteError, RequestContext, SortKey, SortOrder,
};
use support::{System, context, new_product, reserve};

fn names(page: &Page) -> Vec<&str> {
    page.items.iter().map(|item| item.name.as_str()).collect()
}

async fn list(system: &System, query: ListQuery) -> Page {
    system.service.list(&query).await.unwrap()
}

fn sorted_by(sort: SortKey, order: SortOrder) -> ListQuery {
    ListQuery { sort, order, limit: 100, ..ListQuery::default() }
}

#[tokio::test]
async fn what_was_created_is_shown_with_its_stock_and_exact_price_also_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut system = System::start(directory.path()).await;
    let (mut created, prices) = (Vec::new(), [0, 1, 10, 29_999, 9_999_999_999_999]);
    for (number, price) in prices.into_iter().enumerate() {
        created.push(system.create(&format!("Product {number}"), price, number as i64).await);
    }
    for (number, detail) in created.iter().enumerate() {
        assert_eq!(detail.summary.price, Money::from_minor(prices[number], Currency::USD).unwrap());
        assert_eq!(detail.summary.stock_quantity, number as i64, "the answer shows the first units");
        assert_eq!(detail.summary.version, 1);
        assert_eq!(detail.specifications.as_json(), r#"{"colour":"Black","weight":0.250}"#);
        assert_eq!(&detail.summary.sku.as_str()[4..], &detail.summary.id.as_str()[5..]);
    }
    for _ in 0..2 {
        for detail in &created {
            assert_eq!(system.service.product(&detail.summary.id).await.as_ref(), Ok(detail));
        }
        let page = list(&system, sorted_by(SortKey::Price, SortOrder::Ascending)).await;
        assert_eq!(page.items, created.iter().map(|detail| detail.summary.clone()).collect::<Vec<_>>());
        assert_eq!(page.total, 5);
        system.stop().await;
        system = System::start(directory.path()).await;
    }
    let unknown = system.service.product(&ProductId::parse("prod_123").unwrap()).await;
    assert_eq!(unknown, Err(ProductError::NotFound));
    system.stop().await;
}

async fn system_with_25(directory: &std::path::Path) -> System {
    let system = System::start(directory).await;
    for number in 0..25_i64 {
        let stone = if number % 2 == 0 { "Granite" } else { "Basalt" };
        let mut new = new_product(&format!("Item {number:02} {stone}"), (number * 7) % 5, number % 2);
        new.category = if number % 5 == 0 { "Bags".into() } else { "Shoes".into() };
        new.description = format!("Straße_{number} 100%");
        system.service.create_product(new, &context()).await.unwrap();
    }
    system
}

#[tokio::test]
async fn lists_filter_and_search() {
    let directory = tempfile::tempdir().unwrap();
    let system = system_with_25(directory.path()).await;
    let all = ListQuery::default();
    let searched = |text: &str| ListQuery { search: Some(text.into()), ..ListQuery::default() };
    let of = |category: &str| ListQuery { category: Some(category.into()), ..ListQuery::default() };
    let some_ids: Vec<ProductId> =
        list(&system, all.clone()).await.items[3..6].iter().map(|item| item.id.clone()).collect();
    let table = [
        (all.clone(), 25),
        (of("Bags"), 5),
        (of("bags"), 0),
        (searched("granite"), 13),
        (searched("BASALT"), 12),
        (searched("STRASSE"), 0),
        (searched("straße_1"), 11),
        (searched("STRAßE_1"), 11),
        (searched("straße%1"), 0),
        (searched("100%"), 25),
        (searched("nothing like it"), 0),
        (searched("'; DROP TABLE products; --"), 0),
        (ListQuery { search: Some("granite".into()), ..of("Bags") }, 3),
        (ListQuery { in_stock: Some(true), ..all.clone() }, 12),
        (ListQuery { in_stock: Some(false), ..all.clone() }, 13),
        (ListQuery { min_price_minor: Some(1), max_price_minor: Some(2), ..all.clone() }, 10),
        (ListQuery { ids: Some(some_ids.clone()), ..all.clone() }, 3),
        (ListQuery { ids: Some(vec![]), ..all.clone() }, 0),
        (ListQuery { ids: Some(vec![ProductId::generate()]), ..all.clone() }, 0),
    ];
    for (query, expected) in table {
        let page = list(&system, ListQuery { limit: 100, ..query.clone() }).await;
        assert_eq!((page.total, page.items.len()), (expected, expected as usize), "{query:?}");
    }
    for wrong in [
        ListQuery { page: 0, ..all.clone() },
        ListQuery { limit: 0, ..all.clone() },
        ListQuery { limit: 101, ..all.clone() },
        searched(&"x".repeat(201)),
        ListQuery { ids: Some(vec![some_ids[0].clone(); 101]), ..all.clone() },
    ] {
        assert!(matches!(system.service.list(&wrong).await, Err(ProductError::Invalid(_))), "{wrong:?}");
    }
    system.stop().await;
}

#[tokio::test]
async fn every_sort_is_total_and_its_pages_neither_repeat_nor_skip() {
    let directory = tempfile::tempdir().unwrap();
    let system = system_with_25(directory.path()).await;
    for category in [None, Some("Shoes".to_owned())] {
        for sort in [SortKey::Name, SortKey::Price, SortKey::CreatedAt] {
            let query = |order| ListQuery { category: category.clone(), ..sorted_by(sort, order) };
            let ascending = list(&system, query(SortOrder::Ascending)).await;
            let mut descending = list(&system, query(SortOrder::Descending)).await.items;
            descending.reverse();
            assert_eq!(ascending.items, descending, "{sort:?}: one is the other backwards, ties included");
            let mut paged = Vec::new();
            for page in 1..=5 {
                paged.extend(list(&system, ListQuery { page, limit: 7, ..query(SortOrder::Ascending) }).await.items);
            }
            assert_eq!(paged, ascending.items, "{sort:?}");
        }
    }
    let by_name = list(&system, sorted_by(SortKey::Name, SortOrder::Ascending)).await;
    assert!(names(&by_name).is_sorted());
    let by_price = list(&system, sorted_by(SortKey::Price, SortOrder::Ascending)).await;
    assert!(by_price.items.iter().map(|item| item.price.minor()).is_sorted());
    let past_the_end = list(&system, ListQuery { page: u32::MAX, ..ListQuery::default() }).await;
    assert_eq!((past_the_end.items.len(), past_the_end.total), (0, 25));
    system.stop().await;
}

#[tokio::test]
async fn a_creation_that_is_repeated_is_the_first_and_a_sku_is_one_products() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(directory.path()).await;
    let new = |id: &ProductId, name: &str| NewProduct {
        id: Some(id.clone()),
        sku: Some(Sku::parse("sku_blue").unwrap()),
        ..new_product(name, 100, 3)
    };
    let (first, second) = (ProductId::generate(), ProductId::generate());
    let created = system.service.create_product(new(&first, "Blue"), &context()).await.unwrap();
    let again = system.service.create_product(new(&first, "Red"), &context()).await.unwrap();
    assert_eq!(again, created);
    let taken = system.service.create_product(new(&second, "Green"), &context()).await;
    assert_eq!(taken, Err(ProductError::SkuTaken { sku: Sku::parse("sku_blue").unwrap() }));
    assert_eq!(system.service.totals().await.unwrap().received, 3);

    let wrong =
        NewProduct { name: String::new(), stock_quantity: -1, specifications: Some("[]".into()), ..new(&second, "") };
    let Err(ProductError::Invalid(errors)) = system.service.create_product(wrong, &context()).await else { panic!() };
    let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
    assert_eq!(fields, ["specifications", "name", "stock_quantity"]);
    system.stop().await;
}

#[tokio::test]
async fn without_a_bus_the_creation_says_unavailable_and_ends_once_the_bus_is_back() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start_without_bus(directory.path()).await;
    let new = NewProduct { id: Some(ProductId::generate()), ..new_product("Patient", 100, 3) };
    let hasty = RequestContext::new("req_1", Duration::from_millis(300));
    assert_eq!(system.service.create_product(new.clone(), &hasty).await, Err(ProductError::Unavailable));
    system.stop().await;

    let system = System::start(directory.path()).await;
    let created = system.service.create_product(new, &context()).await.unwrap();
    assert_eq!(created.summary.stock_quantity, 3);
    system.stop().await;
}

#[tokio::test]
async fn an_editor_changes_what_they_saw_and_an_archived_product_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(directory.path()).await;
    let product = system.create("Old name", 100, 3).await.summary;
    let dearer = || ProductChange {
        name: Some("New name".into()),
        price: Some(Money::from_minor(1_050, Currency::EUR).unwrap()),
        ..ProductChange::default()
    };
    let changed = system.service.update_product(&product.id, dearer(), 1, &context()).await.unwrap().summary;
    assert_eq!(
        (changed.name.as_str(), changed.price.to_string().as_str(), changed.version),
        ("New name", "10.50 EUR", 2)
    );
    assert_eq!((&changed.description, changed.stock_quantity), (&product.description, 3));
    let late = system.service.update_product(&product.id, dearer(), 1, &context()).await;
    assert_eq!(late, Err(ProductError::Precondition { current_version: 2 }));
    let found = list(&system, ListQuery { search: Some("new NAME".into()), ..ListQuery::default() }).await;
    assert_eq!(found.total, 1);

    let before = changed.stock_version;
    system.give(&reserve(&product.sku, 1, 1)).await;
    let shown = system.service.product(&product.id).await.unwrap().summary;
    assert_eq!((shown.stock_quantity, shown.version), (2, 2));
    assert!(shown.stock_version > before, "stock has a version of its own");

    assert!(system.service.archive_product(&product.id, 1, &context()).await.is_err());
    system.service.archive_product(&product.id, 2, &context()).await.unwrap();
    assert_eq!(system.service.product(&product.id).await, Err(ProductError::NotFound));
    assert_eq!(list(&system, ListQuery::default()).await.total, 0);
    let unknown = system.service.update_product(&ProductId::generate(), dearer(), 0, &context()).await;
    assert_eq!(unknown, Err(ProductError::NotFound));
    system.stop().await;
}

#[tokio::test]
async fn a_quote_is_the_present_price_of_every_line_or_names_those_it_does_not_know() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(directory.path()).await;
    let (cheap, dear) = (system.create("Cheap", 1, 0).await.summary, system.create("Dear", 99_999, 1).await.summary);
    let line = |item: ItemRef| QuoteLine { item, quantity: Quantity::new(2).unwrap() };
    let lines = [line(ItemRef::Sku(dear.sku.clone())), line(ItemRef::Product(cheap.id.clone()))];
    let quoted = system.service.quote(&lines).await.unwrap();
    let shown: Vec<_> = quoted.iter().map(|line| (&line.sku, &line.product_id, line.unit_price.minor())).collect();
    assert_eq!(shown, [(&dear.sku, &dear.id, 99_999), (&cheap.sku, &cheap.id, 1)]);
    assert_eq!(quoted[0].quantity.get(), 2);

    let unknown = line(ItemRef::Product(ProductId::generate()));
    let mixed = [unknown.clone(), lines[0].clone(), line(ItemRef::Sku(Sku::generate()))];
    assert_eq!(system.service.quote(&mixed).await, Err(QuoteError::UnknownItems { lines: vec![0, 2] }));
    assert_eq!(system.service.quote(&[]).await, Ok(vec![]));
    system.stop().await;
}
