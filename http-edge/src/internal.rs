//! The questions that the processes of one house ask each other: `POST /internal/v1/{question}` on a service's own port.
//!
//! Only who has the house's key gets here. A question that the asked service cannot answer does not exist (404).

use std::time::Duration;

use contracts::{OrderId, Service, SessionId, Timestamp};
use product_service::QuoteLine;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use user_service::{OperatorWish, UserError};
use warp::http::header::CACHE_CONTROL;

use crate::body::{PRODUCT_JSON_BYTES_MAX, parse_json};
use crate::error::ApiError;
use crate::gateway::PATIENCE;
use crate::gateway::admin;
use crate::neighbours::{ORDER, QUOTE, SETTLED, SettledQuestion};
use crate::reply::{self, Response};
use crate::request::Request;
use crate::shop::Shop;
use crate::trust;

/// What is asked of the user service: whose tokens count.
pub(crate) const TRUST: &str = "trust";
/// What is asked of any service: its part of the operator's sums.
pub(crate) const STATS: &str = "stats";
/// A drill: the service's tree falls.
pub(crate) const KILL: &str = "kill";
/// A drill: an entity panics.
pub(crate) const PANIC: &str = "panic";

/// An operator's question: what a service has set aside on the embedded bus.
pub const DEAD_LETTERS: &str = "dead-letters";
/// An operator's wish: that a service takes in again what it has set aside.
pub const REPLAY: &str = "replay";
/// An operator's wish about the administrators, of the user service: an [`OperatorWish`], answered by an
/// [`OperatorAnswer`](user_service::OperatorAnswer) or why not, in a sentence.
pub const OPERATOR: &str = "operator";

/// An operator's word: what the service's topics lost has been seen to.
pub const ACKNOWLEDGE_LOSS: &str = "acknowledge-loss";

/// An operator's question: what of this process's data does not fit together.
pub const RECOVERY: &str = "recovery";

/// The longest that a question may be given to be answered.
const WITHIN_MAX: Duration = Duration::from_secs(10);

/// The question behind [`TRUST`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TrustQuestion {
    /// Sessions revoked since then.
    pub(crate) since: Timestamp,
}

/// Whose tokens count, as the user service says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Trust {
    /// The public key that tokens are verified with.
    pub(crate) public_key: [u8; 32],
    /// Sessions whose tokens do not count any more.
    pub(crate) revoked: Vec<SessionId>,
    /// When that was so, by the user service's clock.
    pub(crate) as_of: Timestamp,
}

/// Of which topic.
#[derive(Debug, Serialize, Deserialize)]
pub struct DeadLettersQuestion {
    /// Its name, with `.dlq`.
    pub topic: String,
}

/// Which message.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReplayQuestion {
    /// The topic's name, with `.dlq`.
    pub topic: String,
    /// The message's number.
    pub number: u64,
}

/// Which entity is to panic.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PanicQuestion {
    pub(crate) kind: String,
    pub(crate) id: String,
}

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
