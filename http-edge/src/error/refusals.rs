//! The constructors of [`ApiError`]: one per thing that can be said, with its words and its details.

use std::borrow::Cow;
use std::fmt;

use contracts::money::DecimalNumber;
use serde::Serialize;
use warp::http::HeaderValue;
use warp::http::header::ALLOW;

use super::{ApiError, Code, Invalid, RETRY_AFTER_SECONDS_DEFAULT};

/// 4xx about the request itself.
impl ApiError {
    /// 400: the body is not JSON, or not the JSON we read.
    #[must_use]
    pub fn malformed(reason: impl fmt::Display) -> Self {
        Self::new(Code::MalformedRequest, "The request could not be read").about("body", reason)
    }

    /// 400: a query parameter or a header breaks its rule.
    #[must_use]
    pub fn bad_parameter(name: &str, reason: impl fmt::Display) -> Self {
        Self::new(Code::MalformedRequest, "The request has an invalid parameter").about(name, reason)
    }

    /// 422: fields break their rules.
    #[must_use]
    pub fn invalid(invalid: Invalid) -> Self {
        let error = Self::new(Code::InvalidFields, "The request has invalid fields");
        match invalid.errors.first() {
            Some(first) => error.about(&first.field, &first.reason).with("errors", &invalid.errors),
            None => error,
        }
    }

    /// 422: one field breaks its rule.
    #[must_use]
    pub fn invalid_field(field: &str, reason: impl fmt::Display) -> Self {
        let mut invalid = Invalid::default();
        invalid.add(field, reason);
        Self::invalid(invalid)
    }

    /// 404: no such route.
    #[must_use]
    pub fn unknown_route() -> Self {
        Self::new(Code::ResourceNotFound, "The requested endpoint does not exist")
    }

    /// 404: no such thing, or not the asker's. `what` is a noun: `order`.
    #[must_use]
    pub fn not_found(what: &str) -> Self {
        Self::new(Code::ResourceNotFound, format!("The requested {what} does not exist"))
    }

    /// 405 with `Allow`.
    #[must_use]
    pub fn method_not_allowed(allowed: &[&str]) -> Self {
        let mut error =
            Self::new(Code::MethodNotAllowed, "The requested endpoint has no such method").with("allowed", &allowed);
        if let Ok(value) = HeaderValue::from_str(&allowed.join(", ")) {
            error.0.headers.push((ALLOW, value));
        }
        error
    }

    /// 413: the body is longer than `limit` bytes.
    #[must_use]
    pub fn payload_too_large(limit: usize) -> Self {
        Self::new(Code::PayloadTooLarge, "The request body is too large")
            .about("body", format_args!("must be at most {limit} bytes"))
    }

    /// 415: the body is not announced as JSON.
    #[must_use]
    pub fn unsupported_media_type() -> Self {
        Self::new(Code::UnsupportedMediaType, "The request body must be JSON")
            .about("Content-Type", "must be application/json")
    }

    /// 412: somebody changed the resource since the client read it.
    #[must_use]
    pub fn precondition_failed(current_version: u64) -> Self {
        Self::new(Code::PreconditionFailed, "The resource has changed since it was read")
            .about("If-Match", "does not match the current version")
            .with("current_version", &current_version)
    }

    /// 428: this write needs `If-Match`.
    #[must_use]
    pub fn precondition_required() -> Self {
        Self::new(Code::PreconditionRequired, "This write needs the version it is based on")
            .about("If-Match", "is required")
    }

    /// 429; the client may come back after `retry_after` seconds.
    #[must_use]
    pub fn rate_limit_exceeded(retry_after: u32) -> Self {
        Self::new(Code::RateLimitExceeded, "Too many requests").retry_after(retry_after)
    }
}

/// Who is asking.
impl ApiError {
    /// 401: no token, or not one of ours.
    #[must_use]
    pub fn authentication_required() -> Self {
        Self::new(Code::AuthenticationRequired, "A valid access token is required")
    }

    /// 401: e-mail and password do not belong together. The same whether the e-mail exists or not.
    #[must_use]
    pub fn invalid_credentials() -> Self {
        Self::new(Code::InvalidCredentials, "The e-mail or the password is wrong")
    }

    /// 401: the token was good once.
    #[must_use]
    pub fn token_expired() -> Self {
        Self::new(Code::TokenExpired, "The access token has expired")
    }

