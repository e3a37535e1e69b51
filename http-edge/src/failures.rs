//! What the services' errors are to a client: one table. The services know nothing of HTTP.

use order_service::{OrderError, TooMuchUnpaid};
use payment_service::PaymentError;
use product_service::{ProductError, QuoteError};
use runtime::{AskError, Down};
use user_service::UserError;

use crate::error::{ApiError, Code, Invalid, RETRY_AFTER_SECONDS_DEFAULT};

/// 503: too much is in flight, or it does not answer; `cause` is for the log.
fn not_now(cause: impl std::fmt::Display) -> ApiError {
    ApiError::unavailable(RETRY_AFTER_SECONDS_DEFAULT).because(cause)
}

/// 503: there is no room.
fn full(cause: impl std::fmt::Display) -> ApiError {
    ApiError::full(RETRY_AFTER_SECONDS_DEFAULT).because(cause)
}

impl From<Down> for ApiError {
    fn from(down: Down) -> Self {
        not_now(down)
    }
}

/// What an entity that was asked directly did not answer. Refusals have meanings of their own: whoever asks handles them.
pub(crate) fn of_ask<R: std::fmt::Debug>(error: AskError<R>) -> ApiError {
    match error {
        AskError::Refused(refusal) => ApiError::internal(format_args!("an unexpected refusal: {refusal:?}")),
        AskError::Full => full(error_text(&error)),
        AskError::Busy | AskError::Parked { .. } | AskError::DeadlineExceeded | AskError::Unavailable => {
            not_now(error_text(&error))
        }
    }
}

fn error_text<R>(error: &AskError<R>) -> &'static str {
    match error {
        AskError::Refused(_) => "refused",
        AskError::Busy => "too many commands are in flight",
        AskError::Parked { .. } => "the entity falls again and again and is left alone for a while",
        AskError::Full => "there is no room on the disk",
        AskError::DeadlineExceeded => "no answer within the deadline",
        AskError::Unavailable => "unavailable",
    }
}

impl From<UserError> for ApiError {
    fn from(error: UserError) -> Self {
        match error {
            UserError::EmailTaken => {
                ApiError::conflict("This e-mail address is already registered").about("email", "is already registered")
            }
            UserError::InvalidCredentials => ApiError::invalid_credentials(),
            UserError::RefreshReused { .. } => ApiError::refresh_token_reused(),
            UserError::SessionExpired => {
                ApiError::new(Code::AuthenticationRequired, "The session has ended; sign in again")
            }
            UserError::NotFound => ApiError::not_found("user"),
            UserError::Invalid(errors) => {
                ApiError::invalid(invalid(errors.into_iter().map(|error| (error.field, error.reason))))
            }
            UserError::Precondition { current_version } => ApiError::precondition_failed(current_version),
            UserError::LastAdministrator => {
                ApiError::conflict("The last administrator cannot be removed").about("user_id", error)
            }
            UserError::TooManyAdministrators => {
                ApiError::conflict("There are too many administrators").about("roles", error)
            }
            UserError::NotAnAdministrator => {
                ApiError::conflict("This user is no administrator").about("user_id", error)
            }
            UserError::InProgress => ApiError::conflict("What this user may do is being changed")
                .about("user_id", error)
                .retry_after(RETRY_AFTER_SECONDS_DEFAULT),
            UserError::Full => full(error),
            UserError::Busy | UserError::Unavailable => not_now(error),
        }
    }
}

impl From<ProductError> for ApiError {
    fn from(error: ProductError) -> Self {
        match error {
            ProductError::NotFound => ApiError::not_found("product"),
            ProductError::Invalid(errors) => {
                ApiError::invalid(invalid(errors.into_iter().map(|error| (error.field, error.reason))))
            }
            ProductError::SkuTaken { sku } => {
                ApiError::conflict("This SKU belongs to another product").about("sku", format_args!("{sku} is taken"))
            }
            ProductError::InsufficientStock { available } => {
                ApiError::new(Code::InsufficientStock, "Fewer are available than are to be taken away")
                    .about("delta", format_args!("available {available}"))
                    .with("available", &available)
            }
            ProductError::OnHandDiffers { on_hand } => ApiError::conflict("There are not as many on hand as expected")
                .about("expected_on_hand", format_args!("{on_hand} are on hand"))
                .with("on_hand", &on_hand),
            ProductError::Precondition { current_version } => ApiError::precondition_failed(current_version),
            ProductError::Full => full(error),
            ProductError::Busy | ProductError::Unavailable => not_now(error),
        }
    }
}

impl From<QuoteError> for ApiError {
    fn from(error: QuoteError) -> Self {
        match error {
            QuoteError::UnknownItems { lines } => {
                let fields = lines.into_iter().map(|line| (format!("items[{line}]"), "names no product of this shop"));
                ApiError::invalid(invalid(fields))
            }
            QuoteError::Unavailable => not_now(error),
        }
    }
}

