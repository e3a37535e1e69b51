//! The questions that the processes of one house ask each other: `POST /internal/v1/{question}` on a service's own port.
//!
//! Only who has the house's key gets here. A question that the asked service cannot answer does not exist (404).

use std::time::Duration;

use contracts::{OrderId, QuoteLine, Service};
use serde::de::DeserializeOwned;
use user_service::{OperatorWish, UserError};
use warp::http::header::CACHE_CONTROL;

use crate::body::{PRODUCT_JSON_BYTES_MAX, parse_json};
use crate::error::ApiError;
use crate::gateway::admin;
use crate::gateway::call::PATIENCE;
use crate::questions::{
    KILL, ORDER, PANIC, PanicQuestion, QUOTE, SETTLED, STATS, SettledQuestion, TRUST, TrustQuestion,
};
use crate::reply::{self, Response};
use crate::request::Request;
use crate::shop::Shop;
use crate::trust;

pub use crate::questions::{
    ACKNOWLEDGE_LOSS, DEAD_LETTERS, DeadLettersQuestion, OPERATOR, RECOVERY, REPLAY, ReplayQuestion,
};

/// The longest that a question may be given to be answered.
const WITHIN_MAX: Duration = Duration::from_secs(10);

/// Answers a question to `service`.
pub(crate) async fn answer(
    service: Service,
    shop: &Shop,
    question: &str,
    mut request: Request,
) -> Result<Response, ApiError> {
    let body = request.json_bytes(PRODUCT_JSON_BYTES_MAX).await?;
    match (service, question) {
        (Service::Product, QUOTE) => {
            let lines: Vec<QuoteLine> = about(&body)?;
            reply::ok(&shop.products.get()?.quote(&lines).await)
        }
        (Service::Order, ORDER) => {
            let order_id: OrderId = about(&body)?;
            reply::ok(&shop.orders.get()?.order(&order_id, &request.context(PATIENCE)).await)
        }
        (Service::Order, SETTLED) => {
            let SettledQuestion { order_id, payment_id, is_action_required, within_ms } = about(&body)?;
            let context = request.context(Duration::from_millis(within_ms).min(WITHIN_MAX));
            reply::ok(&shop.orders.get()?.settled(&order_id, &payment_id, is_action_required, &context).await)
        }
        (Service::User, OPERATOR) => {
            let wish: OperatorWish = about(&body)?;
            let done = shop.users.get()?.for_operator(wish, &request.context(WITHIN_MAX)).await;
            let answer = done.map(|(answer, ended)| {
                ended.iter().for_each(|session_id| shop.verifier.revoke_session(session_id));
                answer
            });
            // It may carry a password.
            let response = reply::ok(&answer.map_err(in_words))?;
            Ok(reply::with_header(response, CACHE_CONTROL, "no-store"))
        }
        (Service::User, TRUST) => {
            let TrustQuestion { since } = about(&body)?;
            reply::ok(&trust::said_here(shop, since).await?)
        }
        (_, STATS) => reply::ok(&admin::own_stats(shop, &[service]).await?),
        (_, DEAD_LETTERS) => {
            let DeadLettersQuestion { topic } = about(&body)?;
            reply::ok(&shop.bus.dead_letters(service, &topic).await)
        }
        (_, REPLAY) => {
            let ReplayQuestion { topic, number } = about(&body)?;
            reply::ok(&shop.bus.replay(service, &topic, number).await)
        }
        (_, ACKNOWLEDGE_LOSS) => reply::ok(&shop.bus.acknowledge_loss(service)),
        (_, RECOVERY) => reply::ok(&shop.bus.recovery().await),
        (_, KILL) => {
            let chaos = shop.chaos.as_deref().ok_or_else(ApiError::unknown_route)?;
            chaos.kill(service);
            reply::ok(&true)
        }
        (_, PANIC) => {
            let chaos = shop.chaos.as_deref().ok_or_else(ApiError::unknown_route)?;
            let PanicQuestion { kind, id } = about(&body)?;
            reply::ok(&chaos.panic_entity(&kind, &id))
        }
        _ => Err(ApiError::unknown_route()),
    }
}

/// Why the operator's wish was not carried out, in one sentence.
fn in_words(error: UserError) -> String {
    match error {
        UserError::Invalid(faults) => {
            faults.iter().map(|fault| format!("{}: {}", fault.field, fault.reason)).collect::<Vec<_>>().join("; ")
        }
        error => error.to_string(),
    }
}

fn about<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    parse_json(body)
}
