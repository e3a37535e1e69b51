//! Every refusal of the API: its status, its code and its one shape. The only file that knows the status of
//! an error; the words are in `refusals`.
//!
//! ```json
//! {"error":{"code":"…","message":"…","details":{"field":"…","reason":"…","errors":[…]},"request_id":"…"}}
//! ```
//!
//! What the client reads is written here for the client. Causes are for the log: they are kept beside the
//! error, logged with the request id when the response is made, and never sent.

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::value::{RawValue, to_raw_value};
use warp::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use warp::http::{HeaderName, HeaderValue, StatusCode};

use crate::correlation::CorrelationId;
use crate::response::{Response, json_bytes};

mod refusals;

/// What to tell a client to wait when a dependency is down and nobody knows better, in seconds.
pub const RETRY_AFTER_SECONDS_DEFAULT: u32 = 1;

/// Most entries of `details.errors`: enough to mend a form, too few to be an amplifier.
pub const FIELD_ERRORS_MAX: usize = 50;

/// Why a request was refused. The variants are the rows of the API's table of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each variant is the code of its row")]
pub enum Code {
    MalformedRequest,
    InvalidFields,
    AuthenticationRequired,
    InvalidCredentials,
    TokenExpired,
    RefreshTokenReused,
    PaymentDeclined,
    AuthorizationFailed,
    ResourceNotFound,
    MethodNotAllowed,
    ResourceConflict,
    InsufficientStock,
    PriceChanged,
    ReservationExpired,
    InvalidStateTransition,
    IdempotencyInProgress,
    PaymentInProgress,
    CouponExhausted,
    PreconditionFailed,
    PayloadTooLarge,
    UnsupportedMediaType,
    IdempotencyKeyReused,
    PreconditionRequired,
    RateLimitExceeded,
    InternalError,
    ServiceUnavailable,
}

impl Code {
    /// The table: status and the code on the wire.
    #[must_use]
    pub const fn row(self) -> (StatusCode, &'static str) {
        match self {
            Code::MalformedRequest => (StatusCode::BAD_REQUEST, "VALIDATION_ERROR"),
            Code::AuthenticationRequired => (StatusCode::UNAUTHORIZED, "AUTHENTICATION_REQUIRED"),
            Code::InvalidCredentials => (StatusCode::UNAUTHORIZED, "INVALID_CREDENTIALS"),
            Code::TokenExpired => (StatusCode::UNAUTHORIZED, "TOKEN_EXPIRED"),
            Code::RefreshTokenReused => (StatusCode::UNAUTHORIZED, "REFRESH_TOKEN_REUSED"),
            Code::PaymentDeclined => (StatusCode::PAYMENT_REQUIRED, "PAYMENT_DECLINED"),
            Code::AuthorizationFailed => (StatusCode::FORBIDDEN, "AUTHORIZATION_FAILED"),
            Code::ResourceNotFound => (StatusCode::NOT_FOUND, "RESOURCE_NOT_FOUND"),
            Code::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED"),
            Code::ResourceConflict => (StatusCode::CONFLICT, "RESOURCE_CONFLICT"),
            Code::InsufficientStock => (StatusCode::CONFLICT, "INSUFFICIENT_STOCK"),
            Code::PriceChanged => (StatusCode::CONFLICT, "PRICE_CHANGED"),
            Code::ReservationExpired => (StatusCode::CONFLICT, "RESERVATION_EXPIRED"),
            Code::InvalidStateTransition => (StatusCode::CONFLICT, "INVALID_STATE_TRANSITION"),
            Code::IdempotencyInProgress => (StatusCode::CONFLICT, "IDEMPOTENCY_IN_PROGRESS"),
            Code::PaymentInProgress => (StatusCode::CONFLICT, "PAYMENT_IN_PROGRESS"),
            Code::CouponExhausted => (StatusCode::CONFLICT, "COUPON_EXHAUSTED"),
            Code::PreconditionFailed => (StatusCode::PRECONDITION_FAILED, "PRECONDITION_FAILED"),
            Code::PayloadTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE"),
            Code::UnsupportedMediaType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE"),
            Code::InvalidFields => (StatusCode::UNPROCESSABLE_ENTITY, "VALIDATION_ERROR"),
            Code::IdempotencyKeyReused => (StatusCode::UNPROCESSABLE_ENTITY, "IDEMPOTENCY_KEY_REUSED"),
            Code::PreconditionRequired => (StatusCode::PRECONDITION_REQUIRED, "PRECONDITION_REQUIRED"),
            Code::RateLimitExceeded => (StatusCode::TOO_MANY_REQUESTS, "RATE_LIMIT_EXCEEDED"),
            Code::InternalError => (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR"),
            Code::ServiceUnavailable => (StatusCode::SERVICE_UNAVAILABLE, "SERVICE_UNAVAILABLE"),
        }
    }
}

/// One broken rule of one field: `{"field":"items[0].quantity","reason":"must be ≥ 1"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// Path of the field in the request.
    pub field: String,
    /// What the field must be.
    pub reason: String,
}

