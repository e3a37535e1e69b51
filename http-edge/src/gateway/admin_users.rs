//! The users, for administrators: who there is, what they may do, and who may sign in at all.

use std::sync::Arc;

use contracts::UserId;
use user_service::{AccessChange, Authority, Profile, Role as UserRole};
use warp::http::StatusCode;
use warp::http::header::LINK;

use super::call::Call;
use super::user_cursor;
use crate::auth::Role;
use crate::body::JSON_BYTES_MAX;
use crate::conditional::{self, BasedOn};
use crate::error::ApiError;
use crate::fields;
use crate::json::Object;
use crate::reply::{self, Response};
use crate::route;
use crate::shop::Shop;

const ROUTE: &str = "/api/v1/admin/users";
const LIMIT_DEFAULT: u32 = 20;
const LIMIT_MAX: u32 = 100;
/// The most roles that are named at once, repeated ones among them.
const ROLES_MAX: usize = 16;
/// Longest name of a role that is looked at, in characters.
const ROLE_CHARACTERS_MAX: usize = 40;

pub(super) async fn answer(shop: Arc<Shop>, call: Call) -> Result<Response, ApiError> {
    route!(call.request, {
        GET ["api", "v1", "admin", "users"] => list(&shop, call).await,
        GET ["api", "v1", "admin", "users", id] => detail(&shop, call, id).await,
        PATCH ["api", "v1", "admin", "users", id] => change(&shop, call, id).await,
    })
}

async fn list(shop: &Shop, mut call: Call) -> Result<Response, ApiError> {
    call.role(&[Role::Admin])?;
    let query = call.request.query()?;
    let limit = query.integer("limit", 1..=LIMIT_MAX, LIMIT_DEFAULT)?;
    let bad = || ApiError::bad_parameter("cursor", "must be the next_cursor of this list");
    let after = match query.text("cursor", user_cursor::CURSOR_LEN_MAX)? {
        Some(text) => Some(user_cursor::decode(text).ok_or_else(bad)?),
        None => None,
    };
    let page = shop.users.get()?.list_users(after.as_ref(), limit).await?;
    let users: Vec<Object> = page.users.iter().map(user_json).collect();
    let next_cursor = page.next.as_ref().map(user_cursor::encode);
    let pagination = Object::new()
        .field("limit", &limit)
        .field("has_more", &next_cursor.is_some())
        .field("next_cursor", &next_cursor);
    let response = reply::ok(&Object::new().field("users", &users).field("pagination", &pagination))?;
    Ok(match next_cursor {
        Some(next) => {
            let link = format!("<{ROUTE}?limit={limit}&cursor={next}>; rel=\"next\"");
            reply::with_header(response, LINK, &link)
        }
        None => response,
    })
}

async fn detail(shop: &Shop, mut call: Call, id: &str) -> Result<Response, ApiError> {
    call.role(&[Role::Admin])?;
    let user = shop.users.get()?.profile(&user_id(id)?).await?;
    let response = reply::ok(&user_json(&user))?;
    Ok(conditional::tagged(call.request.headers(), &format!("\"{}\"", user.version), response))
}

async fn change(shop: &Shop, mut call: Call, id: &str) -> Result<Response, ApiError> {
    let admin = call.role(&[Role::Admin])?;
    let expected_version = match conditional::if_match(call.request.headers())? {
        BasedOn::Unsaid => return Err(ApiError::precondition_required()),
        BasedOn::Any => None,
        BasedOn::Version(version) => Some(version),
    };
    let body = call.request.json_bytes(JSON_BYTES_MAX).await?;
    let change = read(&body)?;
    let (user_id, users) = (user_id(id)?, shop.users.get()?);
    let by = Authority::Administrator(admin.user_id);
    let changed =
        users.change_access(&user_id, change, expected_version, by, "by an administrator", &call.context).await?;
    for session_id in &changed.ended {
        shop.verifier.revoke_session(session_id);
    }
    let response = reply::json(StatusCode::OK, &user_json(&changed.profile))?;
    Ok(reply::with_etag(response, changed.profile.version))
}

/// What is to become of somebody: `{"roles":[…],"disabled":true}`, one of them at least.
fn read(body: &[u8]) -> Result<AccessChange, ApiError> {
    fields::read(body, |form| {
        let mut roles = None;
        if form.has("roles") {
            let names = form.texts("roles", 0..=ROLES_MAX, 1..=ROLE_CHARACTERS_MAX);
            let mut known = Vec::with_capacity(names.len());
            for (place, name) in names.iter().enumerate() {
                match UserRole::named(name) {
                    Some(role) => known.push(role),
                    None => form.refuse(&format!("roles[{place}]"), "is customer, support, catalog_manager or admin"),
                }
            }
            roles = Some(known);
        }
        let disabled = form.optional_flag("disabled");
        if roles.is_none() && disabled.is_none() && !form.has("disabled") {
            form.refuse("roles", "is required, unless there is disabled");
        }
        AccessChange { roles, disabled }
    })
}

fn user_id(id: &str) -> Result<UserId, ApiError> {
    UserId::parse(id).map_err(|_| ApiError::not_found("user"))
}

/// A user as an administrator sees them: what they may do, and on whose word.
fn user_json(user: &Profile) -> Object {
    let granted = user.grants.iter().fold(Object::new(), |object, (role, grant)| {
        let by = grant.by.as_ref().map(ToString::to_string);
        let how = Object::new().field("by", &by).field("reason", &grant.reason).field("at", &grant.at.to_rfc3339());
        object.field(role.name(), &how)
    });
    Object::new()
        .field("user_id", &user.user_id)
        .field("email", user.email.as_str())
        .field("first_name", &user.first_name)
        .field("last_name", &user.last_name)
        .field("roles", &user.roles)
        .field("granted", &granted)
        .field("disabled", &user.disabled)
        .field("version", &user.version)
        .field("created_at", &user.created_at.to_rfc3339())
        .field("updated_at", &user.updated_at.to_rfc3339())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_names_roles_that_there_are_or_whether_they_may_sign_in() {
        let change = read(br#"{"roles":["admin","support"],"disabled":false}"#).unwrap();
        assert_eq!(change.roles, Some(vec![UserRole::Admin, UserRole::Support]));
        assert_eq!(change.disabled, Some(false));
        assert_eq!(read(br#"{"roles":[]}"#).unwrap(), AccessChange { roles: Some(vec![]), disabled: None });
        for wrong in
            ["{}", r#"{"roles":["king"]}"#, r#"{"roles":"admin"}"#, r#"{"disabled":"yes"}"#, r#"{"roles":null}"#]
        {
            assert_eq!(read(wrong.as_bytes()).unwrap_err().status(), 422, "{wrong}");
        }
    }
}