impl From<OrderError> for ApiError {
    fn from(error: OrderError) -> Self {
        match error {
            OrderError::OutOfStock(shortfalls) => {
                let skus: Vec<String> = shortfalls.iter().map(|shortfall| shortfall.sku.to_string()).collect();
                ApiError::insufficient_stock("items", "not enough is available", &skus)
            }
            OrderError::TooMuchUnpaid(TooMuchUnpaid {
                orders,
                units,
                wanted,
                orders_max,
                units_max,
                retry_after_seconds,
            }) => {
                let reason = if orders >= orders_max {
                    format!("{orders} orders are unpaid, and {orders_max} may be: pay or cancel one first")
                } else {
                    format!(
                        "{units} units are unpaid and {wanted} more are wanted, and {units_max} may be unpaid in all"
                    )
                };
                // For now only: it is not kept under the request's key.
                ApiError::conflict("Too much is ordered and not paid for")
                    .about("items", reason)
                    .with("unpaid_orders", &orders)
                    .with("unpaid_orders_max", &orders_max)
                    .with("unpaid_units", &units)
                    .with("unpaid_units_max", &units_max)
                    .retry_after(retry_after_seconds)
            }
            OrderError::NotPlaced => ApiError::reservation_expired(),
            OrderError::NotFound => ApiError::not_found("order"),
            OrderError::InvalidTransition { from } => ApiError::invalid_state_transition(&from, "change the order"),
            OrderError::DoesNotAddUp => ApiError::internal(error),
            OrderError::Full => full(error),
            OrderError::Busy | OrderError::Unavailable => not_now(error),
        }
    }
}

impl From<PaymentError> for ApiError {
    fn from(error: PaymentError) -> Self {
        match error {
            PaymentError::NotFound => ApiError::not_found("payment"),
            PaymentError::InProgress { .. } | PaymentError::StillProcessing { .. } => ApiError::payment_in_progress(),
            PaymentError::AlreadyPaid { payment_id } => already_paid().with("payment_id", &payment_id),
            PaymentError::TooManyAttempts => refused_by_order("too_many_attempts"),
            PaymentError::ReservationExpired => ApiError::reservation_expired(),
            PaymentError::InvalidTransition { from } => ApiError::invalid_state_transition(&from, "change the payment"),
            PaymentError::Full => full(error),
            PaymentError::Busy | PaymentError::Unavailable => not_now(error),
        }
    }
}

/// 409: there is nothing left to pay.
pub(crate) fn already_paid() -> ApiError {
    ApiError::conflict("This order is already paid").about("order_id", "is already paid")
}

/// Why an order did not take a payment, by the word that the order says.
pub(crate) fn refused_by_order(reason: &str) -> ApiError {
    match reason {
        "reservation_expired" => ApiError::reservation_expired(),
        "already_paid" => already_paid(),
        "payment_in_progress" => ApiError::payment_in_progress(),
        "amount_mismatch" => ApiError::invalid_field("amount", "must be the total of the order"),
        "order_not_found" => ApiError::not_found("order"),
        "order_cancelled" => ApiError::invalid_state_transition("cancelled", "pay for this order"),
        "too_many_attempts" => ApiError::conflict("Too many payments of this order have failed")
            .about("order_id", "has had too many failed payments"),
        other => ApiError::conflict("The order does not take this payment").because(other),
    }
}

fn invalid(errors: impl Iterator<Item = (impl Into<String>, impl std::fmt::Display)>) -> Invalid {
    let mut invalid = Invalid::default();
    for (field, reason) in errors {
        invalid.add(field, reason);
    }
    invalid
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_503_and_says_when_to_come_back() {
        let errors: [ApiError; 9] = [
            Down.into(),
            UserError::Busy.into(),
            ProductError::Unavailable.into(),
            QuoteError::Unavailable.into(),
            OrderError::Busy.into(),
            PaymentError::Unavailable.into(),
            of_ask(AskError::<()>::Busy),
            of_ask(AskError::<()>::DeadlineExceeded),
            of_ask(AskError::<()>::Parked { retry_after: std::time::Duration::from_secs(30) }),
        ];
        for error in errors {
            assert_eq!((error.status().as_u16(), error.is_for_now()), (503, true), "{error:?}");
        }
    }

    #[test]
    fn without_room_it_is_503_and_says_so() {
        let errors: [ApiError; 5] = [
            UserError::Full.into(),
            ProductError::Full.into(),
            OrderError::Full.into(),
            PaymentError::Full.into(),
            of_ask(AskError::<()>::Full),
        ];
        for error in errors {
            assert_eq!((error.status().as_u16(), error.is_for_now()), (503, true), "{error:?}");
            let json = error.to_json(&crate::correlation::CorrelationId::generate());
            assert!(json.contains(r#""reason":"full""#) && json.contains("disk is full"), "{json}");
        }
    }

    #[test]
    fn what_an_order_says_to_a_payment_has_a_code() {
        let table = [
            ("reservation_expired", Code::ReservationExpired),
            ("already_paid", Code::ResourceConflict),
            ("payment_in_progress", Code::PaymentInProgress),
            ("amount_mismatch", Code::InvalidFields),
            ("order_not_found", Code::ResourceNotFound),
            ("order_cancelled", Code::InvalidStateTransition),
            ("too_many_attempts", Code::ResourceConflict),
            ("something_new", Code::ResourceConflict),
        ];
        for (reason, code) in table {
            assert_eq!(refused_by_order(reason).code(), code, "{reason}");
        }
    }

    #[test]
    fn every_line_without_a_product_is_named() {
        let error: ApiError = QuoteError::UnknownItems { lines: vec![0, 2] }.into();
        let json = error.to_json(&crate::correlation::CorrelationId::generate());
        assert_eq!(error.status().as_u16(), 422);
        assert!(json.contains(r#""field":"items[0]""#) && json.contains(r#""field":"items[2]""#), "{json}");
    }
}
