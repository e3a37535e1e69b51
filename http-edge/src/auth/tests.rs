//! Tokens good and bad. The key pair is the first test vector of RFC 8032, section 7.1.

use super::*;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};
use warp::http::HeaderValue;

const SEED: [u8; 32] = [
    0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4, 0x44, 0x49, 0xc5,
    0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
];
const PUBLIC: [u8; 32] = [
    0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07, 0x3a, 0x0e, 0xe1, 0x72,
    0xf3, 0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a,
];

/// The fixed head of an Ed25519 private key in PKCS#8, version 1.
const PKCS8_HEAD: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

fn sign(claims: &Value) -> String {
    let der = [PKCS8_HEAD.as_slice(), SEED.as_slice()].concat();
    let header = Header::new(Algorithm::EdDSA);
    jsonwebtoken::encode(&header, claims, &EncodingKey::from_ed_der(&der)).unwrap()
}

fn claims() -> Value {
    let now = unix_now();
    json!({
        "sub": "usr_1", "roles": ["customer", "wizard"], "sid": "ses_1", "iss": ISSUER, "aud": AUDIENCE,
        "iat": now, "exp": now + 900, "jti": "t1",
    })
}

/// The claims with one changed, or removed by `null`.
fn claims_with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    match value {
        Value::Null => claims.as_object_mut().unwrap().remove(name).map(|_| ()),
        value => claims.as_object_mut().unwrap().insert(name.to_owned(), value).map(|_| ()),
    };
    claims
}

fn verifier() -> Verifier {
    Verifier::from_public_key(&PUBLIC)
}

#[test]
fn a_good_token_names_its_person_and_unknown_roles_grant_nothing() {
    let principal = verifier().verify(&sign(&claims())).unwrap();
    assert_eq!(principal.user_id.as_str(), "usr_1");
    assert_eq!(principal.session_id.as_str(), "ses_1");
    assert_eq!(principal.roles, [Role::Customer]);
}

#[test]
fn a_pem_key_is_the_same_key() {
    let pem = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----\n";
    assert!(Verifier::from_pem(pem.as_bytes()).unwrap().verify(&sign(&claims())).is_ok());
    assert!(Verifier::from_pem(b"nonsense").is_err());
}

#[test]
fn an_expired_token_is_told_apart() {
    let now = unix_now();
    let expired = sign(&claims_with("exp", json!(now - 60)));
    assert_eq!(verifier().verify(&expired), Err(TokenError::Expired));
    assert!(verifier().verify(&sign(&claims_with("exp", json!(now - 1)))).is_ok(), "within the leeway");
}

#[test]
fn a_remembered_token_expires_too() {
    let verifier = verifier();
    let token = sign(&claims());
    let now = unix_now();
    assert!(verifier.verify_at(&token, now).is_ok());
    assert!(verifier.verify_at(&token, now + 900 + LEEWAY_SECONDS).is_ok());
    assert_eq!(verifier.verify_at(&token, now + 910 + LEEWAY_SECONDS), Err(TokenError::Expired));
    assert!(verifier.verified.is_empty());
}

#[test]
fn missing_or_foreign_claims_are_refused() {
    let now = unix_now();
    for (name, value) in [
        ("exp", Value::Null),
        ("iss", Value::Null),
        ("aud", Value::Null),
        ("sub", Value::Null),
        ("sid", Value::Null),
        ("iss", json!("somebody")),
        ("aud", json!("another-api")),
        ("sub", json!("ord_1")),
        ("sid", json!("x")),
        ("roles", json!("admin")),
        ("nbf", json!(now + 600)),
        ("exp", json!("soon")),
    ] {
        let token = sign(&claims_with(name, value.clone()));
        assert_eq!(verifier().verify(&token), Err(TokenError::Invalid), "{name} = {value}");
    }
}

#[test]
fn other_algorithms_and_signatures_are_refused() {
    let good = sign(&claims());
    let hmac = |secret: &[u8]| {
        let key = EncodingKey::from_secret(secret);
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims(), &key).unwrap()
    };
    let parts: Vec<&str> = good.split('.').collect();
    // {"alg":"none","typ":"JWT"}
    let none = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{}.", parts[1]);
    let admin = sign(&claims_with("roles", json!(["admin"])));
    let spliced = format!("{}.{}.{}", parts[0], admin.split('.').nth(1).unwrap(), parts[2]);
    let long = format!("{good}{}", "A".repeat(TOKEN_BYTES_MAX));
    for token in [hmac(&PUBLIC), none, spliced, long, String::new(), "a.b".into(), format!("{good}.x")] {
        assert_eq!(verifier().verify(&token), Err(TokenError::Invalid), "{token}");
    }
    let other_key = Verifier::from_public_key(&[7; 32]);
    assert_eq!(other_key.verify(&good), Err(TokenError::Invalid));
}

#[test]
fn a_revoked_session_is_out_at_once_and_others_stay() {
    let verifier = verifier();
    let token = sign(&claims());
    let other = sign(&claims_with("sid", json!("ses_2")));
    assert!(verifier.verify(&token).is_ok());
    verifier.revoke_session(&SessionId::parse("ses_1").unwrap());
    assert_eq!(verifier.verify(&token), Err(TokenError::Revoked));
    assert!(verifier.verify(&other).is_ok());
    let fresh = sign(&claims_with("jti", json!("t2")));
    assert_eq!(verifier.verify(&fresh), Err(TokenError::Revoked));
}

