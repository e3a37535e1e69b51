//! What one service asks another while it answers a request: in the same process a call, apart a question over HTTP.
//!
//! Nothing here changes anything; what changes something between services goes through the bus.

use contracts::{OrderId, PaymentId, QuoteLine, QuotedLine, Service};
use order_service::{Order, OrderError};
use runtime::RequestContext;

use crate::error::ApiError;
use crate::questions::{ORDER, QUOTE, SETTLED, SettledQuestion};
use crate::shop::Shop;

/// The prices of lines; see [`product_service::ProductService::quote`].
///
/// # Errors
/// What the product service refuses; 503 when it does not answer.
pub(crate) async fn quote(
    shop: &Shop,
    lines: Vec<QuoteLine>,
    context: &RequestContext,
) -> Result<Vec<QuotedLine>, ApiError> {
    match shop.peer_for(Service::Product) {
        None => Ok(shop.products.get()?.quote(&lines).await?),
        Some(peers) => {
            let answer: Result<_, product_service::QuoteError> =
                peers.ask(Service::Product, QUOTE, &lines, context.deadline).await?;
            Ok(answer?)
        }
    }
}

/// An order as it stands; see [`order_service::OrderService::order`].
///
/// # Errors
/// 404 when there is none; 503 when the order service does not answer.
pub(crate) async fn order(shop: &Shop, order_id: &OrderId, context: &RequestContext) -> Result<Order, ApiError> {
    match shop.peer_for(Service::Order) {
        None => Ok(shop.orders.get()?.order(order_id, context).await?),
        Some(peers) => {
            let answer: Result<Order, OrderError> =
                peers.ask(Service::Order, ORDER, order_id, context.deadline).await?;
            Ok(answer?)
        }
    }
}

/// Waits until an order has taken account of a payment; see [`order_service::OrderService::settled`].
///
/// # Errors
/// 503 when that was not so within the deadline.
pub(crate) async fn settled(
    shop: &Shop,
    order_id: &OrderId,
    payment_id: &PaymentId,
    is_action_required: bool,
    context: &RequestContext,
) -> Result<Order, ApiError> {
    match shop.peer_for(Service::Order) {
        None => Ok(shop.orders.get()?.settled(order_id, payment_id, is_action_required, context).await?),
        Some(peers) => {
            let left = context.deadline.saturating_duration_since(tokio::time::Instant::now());
            let within_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
            let (order_id, payment_id) = (order_id.clone(), payment_id.clone());
            let question = SettledQuestion { order_id, payment_id, is_action_required, within_ms };
            let answer: Result<Order, OrderError> =
                peers.ask(Service::Order, SETTLED, &question, context.deadline).await?;
            Ok(answer?)
        }
    }
}
