//! For those who run the shop: what it all adds up to, and, in development, ways to break it.

use std::sync::Arc;

use contracts::Service;

use super::Call;
use crate::auth::Role;
use crate::body::JSON_BYTES_MAX;
use crate::error::ApiError;
use crate::fields;
use crate::json::Object;
use crate::rate_limit::Purpose;
use crate::reply::{self, Response};
use crate::request::Request;
use crate::route;
use crate::shop::{Chaos, Shop};

/// Longest name of a service, entity or id, in characters.
const NAME_MAX: usize = 100;

pub(super) fn purpose(_: &Request) -> Purpose {
    Purpose::Api
}

pub(super) async fn answer(shop: Arc<Shop>, call: Call) -> Result<Response, ApiError> {
    route!(call.request, {
        GET ["api", "v1", "admin", "stats"] => stats(&shop, call).await,
        POST ["api", "v1", "admin", "chaos", "kill"] => kill(&shop, call).await,
        POST ["api", "v1", "admin", "chaos", "panic"] => panic_entity(&shop, call).await,
    })
}

/// The sums of every set of books. What does not answer is `null`: an operator must see the rest.
async fn stats(shop: &Shop, mut call: Call) -> Result<Response, ApiError> {
    call.role(&[Role::Admin])?;
    let (orders, payments, inventory) = tokio::join!(orders(shop), payments(shop), inventory(shop));
    let (payments, provider) = payments.unzip();
    reply::ok(
        &Object::new()
            .field("orders", &orders)
            .field("payments", &payments)
            .field("provider", &provider)
            .field("inventory", &inventory)
            .field("actors", &shop.roster.entries())
            .field("shards", &shop.roster.readings()),
    )
}

async fn orders(shop: &Shop) -> Option<Object> {
    let totals = shop.orders.get().ok()?.totals().await.ok()?;
    let by_status = totals.by_status.iter().fold(Object::new(), |object, (status, count)| object.field(status, count));
    Some(
        Object::new()
            .field("paid_minor", &totals.paid_minor)
            .field("captured_minor", &totals.captured_minor)
            .field("refunded_minor", &totals.refunded_minor)
            .field("by_status", &by_status),
    )
}

/// Our books, and the provider's.
async fn payments(shop: &Shop) -> Option<(Object, Object)> {
    let totals = shop.payments.get().ok()?.totals().await.ok()?;
    let books = |captured: i64, refunded: i64| {
        Object::new().field("captured_minor", &captured).field("refunded_minor", &refunded)
    };
    Some((
        books(totals.captured_minor, totals.refunded_minor),
        books(totals.provider_captured_minor, totals.provider_refunded_minor),
    ))
}

async fn inventory(shop: &Shop) -> Option<Object> {
    let totals = shop.products.get().ok()?.totals().await.ok()?;
    Some(
        Object::new()
            .field("skus", &totals.skus)
            .field("received", &totals.received)
            .field("adjusted", &totals.adjusted)
            .field("on_hand", &totals.on_hand)
            .field("reserved", &totals.reserved)
            .field("committed", &totals.committed)
            .field("available", &totals.available)
            .field("negative_availables", &totals.negative_availables)
            .field("adds_up", &totals.hold()),
    )
}

/// Whoever breaks things, for an admin. Without one there is no such route, for anybody.
fn chaos<'a>(shop: &'a Shop, call: &mut Call) -> Result<&'a dyn Chaos, ApiError> {
    let chaos = shop.chaos.as_deref().ok_or_else(ApiError::unknown_route)?;
    call.role(&[Role::Admin])?;
    Ok(chaos)
}

async fn kill(shop: &Shop, mut call: Call) -> Result<Response, ApiError> {
    let chaos = chaos(shop, &mut call)?;
    let body = call.request.json_bytes(JSON_BYTES_MAX).await?;
    let name = fields::read(&body, |form| form.text("service", 1..=NAME_MAX))?;
    let service = Service::named(&name).ok_or_else(|| ApiError::invalid_field("service", "is not a service"))?;
    tracing::warn!(%service, "killed by an admin, for a drill");
    chaos.kill(service);
    Ok(reply::no_content())
}

async fn panic_entity(shop: &Shop, mut call: Call) -> Result<Response, ApiError> {
    let chaos = chaos(shop, &mut call)?;
    let body = call.request.json_bytes(JSON_BYTES_MAX).await?;
    let (kind, id) = fields::read(&body, |form| (form.text("entity", 1..=NAME_MAX), form.text("id", 1..=NAME_MAX)))?;
    tracing::warn!(kind, id, "made to panic by an admin, for a drill");
    if chaos.panic_entity(&kind, &id) {
        Ok(reply::no_content())
    } else {
        Err(ApiError::invalid_field("entity", "is not a kind of entity"))
    }
}
