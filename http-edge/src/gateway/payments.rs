//! Payments of orders.

use std::sync::Arc;
use std::time::Duration;

use contracts::{OrderId, PaymentId, RequestId, Timestamp};
use order_service::Order;
use payment_service::{CardError, FailedBy, NewPayment, Payment, PaymentError, PaymentStatus};
use runtime::operation::{LEASE_MS, Operation};
use runtime::{CommandId, Entities, RequestContext};
use tokio::time::Instant;
use warp::http::StatusCode;

use super::call::Call;
use super::call::is_staff;
use super::payment_charge::{Charged, charged};
use super::payment_form::{self, PaymentForm};
use super::payment_json;
use crate::auth::Principal;
use crate::body::JSON_BYTES_MAX;
use crate::error::ApiError;
use crate::failures::refused_by_order;
use crate::idempotency::IdempotencyKey;
use crate::idempotent::{self, Answer, Attempt, Keyed, STORE_PATIENCE};
use crate::json::Object;
use crate::neighbours;
use crate::peers::FORWARD_PATIENCE;
use crate::rate_limit::Purpose;
use crate::reply::{self, Response};
use crate::request::Request;
use crate::route;
use crate::shop::Shop;

const ROUTE: &str = "/api/v1/payments";
const CONFIRM: &str = "/api/v1/payments/{id}/confirm";

/// How long a payment may take until its buyer is told "processing": as long as a slow provider, for who hears that must ask
/// again.
const PAYMENT_PATIENCE: Duration = Duration::from_secs(10);
/// How long a decided payment waits for its order to say so too. It will; only the reader's next look is at stake.
const SETTLE_PATIENCE: Duration = Duration::from_secs(3);
const _: () = assert!(
    (PAYMENT_PATIENCE.as_millis() + SETTLE_PATIENCE.as_millis()) * 2 < LEASE_MS as u128,
    "a payment must not outlast the lease of its key"
);
const _: () = assert!(
    (PAYMENT_PATIENCE.as_millis() + SETTLE_PATIENCE.as_millis() + 2 * STORE_PATIENCE.as_millis())
        < FORWARD_PATIENCE.as_millis(),
    "whoever passed it on must still be there when its answer has been stored, or another's read"
);
pub(super) fn purpose(_: &Request) -> Purpose {
    Purpose::Api
}

pub(super) async fn answer(shop: Arc<Shop>, call: Call) -> Result<Response, ApiError> {
    route!(call.request, {
        GET ["api", "v1", "payments"] => list(&shop, call).await,
        POST ["api", "v1", "payments"] => pay(shop, call).await,
        GET ["api", "v1", "payments", id] => detail(&shop, call, id).await,
        POST ["api", "v1", "payments", id, "confirm"] => confirm(shop, call, id).await,
    })
}

fn operations(shop: &Shop) -> Result<Entities<Operation>, ApiError> {
    Ok(shop.payments.get()?.operations().clone())
}

async fn pay(shop: Arc<Shop>, mut call: Call) -> Result<Response, ApiError> {
    let user = call.user()?;
    let key = IdempotencyKey::optional(call.request.headers())?;
    let body = call.request.json_bytes(JSON_BYTES_MAX).await?;
    let form = payment_form::read(&body)?;
    let ids = vec![PaymentId::generate().to_string()];
    let (request_id, context) = (call.request.request_id().clone(), patient(call.context));
    let Some(key) = key else {
        // Without a key the payment service itself sees to it that an order is paid once.
        let attempt = Attempt { ids, is_resumed: false };
        payable(&shop, &user, &form, &context).await?;
        return Ok(paid(&shop, &user, form, &attempt, &context).await?.into_response());
    };
    let keyed = Keyed::new(&shop, user.user_id.as_str(), &call.request, ROUTE, &key, &body)?;
    // What an order does not take is refused before anything is written down, however often it is asked.
    let is_checked = idempotent::is_new(&shop, operations, &keyed, &context).await?;
    if is_checked {
        payable(&shop, &user, &form, &context).await?;
    }
    let work = {
        let (shop, context) = (Arc::clone(&shop), context.clone());
        move |attempt: Attempt| async move {
            // An earlier attempt may have paid this very order: then the services know what to say, and say it again.
            match attempt.is_resumed {
                false if !is_checked => payable(&shop, &user, &form, &context).await?,
                true => own_order(&shop, &user, &form.order_id, &context).await.map(|_| ())?,
                false => {}
            }
            paid(&shop, &user, form, &attempt, &context).await
        }
    };
    idempotent::once(shop, operations, keyed, ids, request_id, context, work).await
}

