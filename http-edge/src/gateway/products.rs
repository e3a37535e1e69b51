//! The catalogue: everybody reads, catalogue managers write.

use std::sync::Arc;

use contracts::{Currency, Money, ProductId};
use product_service::{LIMIT_DEFAULT, LIMIT_MAX, ListQuery, NewProduct, ProductChange, SortKey, SortOrder};
use sha2::{Digest, Sha256};
use warp::http::StatusCode;
use warp::http::header::{CACHE_CONTROL, ETAG};

use super::call::Call;
use super::product_json;
use crate::auth::{Principal, Role};
use crate::body::PRODUCT_JSON_BYTES_MAX;
use crate::conditional::{self, BasedOn};
use crate::error::ApiError;
use crate::fields::{self, Fields};
use crate::idempotency::IdempotencyKey;
use crate::idempotent::Keyed;
use crate::json::Object;
use crate::query::Query;
use crate::rate_limit::Purpose;
use crate::reply::{self, Response};
use crate::request::Request;
use crate::route;
use crate::shop::Shop;

const ROUTE: &str = "/api/v1/products";
/// Longest text of a field that is looked at, in characters; the product service has the limits that editors are told.
const TEXT_CHARACTERS_MAX: usize = 20_000;
/// Longest search or category in a query, in characters.
const QUERY_TEXT_MAX: usize = 200;
/// Longest list of ids in a query, in characters: a hundred of the longest.
const IDS_TEXT_MAX: usize = 7_000;
const IMAGES_MAX: usize = 100;

pub(super) fn purpose(_: &Request) -> Purpose {
    Purpose::Api
}

pub(super) async fn answer(shop: Arc<Shop>, call: Call) -> Result<Response, ApiError> {
    route!(call.request, {
        GET ["api", "v1", "products"] => list(&shop, call).await,
        POST ["api", "v1", "products"] => create(&shop, call).await,
        GET ["api", "v1", "products", id] => detail(&shop, call, id).await,
        PATCH ["api", "v1", "products", id] => change(&shop, call, id).await,
        DELETE ["api", "v1", "products", id] => archive(&shop, call, id).await,
    })
}

async fn list(shop: &Shop, call: Call) -> Result<Response, ApiError> {
    let query = list_query(&call.request.query()?)?;
    let page = shop.products.get()?.list(&query).await?;
    let products: Vec<Object> = page.items.iter().map(product_json::summary).collect();
    let pagination = Object::new()
        .field("page", &query.page)
        .field("limit", &query.limit)
        .field("total", &page.total)
        .field("total_pages", &page.total.div_ceil(u64::from(query.limit)));
    let body = Object::new().field("products", &products).field("pagination", &pagination);
    let json = body.to_json().map_err(ApiError::internal)?;
    let digest = Sha256::digest(json.as_bytes());
    let etag: String = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    let response = reply::json_bytes(StatusCode::OK, json);
    Ok(revalidated(conditional::tagged(call.request.headers(), &format!("W/\"{etag}\""), response)))
}

fn list_query(query: &Query) -> Result<ListQuery, ApiError> {
    let currency = match query.text("currency", 3)? {
        Some(code) => Currency::parse(code).map_err(|error| ApiError::bad_parameter("currency", error))?,
        None => Currency::USD,
    };
    let price = |name: &str| match query.text(name, 32)? {
        Some(text) => Money::parse_json(text, currency)
            .map(|money| Some(money.minor()))
            .map_err(|error| ApiError::bad_parameter(name, error)),
        None => Ok(None),
    };
    Ok(ListQuery {
        page: query.integer("page", 1..=u32::MAX, 1)?,
        limit: query.integer("limit", 1..=LIMIT_MAX, LIMIT_DEFAULT)?,
        category: query.text("category", QUERY_TEXT_MAX)?.map(str::to_owned),
        search: query.text("search", QUERY_TEXT_MAX)?.map(str::to_owned),
        sort: query.one_of(
            "sort",
            &[("name", SortKey::Name), ("price", SortKey::Price), ("created_at", SortKey::CreatedAt)],
            SortKey::default(),
        )?,
        order: query.one_of(
            "order",
            &[("asc", SortOrder::Ascending), ("desc", SortOrder::Descending)],
            SortOrder::default(),
        )?,
        min_price_minor: price("min_price")?,
        max_price_minor: price("max_price")?,
        in_stock: query.one_of("in_stock", &[("true", Some(true)), ("false", Some(false))], None)?,
        ids: query.text("ids", IDS_TEXT_MAX)?.map(ids).transpose()?,
    })
}

