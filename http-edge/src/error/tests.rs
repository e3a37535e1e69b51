//! The wire shape of refusals.

use super::*;
use contracts::{Currency, Money};
use http_body_util::BodyExt;
use serde_json::{Value, json};

async fn wire(error: ApiError) -> (Response, String) {
    let request_id = CorrelationId::parse("req_test").unwrap();
    let (parts, body) = error.into_response(&request_id).into_parts();
    let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    (Response::from_parts(parts, String::new().into()), text)
}

#[tokio::test]
async fn the_shape_is_the_frozen_one() {
    let mut invalid = Invalid::default();
    invalid.add("email", "Invalid email format");
    invalid.add("items[0].quantity", "must be ≥ 1");
    let (response, text) = wire(invalid.finish().unwrap_err()).await;
    assert_eq!(response.status(), 422);
    assert_eq!(response.headers()["content-type"], "application/json");
    let body: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        body,
        json!({"error": {
            "code": "VALIDATION_ERROR",
            "message": "The request has invalid fields",
            "details": {
                "field": "email",
                "reason": "Invalid email format",
                "errors": [
                    {"field": "email", "reason": "Invalid email format"},
                    {"field": "items[0].quantity", "reason": "must be ≥ 1"},
                ],
            },
            "request_id": "req_test",
        }})
    );
}

#[tokio::test]
async fn details_are_an_object_even_when_empty() {
    let (response, text) = wire(ApiError::unknown_route()).await;
    assert_eq!(response.status(), 404);
    assert_eq!(
        text,
        r#"{"error":{"code":"RESOURCE_NOT_FOUND","message":"The requested endpoint does not exist","details":{},"request_id":"req_test"}}"#
    );
}

#[tokio::test]
async fn causes_are_never_sent() {
    let (response, text) = wire(ApiError::internal("password=hunter2 at /srv/db")).await;
    assert_eq!(response.status(), 500);
    assert!(!text.contains("hunter2") && !text.contains("/srv"), "{text}");
    let (_, text) = wire(ApiError::unavailable(3).because("connection refused")).await;
    assert!(!text.contains("refused"), "{text}");
}

#[tokio::test]
async fn headers_follow_the_code() {
    let header =
        |response: &Response, name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    for error in [
        ApiError::authentication_required(),
        ApiError::invalid_credentials(),
        ApiError::token_expired(),
        ApiError::refresh_token_reused(),
    ] {
        let (response, _) = wire(error).await;
        assert_eq!(response.status(), 401);
        assert_eq!(header(&response, "www-authenticate").as_deref(), Some("Bearer"));
    }
    let (response, _) = wire(ApiError::method_not_allowed(&["GET", "POST"])).await;
    assert_eq!((response.status().as_u16(), header(&response, "allow").as_deref()), (405, Some("GET, POST")));
    let (response, _) = wire(ApiError::rate_limit_exceeded(17)).await;
    assert_eq!((response.status().as_u16(), header(&response, "retry-after").as_deref()), (429, Some("17")));
    let (response, _) = wire(ApiError::unavailable(2).retry_after(5)).await;
    assert_eq!((response.status().as_u16(), header(&response, "retry-after").as_deref()), (503, Some("5")));
    let (response, _) = wire(ApiError::authorization_failed()).await;
    assert_eq!((response.status().as_u16(), header(&response, "www-authenticate")), (403, None));
}

#[tokio::test]
async fn money_in_details_keeps_its_scale() {
    let total = Money::from_minor(1000, Currency::USD).unwrap().to_decimal();
    let (_, text) = wire(ApiError::price_changed(total)).await;
    assert!(text.contains(r#""total":10.00,"total_minor":1000,"currency":"USD""#), "{text}");
}

#[test]
fn the_error_list_is_bounded() {
    let mut invalid = Invalid::default();
    for index in 0..10 * FIELD_ERRORS_MAX {
        invalid.add(format!("items[{index}]"), "is bad");
    }
    assert_eq!(invalid.errors.len(), FIELD_ERRORS_MAX);
}
