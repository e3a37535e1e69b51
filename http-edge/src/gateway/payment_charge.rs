//! Asking for a payment until it is known what came of it.

use contracts::{OrderId, PaymentId};
use payment_service::{NewPayment, Payment, PaymentError, PaymentStatus};
use runtime::RequestContext;
use sha2::{Digest, Sha256};

use super::payment_json;
use crate::error::ApiError;
use crate::failures::{already_paid, of_ask};
use crate::json::Object;
use crate::shop::Shop;

/// How many ids one request may go through; see [`charged`]. As many as an order takes payments.
const IDS_MAX: usize = 5;

/// What asking for a payment came to.
pub(super) enum Charged {
    Decided(Box<Payment>),
    Undecided(Object),
}

/// Asks for the payment. An id that was refused because another payment was on its way is refused for ever; when that one
/// has come to nothing, the request goes on under the id that follows from both. The same request always goes the same
/// way, so it charges once however often it is repeated.
pub(super) async fn charged(shop: &Shop, mut new: NewPayment, context: &RequestContext) -> Result<Charged, ApiError> {
    for _ in 0..IDS_MAX {
        match shop.payments.get()?.pay(new.clone(), context).await {
            Ok(payment) => return Ok(Charged::Decided(Box::new(payment))),
            Err(PaymentError::StillProcessing { payment_id }) => return undecided(shop, &payment_id).await,
            Err(PaymentError::InProgress { payment_id: other }) if other != new.payment_id => {
                match status_of(shop, &new.order_id, &other, context).await? {
                    Some(PaymentStatus::Failed | PaymentStatus::Voided) => {
                        new.payment_id = follower(&new.payment_id, &other)
                    }
                    Some(status) if !status.is_open() => return Err(already_paid().with("payment_id", &other)),
                    _ => return Err(ApiError::payment_in_progress()),
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(ApiError::payment_in_progress())
}

async fn status_of(
    shop: &Shop,
    order_id: &OrderId,
    payment_id: &PaymentId,
    context: &RequestContext,
) -> Result<Option<PaymentStatus>, ApiError> {
    let (payments, payment_id) = (shop.payments.get()?, payment_id.clone());
    let status = payments.entities().read(order_id.as_str(), context.deadline, move |payments, _| {
        payments.get(&payment_id).map(|payment| payment.status)
    });
    status.await.map_err(of_ask)
}

/// The id that follows from a refused one and the one that was in its way: as old as the refused one.
fn follower(refused: &PaymentId, in_the_way: &PaymentId) -> PaymentId {
    let digest = Sha256::digest(format!("{refused} after {in_the_way}"));
    let mut low = [0; 16];
    low[6..].copy_from_slice(&digest[..10]);
    let time = refused.ulid_u128().unwrap_or(0) >> 80 << 80;
    PaymentId::from_ulid(time | u128::from_be_bytes(low))
}

/// Not decided in time, or decided while the service was started anew: what is written says.
async fn undecided(shop: &Shop, payment_id: &PaymentId) -> Result<Charged, ApiError> {
    match shop.payments.get()?.payment(payment_id).await {
        Ok(payment) if !matches!(payment.status, PaymentStatus::Created | PaymentStatus::Processing) => {
            Ok(Charged::Decided(Box::new(payment)))
        }
        Ok(payment) => Ok(Charged::Undecided(payment_json::processing(&payment)?)),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_that_follows_is_always_the_same_and_its_own() {
        let (refused, other) = (PaymentId::generate(), PaymentId::generate());
        let next = follower(&refused, &other);
        assert_eq!(next, follower(&refused, &other));
        assert_ne!(next, refused);
        assert_ne!(next, follower(&refused, &PaymentId::generate()));
        assert_ne!(next, follower(&PaymentId::generate(), &other));
        assert_eq!(next.ulid_u128().unwrap() >> 80, refused.ulid_u128().unwrap() >> 80, "sorted by its time");
    }
}