/// The table is full when the next session is revoked, so whatever may be forgotten is.
#[test]
fn a_revocation_is_remembered_for_as_long_as_a_token_of_its_session_is_taken() {
    let session = |name: &str| SessionId::parse(name).unwrap();
    let now = unix_now();
    // The session's last token, signed as it ended by a clock that is ahead by all that is allowed.
    let exp = now + ACCESS_TOKEN_LIFETIME_SECONDS + LEEWAY_SECONDS;
    let last = sign(&claims_with("exp", json!(exp)));
    let key = PublicKey { decoding: DecodingKey::from_ed_der(&PUBLIC), bytes: Some(PUBLIC) };
    let verifier = Verifier::with_tables(Some(key), 10, 1);
    assert!(verifier.verify_at(&last, now).is_ok());
    verifier.revoke_session_at(&session("ses_1"), now);
    for later in [0, ACCESS_TOKEN_LIFETIME_SECONDS, exp - now, exp - now + LEEWAY_SECONDS] {
        verifier.revoke_session_at(&session("ses_2"), now + later);
        assert_eq!(verifier.verify_at(&last, now + later), Err(TokenError::Revoked), "{later} s later");
    }
    // It is forgotten when no token can need it any more: the table makes room.
    verifier.revoke_session_at(&session("ses_2"), now + later_than_all());
    assert!(verifier.revoked.get(&session("ses_1")).is_none());
    assert!(verifier.revoked.get(&session("ses_2")).is_some());
}

fn later_than_all() -> u64 {
    ACCESS_TOKEN_LIFETIME_SECONDS + 10 * LEEWAY_SECONDS
}

#[test]
fn what_the_former_key_signed_is_not_taken_any_more_also_where_it_was_before() {
    let verifier = verifier();
    let token = sign(&claims());
    assert!(verifier.verify(&token).is_ok());
    verifier.set_public_key(&PUBLIC);
    assert!(!verifier.verified.is_empty(), "the same key is no other");
    verifier.set_public_key(&[7; 32]);
    assert_eq!(verifier.verify(&token), Err(TokenError::Invalid));
    verifier.set_public_key(&PUBLIC);
    assert!(verifier.verify(&token).is_ok());
}

/// [`Claims`] cannot be read without them; the check must not depend on that.
#[test]
fn the_check_itself_asks_for_every_claim() {
    let verifier = verifier();
    let key = DecodingKey::from_ed_der(&PUBLIC);
    assert!(jsonwebtoken::decode::<Value>(&sign(&claims()), &key, &verifier.validation).is_ok());
    for name in ["exp", "iss", "aud", "sub"] {
        let token = sign(&claims_with(name, Value::Null));
        let refused = jsonwebtoken::decode::<Value>(&token, &key, &verifier.validation);
        let kind = refused.map(|_| ()).map_err(|error| error.into_kind());
        assert!(matches!(&kind, Err(ErrorKind::MissingRequiredClaim(missing)) if missing == name), "{name}: {kind:?}");
    }
}

#[test]
fn the_header_must_be_one_bearer_token() {
    let verifier = verifier();
    let token = sign(&claims());
    let ask = |values: &[&str]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        verifier.authenticate(&headers).map(|principal| principal.is_some()).map_err(|e| e.status())
    };
    let bearer = format!("Bearer {token}");
    assert_eq!(ask(&[]), Ok(false));
    assert_eq!(ask(&[&bearer]), Ok(true));
    assert_eq!(ask(&[&format!("bearer  {token}")]), Ok(true));
    let unauthorized = Err(warp::http::StatusCode::UNAUTHORIZED);
    for values in [&["Bearer"][..], &["Bearer "], &["Basic dTpw"], &[&token], &[&bearer, &bearer]] {
        assert_eq!(ask(values), unauthorized, "{values:?}");
    }
}

#[test]
fn roles_are_required_by_name_and_admins_have_all() {
    let principal = |roles: &[Role]| {
        let user_id = UserId::parse("usr_1").unwrap();
        let session_id = SessionId::parse("ses_1").unwrap();
        Some(Principal { user_id, roles: roles.to_vec(), session_id, expires_at: 0 })
    };
    let status = |principal, roles: &[Role]| {
        require_role(principal, roles).map_or_else(|error| error.status().as_u16(), |_| 200)
    };
    let staff = [Role::Support, Role::CatalogManager];
    assert_eq!(status(None, &staff), 401);
    assert_eq!(status(principal(&[]), &staff), 403);
    assert_eq!(status(principal(&[Role::Customer]), &staff), 403);
    assert_eq!(status(principal(&[Role::Customer, Role::Support]), &staff), 200);
    assert_eq!(status(principal(&[Role::Admin]), &staff), 200);
    for role in [Role::Customer, Role::Support, Role::CatalogManager, Role::Admin] {
        assert_eq!(Role::parse(role.name()), Some(role));
    }
}
