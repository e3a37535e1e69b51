//! People: registration, sign-in, sessions, their own profile.

use std::sync::Arc;

use contracts::UserId;
use user_service::{Password, Profile, ProfilePatch, Registration, SignedIn, Tokens, UserError};
use warp::http::StatusCode;

use super::call::Call;
use crate::body::{JSON_BYTES_MAX, parse_json};
use crate::conditional::{self, BasedOn};
use crate::error::ApiError;
use crate::fields;
use crate::idempotency::IdempotencyKey;
use crate::idempotent::Keyed;
use crate::json::Object;
use crate::rate_limit::Purpose;
use crate::reply::{self, Response};
use crate::request::Request;
use crate::route;
use crate::shop::Shop;

/// Longest text of a field that is looked at, in characters. The user service has the limits that people are told.
const TEXT_CHARACTERS_MAX: usize = 1_000;
/// Who registers has no name yet: the scope of their key is the route alone, and the fingerprint keeps strangers apart.
const NOBODY: &str = "anonymous";
const REGISTER: &str = "/api/v1/users/register";

pub(super) fn purpose(request: &Request) -> Purpose {
    match request.path().segments().as_slice() {
        [_, _, _, "login"] => Purpose::Login,
        [_, _, _, "register"] => Purpose::Register,
        [_, _, _, "refresh"] => Purpose::Refresh,
        [_, _, _, "password"] => Purpose::Password,
        _ => Purpose::Api,
    }
}

pub(super) async fn answer(shop: Arc<Shop>, call: Call) -> Result<Response, ApiError> {
    route!(call.request, {
        POST ["api", "v1", "users", "register"] => register(&shop, call).await,
        POST ["api", "v1", "users", "login"] => login(&shop, call).await,
        POST ["api", "v1", "users", "refresh"] => refresh(&shop, call).await,
        POST ["api", "v1", "users", "logout"] => logout(&shop, call).await,
        POST ["api", "v1", "users", "password"] => change_password(&shop, call).await,
        GET ["api", "v1", "users", "profile"] => profile(&shop, call).await,
        PATCH ["api", "v1", "users", "profile"] => change_profile(&shop, call).await,
    })
}

/// The same handlers under their other name.
pub(super) async fn answer_alias(shop: Arc<Shop>, call: Call) -> Result<Response, ApiError> {
    route!(call.request, {
        POST ["api", "v1", "auth", "register"] => register(&shop, call).await,
        POST ["api", "v1", "auth", "login"] => login(&shop, call).await,
        POST ["api", "v1", "auth", "refresh"] => refresh(&shop, call).await,
        POST ["api", "v1", "auth", "logout"] => logout(&shop, call).await,
    })
}

async fn register(shop: &Shop, mut call: Call) -> Result<Response, ApiError> {
    let key = IdempotencyKey::optional(call.request.headers())?;
    let body = call.request.json_bytes(JSON_BYTES_MAX).await?;
    let length = 0..=TEXT_CHARACTERS_MAX;
    let registration = fields::read(&body, |person| Registration {
        email: person.optional_text("email", length.clone()).unwrap_or_default(),
        password: Password::new(&person.optional_text("password", length.clone()).unwrap_or_default()),
        first_name: person.optional_text("first_name", length.clone()).unwrap_or_default(),
        last_name: person.optional_text("last_name", length.clone()).unwrap_or_default(),
        phone: person.optional_text("phone", length.clone()),
    })?;
    let command_key = match key {
        Some(key) => {
            let keyed = Keyed::new(shop, NOBODY, &call.request, REGISTER, &key, &body)?;
            // Another payload is another registration: a stranger who picked the same key is not in the way.
            Some(format!("{} {}", keyed.operation_id, keyed.fingerprint))
        }
        None => None,
    };
    let signed_in = shop.users.get()?.register(registration, command_key.as_deref(), &call.context).await?;
    let created_at = signed_in.profile.created_at;
    reply::json(StatusCode::CREATED, &signed_in_json(&signed_in).field("created_at", &created_at.to_rfc3339()))
}

async fn login(shop: &Shop, mut call: Call) -> Result<Response, ApiError> {
    let body = call.request.json_bytes(JSON_BYTES_MAX).await?;
    let (email, password) = fields::read(&body, |credentials| {
        let email = credentials.optional_text("email", 0..=TEXT_CHARACTERS_MAX);
        // However long it is, it is a wrong one: the body has a limit.
        (email.unwrap_or_default(), credentials.optional_text("password", 0..=JSON_BYTES_MAX).unwrap_or_default())
    })?;
    let signed_in = shop.users.get()?.login(&email, Password::new(&password), &call.context).await?;
    reply::ok(&signed_in_json(&signed_in))
}