fn ids(text: &str) -> Result<Vec<ProductId>, ApiError> {
    let ids: Result<Vec<ProductId>, _> = text.split(',').map(ProductId::parse).collect();
    let ids = ids.map_err(|error| ApiError::bad_parameter("ids", error))?;
    if ids.len() > LIMIT_MAX as usize {
        return Err(ApiError::bad_parameter("ids", format_args!("must be at most {LIMIT_MAX}")));
    }
    Ok(ids)
}

async fn detail(shop: &Shop, call: Call, id: &str) -> Result<Response, ApiError> {
    let product = shop.products.get()?.product(&parse_id(id)?).await?;
    let response = reply::ok(&product_json::detail(&product)?)?;
    Ok(revalidated(conditional::tagged(call.request.headers(), &product_json::etag(&product.summary), response)))
}

async fn create(shop: &Shop, mut call: Call) -> Result<Response, ApiError> {
    let editor = editor(&mut call)?;
    let key = IdempotencyKey::optional(call.request.headers())?;
    let body = call.request.json_bytes(PRODUCT_JSON_BYTES_MAX).await?;
    let mut new = fields::read(&body, new_product)?;
    if let Some(key) = key {
        let keyed = Keyed::new(shop, editor.user_id.as_str(), &call.request, ROUTE, &key, &body)?;
        new.id = Some(id_of(&keyed));
    }
    let product = shop.products.get()?.create_product(new, &call.context).await?;
    let location = format!("{ROUTE}/{}", product.summary.id);
    let response = reply::created(&location, &product_json::detail(&product)?)?;
    Ok(reply::with_header(response, ETAG, &product_json::etag(&product.summary)))
}

/// The id of the product that is created under a key: the same request again is the same product.
fn id_of(keyed: &Keyed) -> ProductId {
    let digest = Sha256::digest(format!("{} {}", keyed.operation_id, keyed.fingerprint));
    let mut bits = [0; 16];
    bits.copy_from_slice(&digest[..16]);
    ProductId::from_ulid(u128::from_be_bytes(bits))
}

fn new_product(product: &mut Fields<'_>) -> NewProduct {
    let currency = product.currency("currency", Currency::USD);
    NewProduct {
        id: None,
        sku: product.optional_parsed("sku"),
        name: product.text("name", 1..=TEXT_CHARACTERS_MAX),
        description: product.optional_text("description", 0..=TEXT_CHARACTERS_MAX).unwrap_or_default(),
        price: product.money("price", currency),
        category: product.text("category", 1..=TEXT_CHARACTERS_MAX),
        images: product.texts("images", 0..=IMAGES_MAX, 1..=TEXT_CHARACTERS_MAX),
        specifications: product.raw("specifications").map(|raw| raw.get().to_owned()),
        stock_quantity: product.optional_integer("stock_quantity", i64::MIN..=i64::MAX).unwrap_or(0),
    }
}

