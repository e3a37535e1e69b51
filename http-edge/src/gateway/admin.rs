//! For those who run the shop: what it all adds up to, and, in development, ways to break it.

use std::sync::Arc;

use contracts::Service;
use order_service::DebtTotals;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::admin_users;
use super::call::Call;
use super::forward::passed_on;
use crate::auth::Role;
use crate::body::JSON_BYTES_MAX;
use crate::error::ApiError;
use crate::fields;
use crate::json::Object;
use crate::questions::{KILL, PANIC, PanicQuestion, STATS};
use crate::rate_limit::Purpose;
use crate::reply::{self, Response};
use crate::request::Request;
use crate::route;
use crate::shop::{Chaos, Shop};

/// The most orders with open debts that are counted, the oldest first, …
const DEBTS_MAX: i64 = 1_000;
/// … and shown.
const DEBTS_SHOWN_MAX: usize = 100;
/// Longest name of a service, entity or id, in characters.
const NAME_MAX: usize = 100;

pub(super) fn purpose(_: &Request) -> Purpose {
    Purpose::Api
}

pub(super) async fn answer(shop: Arc<Shop>, call: Call) -> Result<Response, ApiError> {
    let is_about_users = matches!(call.request.path().segments().as_slice(), [_, _, _, "users", ..]);
    if is_about_users {
        return match shop.peer_for(Service::User).cloned() {
            None => admin_users::answer(shop, call).await,
            Some(peers) => passed_on(&peers, Service::User, &shop, call).await,
        };
    }
    route!(call.request, {
        GET ["api", "v1", "admin", "stats"] => stats(&shop, call).await,
        POST ["api", "v1", "admin", "chaos", "kill"] => kill(&shop, call).await,
        POST ["api", "v1", "admin", "chaos", "panic"] => panic_entity(&shop, call).await,
    })
}

/// What services add to the operator's page; the JSON of each is the service's own.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Stats {
    orders: Option<Box<RawValue>>,
    payments: Option<Box<RawValue>>,
    provider: Option<Box<RawValue>>,
    inventory: Option<Box<RawValue>>,
    actors: Vec<Box<RawValue>>,
    shards: Vec<Box<RawValue>>,
}

/// The sums of every set of books. What does not answer is `null`: an operator must see the rest.
async fn stats(shop: &Shop, mut call: Call) -> Result<Response, ApiError> {
    call.role(&[Role::Admin])?;
    let mut stats = own_stats(shop, &shop.here).await?;
    for service in Service::ALL {
        let Some(peers) = shop.peer_for(service) else { continue };
        if let Ok(theirs) = peers.ask::<Stats>(service, STATS, &(), call.context.deadline).await {
            stats.take(theirs);
        }
    }
    reply::ok(&stats)
}

impl Stats {
    fn take(&mut self, other: Self) {
        self.orders = self.orders.take().or(other.orders);
        self.payments = self.payments.take().or(other.payments);
        self.provider = self.provider.take().or(other.provider);
        self.inventory = self.inventory.take().or(other.inventory);
        self.actors.extend(other.actors);
        self.shards.extend(other.shards);
    }
}

/// The part of the services of this process, and the whole of its tree.
///
/// # Errors
/// 500 when something has no JSON, which our own types never have.
pub(crate) async fn own_stats(shop: &Shop, services: &[Service]) -> Result<Stats, ApiError> {
    let is_asked = |service| services.contains(&service);
    let (orders, payments, inventory) = tokio::join!(
        async { if is_asked(Service::Order) { orders(shop).await } else { None } },
        async { if is_asked(Service::Payment) { payments(shop).await } else { None } },
        async { if is_asked(Service::Product) { inventory(shop).await } else { None } },
    );
    let (payments, provider) = payments.unzip();
    let optional = |part: Option<Object>| part.map(|part| raw(&part)).transpose();
    Ok(Stats {
        orders: optional(orders)?,
        payments: optional(payments)?,
        provider: optional(provider)?,
        inventory: optional(inventory)?,
        actors: shop.roster.entries().iter().map(raw).collect::<Result<_, _>>()?,
        shards: shop.roster.readings().iter().map(raw).collect::<Result<_, _>>()?,
    })
}

fn raw(part: &impl Serialize) -> Result<Box<RawValue>, ApiError> {
    to_raw_value(part).map_err(ApiError::internal)
}

async fn orders(shop: &Shop) -> Option<Object> {
    let service = shop.orders.get().ok()?;
    let totals = service.totals().await.ok()?;
    let open = service.open_debts(DEBTS_MAX).await.ok()?;
    let debts = DebtTotals::of(&open);
    let debts = Object::new()
        .field("refunds", &debts.refunds)
        .field("owed_minor", &debts.owed_minor)
        .field("in_vain", &debts.in_vain)
        .field("orders", &&open[..open.len().min(DEBTS_SHOWN_MAX)]);
    let by_status = totals.by_status.iter().fold(Object::new(), |object, (status, count)| object.field(status, count));
    Some(
        Object::new()
            .field("paid_minor", &totals.paid_minor)
            .field("captured_minor", &totals.captured_minor)
            .field("refunded_minor", &totals.refunded_minor)
            .field("by_status", &by_status)
            .field("debts", &debts),
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
fn chaos(shop: &Shop, call: &mut Call) -> Result<Arc<dyn Chaos>, ApiError> {
    let chaos = shop.chaos.clone().ok_or_else(ApiError::unknown_route)?;
    call.role(&[Role::Admin])?;
    Ok(chaos)
}

async fn kill(shop: &Shop, mut call: Call) -> Result<Response, ApiError> {
    let chaos = chaos(shop, &mut call)?;
    let body = call.request.json_bytes(JSON_BYTES_MAX).await?;
    let name = fields::read(&body, |form| form.text("service", 1..=NAME_MAX))?;
    let service = Service::named(&name).ok_or_else(|| ApiError::invalid_field("service", "is not a service"))?;
    tracing::warn!(%service, "killed by an admin, for a drill");
    match shop.peer_for(service) {
        None => chaos.kill(service),
        Some(peers) => drop(peers.ask::<bool>(service, KILL, &(), call.context.deadline).await?),
    }
    Ok(reply::no_content())
}

async fn panic_entity(shop: &Shop, mut call: Call) -> Result<Response, ApiError> {
    let chaos = chaos(shop, &mut call)?;
    let body = call.request.json_bytes(JSON_BYTES_MAX).await?;
    let (kind, id) = fields::read(&body, |form| (form.text("entity", 1..=NAME_MAX), form.text("id", 1..=NAME_MAX)))?;
    tracing::warn!(kind, id, "made to panic by an admin, for a drill");
    let owner = if kind == "payment" { Service::Payment } else { Service::Order };
    let is_known = match shop.peer_for(owner) {
        None => chaos.panic_entity(&kind, &id),
        Some(peers) => peers.ask(owner, PANIC, &PanicQuestion { kind, id }, call.context.deadline).await?,
    };
    if is_known { Ok(reply::no_content()) } else { Err(ApiError::invalid_field("entity", "is not a kind of entity")) }
}