/// Collects broken field rules, so that a client learns all of them at once.
#[derive(Debug, Default)]
pub struct Invalid {
    errors: Vec<FieldError>,
}

impl Invalid {
    /// Notes a broken rule; beyond [`FIELD_ERRORS_MAX`] they are only counted as "invalid".
    pub fn add(&mut self, field: impl Into<String>, reason: impl fmt::Display) {
        if self.errors.len() < FIELD_ERRORS_MAX {
            self.errors.push(FieldError { field: field.into(), reason: reason.to_string() });
        }
    }

    /// Takes over the rules noted by `other`.
    pub fn append(&mut self, other: Invalid) {
        for error in other.errors {
            self.add(error.field, error.reason);
        }
    }

    /// Whether no rule was broken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }

    /// `Ok` when nothing was noted.
    ///
    /// # Errors
    /// 422 `VALIDATION_ERROR` with every noted rule.
    pub fn finish(self) -> Result<(), ApiError> {
        if self.is_empty() { Ok(()) } else { Err(ApiError::invalid(self)) }
    }
}

/// A refusal on its way to a client. Cheap to move; made with one of the constructors below, which are
/// the only ways to say each thing.
#[derive(Debug)]
pub struct ApiError(Box<Inner>);

#[derive(Debug)]
struct Inner {
    code: Code,
    message: Cow<'static, str>,
    /// In the order they are written; names do not repeat.
    details: Vec<(&'static str, Box<RawValue>)>,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// For the log only.
    cause: Option<String>,
}

impl ApiError {
    /// A refusal without details. Prefer the named constructors.
    #[must_use]
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        let headers = match code.row().0 {
            StatusCode::UNAUTHORIZED => {
                vec![(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))]
            }
            _ => Vec::new(),
        };
        let message = message.into();
        Self(Box::new(Inner { code, message, details: Vec::new(), headers, cause: None }))
    }

    /// Sets a field of `details`; they are written in the order of the calls. A value that has no JSON is
    /// left out.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: &impl Serialize) -> Self {
        match to_raw_value(value) {
            Ok(json) => {
                self.0.details.retain(|(present, _)| *present != name);
                self.0.details.push((name, json));
            }
            Err(error) => tracing::error!(name, %error, "error detail has no JSON"),
        }
        self
    }

    /// Sets `details.field` and `details.reason`.
    #[must_use]
    pub fn about(self, field: &str, reason: impl fmt::Display) -> Self {
        self.with("field", &field).with("reason", &reason.to_string())
    }

    /// Tells the client to wait this many whole seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.0.headers.retain(|(name, _)| name != RETRY_AFTER);
        self.0.headers.push((RETRY_AFTER, HeaderValue::from(seconds)));
        self
    }

    /// Keeps a cause for the log; it is never sent.
    #[must_use]
    pub fn because(mut self, cause: impl fmt::Display) -> Self {
        self.0.cause = Some(cause.to_string());
        self
    }

    /// The row of the table.
    #[must_use]
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.0.code.row().0
    }

    /// Logs the cause and writes the response.
    #[must_use]
    pub fn into_response(self, request_id: &CorrelationId) -> Response {
        let mut response = json_bytes(self.status(), self.to_json(request_id));
        response.headers_mut().extend(self.0.headers);
        response
    }

    /// Logs the cause and writes the body alone: for refusals that are stored before they are sent.
    #[must_use]
    pub fn to_json(&self, request_id: &CorrelationId) -> String {
        let (_, code) = self.0.code.row();
        self.log(code, request_id);
        let body = Body {
            error: BodyError {
                code,
                message: &self.0.message,
                details: Details(&self.0.details),
                request_id: request_id.as_str(),
            },
        };
        // Strings and already serialised JSON always serialise.
        serde_json::to_string(&body).unwrap_or_default()
    }

    /// Whether the client is told to come back: the refusal is for now only.
    #[must_use]
    pub fn is_for_now(&self) -> bool {
        self.0.headers.iter().any(|(name, _)| name == RETRY_AFTER)
    }

    /// Our faults loudly, the clients' quietly: they can send any number of those.
    fn log(&self, code: &str, request_id: &CorrelationId) {
        match (self.status(), self.0.cause.as_deref()) {
            (StatusCode::INTERNAL_SERVER_ERROR, cause) => {
                tracing::error!(%request_id, code, cause = cause.unwrap_or("unknown"), "request failed");
            }
            (StatusCode::SERVICE_UNAVAILABLE, Some(cause)) => {
                tracing::warn!(%request_id, code, cause, "request refused");
            }
            (_, Some(cause)) => tracing::debug!(%request_id, code, cause, "request refused"),
            (_, None) => {}
        }
    }
}

#[derive(Serialize)]
struct Body<'a> {
    error: BodyError<'a>,
}

#[derive(Serialize)]
struct BodyError<'a> {
    code: &'a str,
    message: &'a str,
    details: Details<'a>,
    request_id: &'a str,
}

struct Details<'a>(&'a [(&'static str, Box<RawValue>)]);

impl Serialize for Details<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests;
