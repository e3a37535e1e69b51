//! Orders: placing, reading, cancelling.

use std::sync::Arc;

use contracts::{OrderId, RefundId, ReservationId, UserId};
use order_service::pricing::{self, NewOrderIds, OrderRequest};
use order_service::{Cap, Draft, Order, OrderError, OrderStatus};
use runtime::operation::Operation;
use runtime::{CommandId, Entities, RequestContext};
use warp::http::StatusCode;
use warp::http::header::LINK;

use super::call::Call;
use super::call::is_staff;
use super::order_request::{self, out_of_stock};
use super::{cursor, order_json};
use crate::auth::{Principal, Role, require_role};
use crate::body::JSON_BYTES_MAX;
use crate::conditional;
use crate::error::ApiError;
use crate::failures::of_ask;
use crate::fields;
use crate::idempotency::IdempotencyKey;
use crate::idempotent::{self, Answer, Attempt, Keyed};
use crate::json::Object;
use crate::neighbours;
use crate::rate_limit::{Purpose, unpaid_cap};
use crate::reply::{self, Response};
use crate::request::Request;
use crate::route;
use crate::shop::Shop;

const ROUTE: &str = "/api/v1/orders";
const CANCEL: &str = "/api/v1/orders/{id}/cancel";
const LIMIT_DEFAULT: u32 = 20;
const LIMIT_MAX: u32 = 100;
/// Longest reason of a cancellation, in characters.
const REASON_MAX: usize = 200;

/// The statuses that an order may be listed by.
const STATUSES: [OrderStatus; 4] =
    [OrderStatus::Pending, OrderStatus::PaymentProcessing, OrderStatus::Paid, OrderStatus::Cancelled];

pub(super) fn purpose(_: &Request) -> Purpose {
    Purpose::Api
}

pub(super) async fn answer(shop: Arc<Shop>, call: Call) -> Result<Response, ApiError> {
    route!(call.request, {
        GET ["api", "v1", "orders"] => list(&shop, call).await,
        POST ["api", "v1", "orders"] => place(shop, call).await,
        GET ["api", "v1", "orders", id] => detail(&shop, call, id).await,
        POST ["api", "v1", "orders", id, "cancel"] => cancel(shop, call, id).await,
    })
}

fn operations(shop: &Shop) -> Result<Entities<Operation>, ApiError> {
    Ok(shop.orders.get()?.operations().clone())
}

async fn place(shop: Arc<Shop>, mut call: Call) -> Result<Response, ApiError> {
    let user = call.user()?;
    let key = IdempotencyKey::required(call.request.headers())?;
    let body = call.request.json_bytes(JSON_BYTES_MAX).await?;
    let requested = order_request::read(&body)?;
    let keyed = Keyed::new(&shop, user.user_id.as_str(), &call.request, ROUTE, &key, &body)?;
    let ids = vec![OrderId::generate().to_string(), ReservationId::generate().to_string()];
    let cap = unpaid_cap(call.profile).filter(|_| !user.works_here());
    let (request_id, context) = (call.request.request_id().clone(), call.context);
    let work = {
        let (shop, context) = (Arc::clone(&shop), context.clone());
        move |attempt| async move { placed(&shop, &requested, user.user_id, cap, &attempt, &context).await }
    };
    idempotent::once(shop, operations, keyed, ids, request_id, context, work).await
}

async fn placed(
    shop: &Shop,
    request: &OrderRequest,
    user_id: UserId,
    cap: Option<Cap>,
    attempt: &Attempt,
    context: &RequestContext,
) -> Result<Answer, ApiError> {
    let ids = NewOrderIds { order_id: attempt.id(0)?, reservation_id: attempt.id(1)?, user_id };
    let orders = shop.orders.get()?;
    // What an earlier attempt submitted stands, at the prices of then.
    let submitted = if attempt.is_resumed { submitted(shop, &ids.order_id, context).await? } else { None };
    let draft = match submitted {
        Some(draft) => draft,
        None => {
            if let Some(cap) = cap {
                orders.admit(&ids.user_id, request.units(), cap, context).await?;
            }
            pricing::price(request, &neighbours::quote(shop, request.to_quote(), context).await?, ids)?
        }
    };
    let lines = draft.lines.clone();
    let order = match orders.place(draft, context).await {
        Err(OrderError::OutOfStock(short)) => return Err(out_of_stock(request, &lines, &short)),
        placed => placed?,
    };
    let location = format!("{ROUTE}/{}", order.draft.order_id);
    Ok(Answer::json(StatusCode::CREATED, &order_json::as_created(&order)?)?.at(location, 1))
}

async fn submitted(shop: &Shop, order_id: &OrderId, context: &RequestContext) -> Result<Option<Draft>, ApiError> {
    let orders = shop.orders.get()?;
    let draft = orders
        .entities()
        .read(order_id.as_str(), context.deadline, |order, _| order.as_ref().map(|order| order.draft.clone()));
    draft.await.map_err(of_ask)
}