async fn refresh(shop: &Shop, mut call: Call) -> Result<Response, ApiError> {
    let body = call.request.json_bytes(JSON_BYTES_MAX).await?;
    let token = fields::read(&body, |form| form.text("refresh_token", 1..=TEXT_CHARACTERS_MAX))?;
    let refreshed = shop.users.get()?.refresh(&token, &call.context).await;
    if let Err(UserError::RefreshReused { session_id }) = &refreshed {
        shop.verifier.revoke_session(session_id);
    }
    reply::ok(&tokens_json(Object::new(), &refreshed?))
}

async fn logout(shop: &Shop, mut call: Call) -> Result<Response, ApiError> {
    let user = call.user()?;
    let body = call.request.optional_json_bytes(JSON_BYTES_MAX).await?;
    let is_everywhere = fields::read(&body, |form| {
        // A client may send its refresh token along; the access token names the session already.
        form.optional_text("refresh_token", 0..=TEXT_CHARACTERS_MAX);
        form.optional_flag("all").unwrap_or(false)
    })?;
    let users = shop.users.get()?;
    users.logout(&user.session_id, &call.context).await?;
    shop.verifier.revoke_session(&user.session_id);
    if is_everywhere {
        for session_id in users.logout_everywhere(&user.user_id, &call.context).await? {
            shop.verifier.revoke_session(&session_id);
        }
    }
    Ok(reply::no_content())
}

async fn change_password(shop: &Shop, mut call: Call) -> Result<Response, ApiError> {
    let user = call.user()?;
    let body = call.request.json_bytes(JSON_BYTES_MAX).await?;
    let (current, new) = fields::read(&body, |form| {
        (form.text("current_password", 1..=JSON_BYTES_MAX), form.text("new_password", 1..=JSON_BYTES_MAX))
    })?;
    let (current, new) = (Password::new(&current), Password::new(&new));
    let users = shop.users.get()?;
    let changed = users.change_password(&user.user_id, &user.session_id, current, new, &call.context).await;
    let ended = match changed {
        // Who has a token and no account is not signed in.
        Err(UserError::NotFound) => return Err(ApiError::authentication_required()),
        changed => changed?,
    };
    for session_id in &ended {
        shop.verifier.revoke_session(session_id);
    }
    Ok(reply::no_content())
}

async fn profile(shop: &Shop, mut call: Call) -> Result<Response, ApiError> {
    let user = call.user()?;
    let profile = own(shop.users.get()?.profile(&user.user_id).await)?;
    let response = reply::ok(&profile_json(&profile))?;
    Ok(conditional::tagged(call.request.headers(), &format!("\"{}\"", profile.version), response))
}

async fn change_profile(shop: &Shop, mut call: Call) -> Result<Response, ApiError> {
    let user = call.user()?;
    let expected_version = match conditional::if_match(call.request.headers())? {
        BasedOn::Unsaid | BasedOn::Any => None,
        BasedOn::Version(version) => Some(version),
    };
    let body = call.request.json_bytes(JSON_BYTES_MAX).await?;
    // Read as a form first: a field that is named twice, or a body that is no object, is refused there.
    fields::read(&body, |_| ())?;
    let patch: ProfilePatch = parse_json(&body)?;
    let users = shop.users.get()?;
    let profile = own(users.change_profile(&user.user_id, patch, expected_version, &call.context).await)?;
    Ok(reply::with_etag(reply::ok(&profile_json(&profile))?, profile.version))
}

/// Who has a token and no profile is not signed in.
fn own(profile: Result<Profile, UserError>) -> Result<Profile, ApiError> {
    match profile {
        Err(UserError::NotFound) => Err(ApiError::authentication_required()),
        profile => Ok(profile?),
    }
}

fn person_json(user_id: &UserId, profile: &Profile) -> Object {
    Object::new()
        .field("user_id", user_id)
        .field("email", profile.email.as_str())
        .field("first_name", &profile.first_name)
        .field("last_name", &profile.last_name)
}

fn signed_in_json(signed_in: &SignedIn) -> Object {
    let SignedIn { profile, tokens } = signed_in;
    tokens_json(person_json(&profile.user_id, profile), tokens).field("roles", &profile.roles)
}

fn tokens_json(object: Object, tokens: &Tokens) -> Object {
    object
        .field("access_token", &tokens.access_token)
        .field("refresh_token", tokens.refresh_token.as_str())
        .field("token_type", "Bearer")
        .field("expires_in", &tokens.expires_in_seconds)
}

/// What was never given is shown as empty: the original's fields keep their types.
fn profile_json(profile: &Profile) -> Object {
    person_json(&profile.user_id, profile)
        .field("phone", profile.phone.as_deref().unwrap_or_default())
        .field("address", &profile.address.clone().unwrap_or_default())
        .field("roles", &profile.roles)
        .field("created_at", &profile.created_at.to_rfc3339())
        .field("updated_at", &profile.updated_at.to_rfc3339())
}
