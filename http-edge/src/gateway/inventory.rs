//! The stock by SKU, for those who keep it.

use std::sync::Arc;

use contracts::Sku;
use product_service::{Adjustment, StockMovement};
use warp::http::{HeaderName, StatusCode};

use super::call::Call;
use super::product_json;
use crate::auth::Role;
use crate::body::JSON_BYTES_MAX;
use crate::error::ApiError;
use crate::fields;
use crate::idempotency::IdempotencyKey;
use crate::idempotent::Keyed;
use crate::json::Object;
use crate::rate_limit::Purpose;
use crate::reply::{self, Response};
use crate::request::Request;
use crate::route;
use crate::shop::Shop;

const ADJUSTMENTS: &str = "/api/v1/inventory/{sku}/adjustments";
/// Longest text of a field that is looked at, in characters.
const TEXT_CHARACTERS_MAX: usize = 1_000;

pub(super) fn purpose(_: &Request) -> Purpose {
    Purpose::Api
}

pub(super) async fn answer(shop: Arc<Shop>, call: Call) -> Result<Response, ApiError> {
    route!(call.request, {
        GET ["api", "v1", "inventory", sku] => level(&shop, call, sku).await,
        POST ["api", "v1", "inventory", sku, "adjustments"] => adjust(&shop, call, sku).await,
    })
}

async fn level(shop: &Shop, mut call: Call, sku: &str) -> Result<Response, ApiError> {
    call.role(&[Role::CatalogManager, Role::Support])?;
    let level = shop.products.get()?.stock(&parse_sku(sku)?).await?;
    reply::ok(&product_json::stock(&level))
}

/// The correction is idempotent in the stock item itself, by its key: what it was first is what is answered.
async fn adjust(shop: &Shop, mut call: Call, sku: &str) -> Result<Response, ApiError> {
    let keeper = call.role(&[Role::CatalogManager])?;
    let key = IdempotencyKey::required(call.request.headers())?;
    let sku = parse_sku(sku)?;
    let body = call.request.json_bytes(JSON_BYTES_MAX).await?;
    let adjustment = fields::read(&body, |form| Adjustment {
        sku,
        delta: form.integer("delta", i64::MIN..=i64::MAX),
        reason: form.text("reason", 1..=TEXT_CHARACTERS_MAX),
        reference: form.optional_text("reference", 1..=TEXT_CHARACTERS_MAX),
        expected_on_hand: form.optional_integer("expected_on_hand", i64::MIN..=i64::MAX),
    })?;
    let keyed = Keyed::new(shop, keeper.user_id.as_str(), &call.request, ADJUSTMENTS, &key, &body)?;
    let asked = adjustment.clone();
    let movement = shop.products.get()?.adjust_stock(adjustment, &keyed.operation_id, &call.context).await?;
    if !is_what_was_asked(&movement, &asked) {
        return Err(ApiError::idempotency_key_reused());
    }
    let response = reply::json(StatusCode::CREATED, &movement_json(&movement))?;
    let replayed = HeaderName::from_static("idempotent-replayed");
    Ok(if movement.is_repeat { reply::with_header(response, replayed, "true") } else { response })
}

fn is_what_was_asked(movement: &StockMovement, asked: &Adjustment) -> bool {
    (movement.delta, &movement.reason, &movement.reference) == (asked.delta, &asked.reason, &asked.reference)
}

fn movement_json(movement: &StockMovement) -> Object {
    Object::new()
        .field("sku", &movement.sku)
        .field("delta", &movement.delta)
        .field("on_hand_after", &movement.on_hand_after)
        .field("reason", &movement.reason)
        .field("reference", &movement.reference)
        .field("sequence", &movement.sequence)
}

fn parse_sku(sku: &str) -> Result<Sku, ApiError> {
    Sku::parse(sku).map_err(|_| ApiError::not_found("SKU"))
}