async fn list(shop: &Shop, mut call: Call) -> Result<Response, ApiError> {
    let user = call.user()?;
    let query = call.request.query()?;
    let limit = query.integer("limit", 1..=LIMIT_MAX, LIMIT_DEFAULT)?;
    let statuses: Vec<(&str, Option<OrderStatus>)> =
        STATUSES.into_iter().map(|status| (status.name(), Some(status))).collect();
    let status = query.one_of("status", &statuses, None)?;
    let of_whom = match query.text("user_id", 100)? {
        Some(text) => UserId::parse(text).map_err(|error| ApiError::bad_parameter("user_id", error))?,
        None => user.user_id.clone(),
    };
    if of_whom != user.user_id {
        require_role(Some(user), &[Role::Support])?;
    }
    let filters = [of_whom.as_str(), status.map_or("", OrderStatus::name)];
    let after = match query.text("cursor", cursor::CURSOR_LEN_MAX)? {
        Some(text) => {
            let bad = || ApiError::bad_parameter("cursor", "must be the next_cursor of this list");
            Some(cursor::decode(text, &filters).ok_or_else(bad)?)
        }
        None => None,
    };
    let page = shop.orders.get()?.list(Some(&of_whom), status, after, limit).await?;
    let orders: Vec<Object> = page.orders.iter().map(order_json::as_it_stands).collect::<Result<_, _>>()?;
    let next_cursor = page.next.as_ref().map(|last| cursor::encode(last, &filters));
    let pagination = Object::new()
        .field("limit", &limit)
        .field("has_more", &next_cursor.is_some())
        .field("next_cursor", &next_cursor);
    let response = reply::ok(&Object::new().field("orders", &orders).field("pagination", &pagination))?;
    Ok(match next_cursor {
        Some(next) => reply::with_header(response, LINK, &link(&filters, &of_whom, limit, &next)),
        None => response,
    })
}

fn link(filters: &[&str; 2], of_whom: &UserId, limit: u32, next: &str) -> String {
    let status = if filters[1].is_empty() { String::new() } else { format!("&status={}", filters[1]) };
    format!("<{ROUTE}?user_id={of_whom}&limit={limit}{status}&cursor={next}>; rel=\"next\"")
}

async fn detail(shop: &Shop, mut call: Call, id: &str) -> Result<Response, ApiError> {
    let user = call.user()?;
    let order = seen_by(shop, &user, id, &call.context).await?;
    let response = reply::ok(&order_json::as_it_stands(&order)?)?;
    Ok(conditional::tagged(call.request.headers(), &format!("\"{}\"", order.revision), response))
}

/// An order, if it is the asker's or the asker may see all.
///
/// # Errors
/// 404 also for another's order.
async fn seen_by(shop: &Shop, user: &Principal, id: &str, context: &RequestContext) -> Result<Order, ApiError> {
    let order_id = OrderId::parse(id).map_err(|_| ApiError::not_found("order"))?;
    let order = shop.orders.get()?.order(&order_id, context).await?;
    let may_see = order.draft.user_id == user.user_id || is_staff(user);
    if may_see { Ok(order) } else { Err(ApiError::not_found("order")) }
}

async fn cancel(shop: Arc<Shop>, mut call: Call, id: &str) -> Result<Response, ApiError> {
    let user = call.user()?;
    let key = IdempotencyKey::required(call.request.headers())?;
    let body = call.request.optional_json_bytes(JSON_BYTES_MAX).await?;
    let said = fields::read(&body, |form| form.optional_text("reason", 0..=REASON_MAX))?;
    let keyed = Keyed::new(&shop, user.user_id.as_str(), &call.request, CANCEL, &key, &body)?;
    if idempotent::is_new(&shop, operations, &keyed, &call.context).await? {
        let order = seen_by(&shop, &user, id, &call.context).await?;
        if !order.can_be_cancelled() {
            return Err(cannot_cancel(order.status.name()));
        }
    }
    let ids = vec![RefundId::generate().to_string()];
    let (request_id, context, id) = (call.request.request_id().clone(), call.context, id.to_owned());
    let work = {
        let (shop, context) = (Arc::clone(&shop), context.clone());
        move |attempt: Attempt| async move {
            let order = seen_by(&shop, &user, &id, &context).await?;
            tracing::info!(order_id = %order.draft.order_id, user_id = %user.user_id, said, "cancellation asked for");
            let reason = if order.draft.user_id == user.user_id { "customer" } else { "admin" };
            cancelled(&shop, &order.draft.order_id, reason, attempt.id(0)?, &context).await
        }
    };
    idempotent::once(shop, operations, keyed, ids, request_id, context, work).await
}

async fn cancelled(
    shop: &Shop,
    order_id: &OrderId,
    reason: &str,
    refund_id: RefundId,
    context: &RequestContext,
) -> Result<Answer, ApiError> {
    let command_id = CommandId::of(&["cancel", refund_id.as_str()]);
    let cancelled = shop.orders.get()?.cancel(order_id, reason, refund_id, command_id, context).await;
    let order = cancelled.map_err(|error| match error {
        OrderError::InvalidTransition { from } => cannot_cancel(&from),
        error => error.into(),
    })?;
    let is_done = order.status == OrderStatus::Cancelled;
    let status = if is_done { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok(Answer::json(status, &order_json::as_it_stands(&order)?)?.tagged(order.revision))
}

fn cannot_cancel(from: &str) -> ApiError {
    ApiError::invalid_state_transition(from, "cancel this order")
}
