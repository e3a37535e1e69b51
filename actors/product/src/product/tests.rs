//! Given these events, when this is asked, then this happens.

use contracts::Currency;

use super::*;

fn content(name: &str) -> Content {
    Content {
        name: name.into(),
        description: "Größe L".into(),
        price: Money::from_minor(29_999, Currency::USD).unwrap(),
        category: "C".into(),
        images: vec![],
        specifications: Specifications::default(),
    }
}

fn create(name: &str) -> ProductCommand {
    let sku = Sku::parse("sku_1").unwrap();
    ProductCommand::Create { content: content(name), sku, initial_stock: 5, at: Timestamp::from_seconds(1) }
}

fn update(name: &str, expected_version: u64) -> ProductCommand {
    ProductCommand::Update { content: content(name), expected_version, at: Timestamp::from_seconds(2) }
}

fn archive(expected_version: u64) -> ProductCommand {
    ProductCommand::Archive { expected_version, at: Timestamp::from_seconds(3) }
}

fn given(commands: &[ProductCommand]) -> ProductState {
    let mut state = ProductState::default();
    for command in commands {
        for event in Product::decide(&state, command.clone()).unwrap() {
            let json = serde_json::to_string(&event).unwrap();
            assert_eq!(serde_json::from_str::<ProductEvent>(&json).unwrap(), event);
            Product::evolve(&mut state, &event);
        }
    }
    state
}

#[test]
fn the_table_of_refusals() {
    use ProductRefusal::{Exists, NotFound, VersionDiffers};
    let table = [
        (vec![create("a")], create("b"), Exists),
        (vec![], update("a", 0), NotFound),
        (vec![], archive(0), NotFound),
        (vec![create("a")], update("b", 2), VersionDiffers { current_version: 1 }),
        (vec![create("a"), update("b", 1)], update("c", 1), VersionDiffers { current_version: 2 }),
        (vec![create("a")], archive(0), VersionDiffers { current_version: 1 }),
        (vec![create("a"), archive(1)], update("b", 2), NotFound),
        (vec![create("a"), archive(1)], archive(2), NotFound),
    ];
    for (before, command, refusal) in table {
        assert_eq!(Product::decide(&given(&before), command.clone()), Err(refusal), "{command:?}");
    }
}

#[test]
fn a_change_is_a_new_version_and_no_change_is_none() {
    let mut state = given(&[create("a"), update("b", 1)]);
    let record = state.record.clone().unwrap();
    assert_eq!((record.content.name.as_str(), state.version), ("b", 2));
    assert_eq!((record.created_at.as_seconds(), record.updated_at.as_seconds()), (1, 2));
    assert_eq!(Product::decide(&state, update("b", 2)), Ok(vec![]));
    Product::evolve(&mut state, &ProductEvent::Archived { at: Timestamp::from_seconds(3) });
    assert!(state.record.unwrap().archived);
}

#[test]
fn the_row_is_searched_in_small_letters() {
    let state = given(&[create("ÄRMEL Shirt")]);
    let writes = Product::views(&"prod_1".into(), &state, &ProductEvent::Archived { at: Timestamp::EPOCH }, 0);
    assert_eq!(writes.len(), 1);
    assert_eq!(writes[0].params[11], "ärmel shirt\ngröße l".into());
}

#[test]
fn a_product_counts_in_its_category_until_it_is_archived() {
    let counts = |commands: &[ProductCommand]| Product::counts(&given(commands));
    let of_its_category = |state: ProductState| state.record.unwrap().content.category;
    let category = of_its_category(given(&[create("a")]));
    assert_eq!(counts(&[]), None);
    assert_eq!(counts(&[create("a")]), Some(Counts::new(category.as_str(), [1])));
    assert_eq!(counts(&[create("a"), update("b", 1)]), Some(Counts::new(category.as_str(), [1])));
    assert_eq!(counts(&[create("a"), archive(1)]), None);
}

#[test]
fn the_state_survives_a_snapshot() {
    let state = given(&[create("a"), update("b", 1)]);
    let config = bincode::config::standard();
    let bytes = bincode::serde::encode_to_vec(&state, config).unwrap();
    let (back, _): (ProductState, usize) = bincode::serde::decode_from_slice(&bytes, config).unwrap();
    assert_eq!(back, state);
}

#[test]
fn only_its_creation_is_told_of_and_so_numbered() {
    let told = [vec![], vec![create("a")], vec![create("a"), update("b", 1)], vec![create("a"), archive(1)]]
        .map(|commands| Product::published(&given(&commands)));
    assert_eq!(told, [Some(0), Some(1), Some(1), Some(1)]);
}