fn patient(context: RequestContext) -> RequestContext {
    RequestContext { deadline: Instant::now() + PAYMENT_PATIENCE, ..context }
}

async fn paid(
    shop: &Shop,
    user: &Principal,
    form: PaymentForm,
    attempt: &Attempt,
    context: &RequestContext,
) -> Result<Answer, ApiError> {
    let payment_id: PaymentId = attempt.id(0)?;
    if !(attempt.is_resumed && is_written(shop, &payment_id).await?) {
        let now = Timestamp::from_millis(context.at_ms);
        let checked = shop.payments.get()?.check_card(&form.card, now);
        checked.map_err(|CardError(fault)| {
            ApiError::invalid_field(&format!("payment_method.{}", fault.field), fault.reason)
        })?;
    }
    let new = NewPayment {
        payment_id,
        order_id: form.order_id,
        user_id: user.user_id.clone(),
        amount: form.amount,
        card: form.card,
    };
    match charged(shop, new, context).await? {
        Charged::Decided(payment) => decided(shop, &payment, StatusCode::CREATED, context).await,
        Charged::Undecided(body) => Answer::json(StatusCode::ACCEPTED, &body),
    }
}

async fn is_written(shop: &Shop, payment_id: &PaymentId) -> Result<bool, ApiError> {
    match shop.payments.get()?.payment(payment_id).await {
        Ok(_) => Ok(true),
        Err(PaymentError::NotFound) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The buyer's own order.
///
/// # Errors
/// 404 also for another's order.
async fn own_order(
    shop: &Shop,
    user: &Principal,
    order_id: &OrderId,
    context: &RequestContext,
) -> Result<Order, ApiError> {
    let order = neighbours::order(shop, order_id, context).await?;
    if order.draft.user_id == user.user_id { Ok(order) } else { Err(ApiError::not_found("order")) }
}

/// That it is the buyer's own order, takes a payment now, and takes this amount.
///
/// # Errors
/// What the order would say to such a payment.
async fn payable(shop: &Shop, user: &Principal, form: &PaymentForm, context: &RequestContext) -> Result<(), ApiError> {
    let order = own_order(shop, user, &form.order_id, context).await?;
    match order.refusal_of_amount(form.amount, Timestamp::from_millis(context.at_ms)) {
        Some(reason) => Err(refused_by_order(reason)),
        None => Ok(()),
    }
}

/// The answer of a payment that is decided, once its order says the same.
async fn decided(
    shop: &Shop,
    payment: &Payment,
    success: StatusCode,
    context: &RequestContext,
) -> Result<Answer, ApiError> {
    settle(shop, payment, context).await;
    match (payment.status, &payment.failure) {
        (PaymentStatus::Failed, Some(failure)) if failure.by == FailedBy::Order => Err(refused_by_order(&failure.code)),
        (PaymentStatus::Voided, failure) => {
            let reason = failure.as_ref().map_or("voided", |failure| failure.code.as_str());
            let voided = ApiError::conflict("This payment was voided before anything was charged");
            Err(voided.with("payment_id", &payment.payment_id).with("void_reason", &reason))
        }
        (PaymentStatus::Failed, failure) => {
            let (code, is_retryable) =
                failure.as_ref().map_or(("declined", false), |failure| (&failure.code, failure.is_retryable));
            Err(ApiError::payment_declined(code, payment.payment_id.as_str(), is_retryable))
        }
        _ => Answer::json(success, &payment_json::payment(payment)?),
    }
}

/// So that the order reads as its payment does. If it takes too long, it will a little later.
async fn settle(shop: &Shop, payment: &Payment, context: &RequestContext) {
    let context = RequestContext { deadline: Instant::now() + SETTLE_PATIENCE, ..context.clone() };
    let is_action_required = payment.status == PaymentStatus::RequiresAction;
    let settled = neighbours::settled(shop, &payment.order_id, &payment.payment_id, is_action_required, &context).await;
    if let Err(error) = settled {
        tracing::warn!(order_id = %payment.order_id, ?error, "the order has not taken account of its payment yet");
    }
}

async fn detail(shop: &Shop, mut call: Call, id: &str) -> Result<Response, ApiError> {
    let user = call.user()?;
    reply::ok(&payment_json::payment(&seen_by(shop, &user, id).await?)?)
}

/// A payment, if it is the asker's or the asker may see all.
///
/// # Errors
/// 404 also for another's payment.
async fn seen_by(shop: &Shop, user: &Principal, id: &str) -> Result<Payment, ApiError> {
    let payment_id = PaymentId::parse(id).map_err(|_| ApiError::not_found("payment"))?;
    let payment = shop.payments.get()?.payment(&payment_id).await?;
    let may_see = payment.user_id == user.user_id || is_staff(user);
    if may_see { Ok(payment) } else { Err(ApiError::not_found("payment")) }
}

async fn list(shop: &Shop, mut call: Call) -> Result<Response, ApiError> {
    let user = call.user()?;
    let query = call.request.query()?;
    let missing = || ApiError::bad_parameter("order_id", "is required");
    let order_id = query.text("order_id", 100)?.ok_or_else(missing)?;
    let order_id = OrderId::parse(order_id).map_err(|error| ApiError::bad_parameter("order_id", error))?;
    if !is_staff(&user) {
        own_order(shop, &user, &order_id, &call.context).await?;
    }
    let payments = shop.payments.get()?.payments_of(&order_id).await?;
    let payments: Vec<Object> = payments.iter().map(payment_json::payment).collect::<Result<_, _>>()?;
    reply::ok(&Object::new().field("payments", &payments))
}

async fn confirm(shop: Arc<Shop>, mut call: Call, id: &str) -> Result<Response, ApiError> {
    let user = call.user()?;
    let key = IdempotencyKey::required(call.request.headers())?;
    let body = call.request.optional_json_bytes(JSON_BYTES_MAX).await?;
    let keyed = Keyed::new(&shop, user.user_id.as_str(), &call.request, CONFIRM, &key, &body)?;
    let ids = vec![RequestId::generate().to_string()];
    let (request_id, context, id) = (call.request.request_id().clone(), patient(call.context), id.to_owned());
    if idempotent::is_new(&shop, operations, &keyed, &context).await? {
        let payment = seen_by(&shop, &user, &id).await?;
        if payment.status != PaymentStatus::RequiresAction {
            return Err(cannot_confirm(payment.status.name()));
        }
    }
    let work = {
        let (shop, context) = (Arc::clone(&shop), context.clone());
        move |attempt: Attempt| async move {
            let payment = seen_by(&shop, &user, &id).await?;
            confirmed(&shop, &payment, &attempt.id(0)?, &context).await
        }
    };
    idempotent::once(shop, operations, keyed, ids, request_id, context, work).await
}

async fn confirmed(
    shop: &Shop,
    payment: &Payment,
    confirmation: &RequestId,
    context: &RequestContext,
) -> Result<Answer, ApiError> {
    let command_id = CommandId::of(&["confirm", confirmation.as_str()]);
    match shop.payments.get()?.confirm(&payment.payment_id, command_id, context).await {
        Ok(payment) => decided(shop, &payment, StatusCode::OK, context).await,
        Err(PaymentError::StillProcessing { .. }) => {
            Answer::json(StatusCode::ACCEPTED, &payment_json::processing(payment)?)
        }
        Err(PaymentError::InvalidTransition { from }) => Err(cannot_confirm(&from)),
        Err(error) => Err(error.into()),
    }
}

fn cannot_confirm(from: &str) -> ApiError {
    ApiError::invalid_state_transition(from, "confirm this payment")
}