async fn change(shop: &Shop, mut call: Call, id: &str) -> Result<Response, ApiError> {
    editor(&mut call)?;
    let (id, products) = (parse_id(id)?, shop.products.get()?);
    let based_on = conditional::if_match(call.request.headers())?;
    let present = products.product(&id).await?.summary;
    let version = version(based_on, present.version)?;
    let body = call.request.json_bytes(PRODUCT_JSON_BYTES_MAX).await?;
    let change = fields::read(&body, |product| {
        let currency = product.currency("currency", present.price.currency());
        if currency != present.price.currency() && !product.has("price") {
            product.refuse("price", "is required when the currency changes");
        }
        ProductChange {
            name: product.optional_text("name", 0..=TEXT_CHARACTERS_MAX),
            description: product.optional_text("description", 0..=TEXT_CHARACTERS_MAX),
            price: product.optional_money("price", currency),
            category: product.optional_text("category", 0..=TEXT_CHARACTERS_MAX),
            images: product.has("images").then(|| product.texts("images", 0..=IMAGES_MAX, 1..=TEXT_CHARACTERS_MAX)),
            specifications: product.raw("specifications").map(|raw| raw.get().to_owned()),
        }
    })?;
    let product = products.update_product(&id, change, version, &call.context).await?;
    let response = reply::ok(&product_json::detail(&product)?)?;
    Ok(reply::with_header(response, ETAG, &product_json::etag(&product.summary)))
}

async fn archive(shop: &Shop, mut call: Call, id: &str) -> Result<Response, ApiError> {
    editor(&mut call)?;
    let (id, products) = (parse_id(id)?, shop.products.get()?);
    let based_on = conditional::if_match(call.request.headers())?;
    let version = version(based_on, products.product(&id).await?.summary.version)?;
    products.archive_product(&id, version, &call.context).await?;
    Ok(reply::no_content())
}

fn version(based_on: BasedOn, present: u64) -> Result<u64, ApiError> {
    match based_on {
        BasedOn::Unsaid => Err(ApiError::precondition_required()),
        BasedOn::Any => Ok(present),
        BasedOn::Version(version) => Ok(version),
    }
}

fn editor(call: &mut Call) -> Result<Principal, ApiError> {
    call.role(&[Role::CatalogManager])
}

fn parse_id(id: &str) -> Result<ProductId, ApiError> {
    ProductId::parse(id).map_err(|_| ApiError::not_found("product"))
}

/// A cache may keep it and must ask before it uses it.
fn revalidated(response: Response) -> Response {
    reply::with_header(response, CACHE_CONTROL, "no-cache")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(query: &str) -> Result<ListQuery, ApiError> {
        list_query(&Query::parse(query).unwrap())
    }

    #[test]
    fn a_list_has_defaults_and_bounds() {
        assert_eq!(of("").unwrap(), ListQuery::default());
        let query = of("min_price=9.99&max_price=10&in_stock=true&ids=prod_1,prod_2&sort=price&order=asc").unwrap();
        assert_eq!((query.min_price_minor, query.max_price_minor), (Some(999), Some(1000)));
        assert_eq!((query.in_stock, query.ids.unwrap().len()), (Some(true), 2));
        assert_eq!((query.sort, query.order), (SortKey::Price, SortOrder::Ascending));
        let many = format!("ids={}", vec!["prod_1"; 101].join(","));
        for bad in ["page=0", "limit=101", "sort=x", "order=x", "in_stock=yes", "min_price=1e2", "ids=ord_1", &many] {
            assert_eq!(of(bad).unwrap_err().status(), 400, "{bad}");
        }
    }

    #[test]
    fn prices_of_a_new_product_are_exact_or_refused() {
        let read = |price: &str| {
            let body = format!(r#"{{"name":"N","category":"C","price":{price},"specifications":{{"w":0.250}}}}"#);
            fields::read(body.as_bytes(), new_product)
        };
        let new = read("299.90").unwrap();
        assert_eq!((new.price.minor(), new.stock_quantity), (29_990, 0));
        assert_eq!(new.specifications.as_deref(), Some(r#"{"w":0.250}"#));
        for bad in ["1e2", "1.005", "null", "[]"] {
            assert_eq!(read(bad).unwrap_err().status(), 422, "{bad}");
        }
    }
}