    /// 401: a spent refresh token came again; its whole family is revoked.
    #[must_use]
    pub fn refresh_token_reused() -> Self {
        Self::new(Code::RefreshTokenReused, "The refresh token was already used; sign in again")
    }

    /// 403: the role is missing. For things of other people use [`ApiError::not_found`].
    #[must_use]
    pub fn authorization_failed() -> Self {
        Self::new(Code::AuthorizationFailed, "Your role does not allow this")
    }
}

/// The shop says no.
impl ApiError {
    /// 402.
    #[must_use]
    pub fn payment_declined(decline_code: &str, payment_id: &str, retryable: bool) -> Self {
        Self::new(Code::PaymentDeclined, "The payment was declined")
            .about("payment_method", decline_code)
            .with("decline_code", &decline_code)
            .with("payment_id", &payment_id)
            .with("retryable", &retryable)
    }

    /// 409: clashes with what exists.
    #[must_use]
    pub fn conflict(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::ResourceConflict, message)
    }

    /// 409: fewer available than requested. `items` are the short lines:
    /// `[{"product_id","sku","requested","available"}]`.
    #[must_use]
    pub fn insufficient_stock(field: &str, reason: impl fmt::Display, items: &[impl Serialize]) -> Self {
        let message = match items.len() {
            1 => "1 item is not available in the requested quantity".to_owned(),
            count => format!("{count} items are not available in the requested quantity"),
        };
        Self::new(Code::InsufficientStock, message).about(field, reason).with("items", &items)
    }

    /// 409: the client expected another total; `total` is the present one.
    #[must_use]
    pub fn price_changed(total: DecimalNumber) -> Self {
        Self::new(Code::PriceChanged, "The total is not the expected one")
            .about("expected_total", format_args!("the total is {total}"))
            .with("total", &total)
            .with("total_minor", &total.money().minor())
            .with("currency", &total.money().currency())
    }

    /// 409: the stock is no longer held.
    #[must_use]
    pub fn reservation_expired() -> Self {
        Self::new(Code::ReservationExpired, "The reservation of this order has expired")
    }

    /// 409: the state machine has no such arrow.
    #[must_use]
    pub fn invalid_state_transition(from: &str, action: &str) -> Self {
        Self::new(Code::InvalidStateTransition, format!("Cannot {action}: the state is {from}"))
            .about("status", format_args!("is {from}"))
            .with("from", &from)
    }

    /// 409: the first request with this key still runs.
    #[must_use]
    pub fn idempotency_in_progress() -> Self {
        Self::new(Code::IdempotencyInProgress, "A request with this Idempotency-Key is running")
            .retry_after(RETRY_AFTER_SECONDS_DEFAULT)
    }

    /// 409: another payment of this order is under way.
    #[must_use]
    pub fn payment_in_progress() -> Self {
        Self::new(Code::PaymentInProgress, "Another payment of this order is in progress")
            .retry_after(RETRY_AFTER_SECONDS_DEFAULT)
    }

    /// 409.
    #[must_use]
    pub fn coupon_exhausted() -> Self {
        Self::new(Code::CouponExhausted, "The coupon has no uses left").about("coupon_code", "is used up")
    }

    /// 422: the key was used for another request.
    #[must_use]
    pub fn idempotency_key_reused() -> Self {
        Self::new(Code::IdempotencyKeyReused, "The Idempotency-Key belongs to another request")
            .about("Idempotency-Key", "was used with another payload")
    }
}

/// It is our fault.
impl ApiError {
    /// 500: `cause` goes to the log, a fixed sentence to the client.
    #[must_use]
    pub fn internal(cause: impl fmt::Display) -> Self {
        Self::new(Code::InternalError, "Something went wrong on our side").because(cause)
    }

    /// 503: there is no room on the disk: nothing was written, and what only reads goes on.
    #[must_use]
    pub fn full(retry_after: u32) -> Self {
        Self::new(Code::ServiceUnavailable, "The shop's disk is full: nothing was written; reading goes on")
            .with("reason", &"full")
            .retry_after(retry_after)
    }

    /// 503: overloaded, timed out or a dependency is down; try again after the given seconds with the
    /// same `Idempotency-Key`.
    #[must_use]
    pub fn unavailable(retry_after: u32) -> Self {
        Self::new(Code::ServiceUnavailable, "The service is not available right now; try again")
            .retry_after(retry_after)
    }
}
