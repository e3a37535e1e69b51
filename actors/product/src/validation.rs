//! What a product and a correction must look like. Pure; every broken rule is named, not only the first.

use crate::{error::FieldError, product::Content, requests::Adjustment, specifications::Specifications};

const NAME_CHARS_MAX: usize = 200;
const DESCRIPTION_CHARS_MAX: usize = 10_000;
const CATEGORY_CHARS_MAX: usize = 100;
const IMAGES_MAX: usize = 20;
/// What browsers and proxies take as an address.
const IMAGE_CHARS_MAX: usize = 2_048;
/// The most units that come with a new product, and the most that one correction moves.
pub const UNITS_MAX: i64 = 1_000_000;
const REASON_CHARS_MAX: usize = 200;
/// What an address of a picture may start with: nothing that a browser would run.
const IMAGE_STARTS: [&str; 3] = ["https://", "http://", "/"];

/// The specifications in `text`; none where there is no text, and none with an error where it is wrong.
pub fn specifications(text: Option<&str>, errors: &mut Vec<FieldError>) -> Specifications {
    text.map_or_else(|| Ok(Specifications::default()), Specifications::parse).unwrap_or_else(|error| {
        errors.push(FieldError::new("specifications", error.to_string()));
        Specifications::default()
    })
}

/// The rules that `content` breaks.
pub fn content(content: &Content, errors: &mut Vec<FieldError>) {
    one_line("name", &content.name, NAME_CHARS_MAX, errors);
    if content.description.chars().count() > DESCRIPTION_CHARS_MAX || content.description.contains('\0') {
        let reason = format!("must be text of at most {DESCRIPTION_CHARS_MAX} characters");
        errors.push(FieldError::new("description", reason));
    }
    if content.price.is_negative() {
        errors.push(FieldError::new("price", "must be at least 0"));
    }
    one_line("category", &content.category, CATEGORY_CHARS_MAX, errors);
    if content.images.len() > IMAGES_MAX {
        errors.push(FieldError::new("images", format!("must have at most {IMAGES_MAX} entries")));
    }
    for (place, image) in content.images.iter().enumerate().take(IMAGES_MAX) {
        let is_address = IMAGE_STARTS.iter().any(|start| image.starts_with(start));
        let is_clean = !image.chars().any(|character| character.is_control() || character.is_whitespace());
        if !is_address || !is_clean || image.chars().count() > IMAGE_CHARS_MAX {
            let reason = format!("must be an http or https URL of at most {IMAGE_CHARS_MAX} characters");
            errors.push(FieldError::new(format!("images[{place}]"), reason));
        }
    }
}

/// The units that come with a new product.
pub fn initial_stock(units: i64, errors: &mut Vec<FieldError>) -> u32 {
    match u32::try_from(units) {
        Ok(quantity) if units <= UNITS_MAX => quantity,
        _ => {
            errors.push(FieldError::new("stock_quantity", format!("must be between 0 and {UNITS_MAX}")));
            0
        }
    }
}

/// The rules that a correction breaks.
pub fn adjustment(adjustment: &Adjustment, errors: &mut Vec<FieldError>) {
    if adjustment.delta == 0 || !(-UNITS_MAX..=UNITS_MAX).contains(&adjustment.delta) {
        let reason = format!("must be between -{UNITS_MAX} and {UNITS_MAX}, and not 0");
        errors.push(FieldError::new("delta", reason));
    }
    one_line("reason", &adjustment.reason, REASON_CHARS_MAX, errors);
    if let Some(reference) = &adjustment.reference {
        one_line("reference", reference, REASON_CHARS_MAX, errors);
    }
}

fn one_line(field: &str, text: &str, chars_max: usize, errors: &mut Vec<FieldError>) {
    let is_blank = text.trim().is_empty();
    if is_blank || text.chars().count() > chars_max || text.chars().any(char::is_control) {
        errors.push(FieldError::new(field, format!("must be one line of 1 to {chars_max} characters")));
    }
}

#[cfg(test)]
mod tests {
    use contracts::{Currency, Money};

    use super::*;

    fn good() -> Content {
        Content {
            name: "N".into(),
            description: String::new(),
            price: Money::zero(Currency::USD),
            category: "C".into(),
            images: vec!["https://example.com/a.jpg".into(), "/a.jpg".into()],
            specifications: Specifications::default(),
        }
    }

    fn broken(change: impl FnOnce(&mut Content)) -> Vec<String> {
        let (mut changed, mut errors) = (good(), Vec::new());
        change(&mut changed);
        content(&changed, &mut errors);
        errors.into_iter().map(|error| error.field).collect()
    }

    #[test]
    fn every_limit_is_kept_to_the_letter() {
        let none: [&str; 0] = [];
        assert_eq!(broken(|_| {}), none);
        assert_eq!(broken(|content| content.name = "é".repeat(NAME_CHARS_MAX)), none);
        assert_eq!(broken(|content| content.name = "é".repeat(NAME_CHARS_MAX + 1)), ["name"]);
        assert_eq!(broken(|content| content.name = " ".into()), ["name"]);
        assert_eq!(broken(|content| content.name = "a\nb".into()), ["name"]);
        assert_eq!(broken(|content| content.description = "x".repeat(DESCRIPTION_CHARS_MAX)), none);
        assert_eq!(broken(|content| content.description = "x".repeat(DESCRIPTION_CHARS_MAX + 1)), ["description"]);
        assert_eq!(broken(|content| content.category = String::new()), ["category"]);
        assert_eq!(broken(|content| content.category = "x".repeat(CATEGORY_CHARS_MAX + 1)), ["category"]);
        assert_eq!(broken(|content| content.price = Money::from_minor(-1, Currency::USD).unwrap()), ["price"]);
        assert_eq!(broken(|content| content.images = vec!["/a".into(); IMAGES_MAX]), none);
        assert_eq!(broken(|content| content.images = vec!["/a".into(); IMAGES_MAX + 1]), ["images"]);
        for image in ["", "javascript:alert(1)", "https://a b", &format!("/{}", "x".repeat(IMAGE_CHARS_MAX))] {
            let images = vec!["/a".to_owned(), image.to_owned()];
            assert_eq!(broken(|content| content.images = images), ["images[1]"], "{image}");
        }
    }

    #[test]
    fn all_broken_rules_are_named() {
        let everything = broken(|content| (content.name, content.category) = (String::new(), String::new()));
        assert_eq!(everything, ["name", "category"]);
    }

    #[test]
    fn stock_and_corrections_have_bounds() {
        for (units, is_good) in
            [(0, true), (UNITS_MAX, true), (UNITS_MAX + 1, false), (-1, false), (i64::MAX, false), (i64::MIN, false)]
        {
            let mut errors = Vec::new();
            initial_stock(units, &mut errors);
            assert_eq!(errors.is_empty(), is_good, "{units}");
        }
        for (delta, reason, is_good) in [
            (1, "count", true),
            (0, "count", false),
            (i64::MIN, "count", false),
            (-UNITS_MAX, "count", true),
            (1, "", false),
        ] {
            let mut errors = Vec::new();
            let sku = contracts::Sku::generate();
            let correction = Adjustment { sku, delta, reason: reason.into(), reference: None, expected_on_hand: None };
            adjustment(&correction, &mut errors);
            assert_eq!(errors.is_empty(), is_good, "{delta} {reason}");
        }
    }
}
