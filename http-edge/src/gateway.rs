//! The gateway: the API on one port.
//!
//! Every group of routes goes through one door, `admit`: who asks, is it too often, what does the handler say, how much is
//! left. Handlers turn a request into a use case of a service and its result into an answer; they decide nothing that a
//! service must decide.
//!
//! # Layout
//!
//! - `users`, `products`, `inventory`, `orders`, `payments`, `admin`: one group of routes each; `admin_users`: the part of the
//!   last that is the user service's
//! - `order_request`: what a buyer asks for; `payment_form`: what a buyer pays with; `payment_charge`:
//!   asking for it until it is known what came of it
//! - `order_json`, `product_json`, `payment_json`: how the API shows them
//! - `call`: a request behind the door; `forward`: the way to a service of another process
//! - `cursor`: where a page of orders begins; `user_cursor`: where one of users does

use std::future::Future;
use std::sync::Arc;

use contracts::{Service, Timestamp};
use warp::Filter;
use warp::http::HeaderValue;
use warp::http::header::CACHE_CONTROL;

use crate::error::ApiError;
use crate::health_pages::{bus, healthy, ready};
use crate::metrics;
use crate::peers::PROFILE_HEADER;
use crate::rate_limit::{Profile, Purpose};
use crate::reply::{self, Response};
use crate::request::Request;
use crate::route;
use crate::routing::{self, Routes};
use crate::shop::Shop;

pub(crate) mod admin;
mod admin_users;
pub(crate) mod call;
mod cursor;
mod forward;
mod inventory;
mod order_json;
mod order_request;
mod orders;
mod payment_charge;
mod payment_form;
mod payment_json;
mod payments;
mod product_json;
mod products;
mod user_cursor;
mod users;

use call::Call;
use forward::passed_on;

/// The gateway's name in health answers.
pub const NAME: &str = "api-gateway";

/// Answers with the handler where the service is in this process, and passes the request on where it is not.
macro_rules! here_or_there {
    ($service:ident, $handler:path, $shop:ident, $call:ident) => {
        async move {
            match $shop.peer_for(Service::$service).cloned() {
                None => $handler($shop, $call).await,
                Some(peers) => passed_on(&peers, Service::$service, &$shop, $call).await,
            }
        }
    };
}

/// The routes of the gateway's port.
pub fn gateway(shop: Arc<Shop>) -> Routes {
    let groups = [
        group(&shop, "products", products::purpose, |shop, call| here_or_there!(Product, products::answer, shop, call)),
        group(&shop, "orders", orders::purpose, |shop, call| here_or_there!(Order, orders::answer, shop, call)),
        group(&shop, "payments", payments::purpose, |shop, call| here_or_there!(Payment, payments::answer, shop, call)),
        group(&shop, "users", users::purpose, |shop, call| here_or_there!(User, users::answer, shop, call)),
        group(&shop, "auth", users::purpose, |shop, call| here_or_there!(User, users::answer_alias, shop, call)),
        group(&shop, "inventory", inventory::purpose, |shop, call| {
            here_or_there!(Product, inventory::answer, shop, call)
        }),
        group(&shop, "admin", admin::purpose, admin::answer),
        group(&shop, "services", |_| Purpose::Free, services),
        bare(&shop, routing::root(|request: Request| async move { route!(request, { GET [] => healthy(NAME) }) })),
        bare(&shop, operator_page(&shop, "healthz", |_| healthy(NAME))),
        bare(&shop, operator_page(&shop, "readyz", |shop| ready(NAME, shop, &Service::ALL))),
        bare(&shop, operator_page(&shop, "metrics", |shop| Ok(metrics::page(shop, None)))),
        bare(&shop, operator_page(&shop, "bus", bus)),
    ];
    let all = groups.into_iter().reduce(|first, next| first.or(next).unify().boxed());
    let unknown = bare(&shop, routing::fallback());
    all.map_or(unknown.clone(), |all| all.or(unknown).unify().boxed())
}

/// A service's part of the API on its own port, for a gateway of the house that has counted and limited the request.
///
/// # Errors
/// 404 for a part of another service; else what the part refuses.
pub(crate) async fn owned(
    service: Service,
    resource: &str,
    shop: Arc<Shop>,
    request: Request,
) -> Result<Response, ApiError> {
    let asker = shop.verifier.authenticate(request.headers());
    let user = asker.as_ref().ok().and_then(Option::as_ref).map(|principal| principal.user_id.clone());
    // A gateway that does not say has the usual limits.
    let profile = request.header(PROFILE_HEADER).and_then(|name| name.parse().ok()).unwrap_or(Profile::Default);
    let call = Call::new(request, user.as_ref(), asker, profile);
    match (service, resource) {
        (Service::Product, "products") => products::answer(shop, call).await,
        (Service::Product, "inventory") => inventory::answer(shop, call).await,
        (Service::Order, "orders") => orders::answer(shop, call).await,
        (Service::Payment, "payments") => payments::answer(shop, call).await,
        (Service::User, "users") => users::answer(shop, call).await,
        (Service::User, "auth") => users::answer_alias(shop, call).await,
        (Service::User, "admin") => admin_users::answer(shop, call).await,
        _ => Err(ApiError::unknown_route()),
    }
}

/// `/{name}`, a page of one line for those who run the shop.
fn operator_page(shop: &Arc<Shop>, name: &'static str, page: fn(&Shop) -> Result<Response, ApiError>) -> Routes {
    let shop = Arc::clone(shop);
    routing::top(name, move |request: Request| {
        let shop = Arc::clone(&shop);
        async move { route!(request, { GET [_] => page(&shop) }) }
    })
}

/// Routes that anybody may ask as often as they like; only counted.
fn bare(shop: &Arc<Shop>, routes: Routes) -> Routes {
    let shop = Arc::clone(shop);
    let count = move |response: Response| {
        shop.requests.count(response.status());
        response
    };
    routes.map(count).boxed()
}

/// The group `/api/v1/{resource}` behind the door.
fn group<H, F>(shop: &Arc<Shop>, resource: &'static str, purpose: fn(&Request) -> Purpose, handler: H) -> Routes
where
    H: Fn(Arc<Shop>, Call) -> F + Copy + Send + Sync + 'static,
    F: Future<Output = Result<Response, ApiError>> + Send + 'static,
{
    let shop = Arc::clone(shop);
    routing::api(resource, move |request| admit(Arc::clone(&shop), request, purpose, handler))
}

/// The door: counts the request against its asker's limit, answers it, and says how much is left.
async fn admit<H, F>(
    shop: Arc<Shop>,
    request: Request,
    purpose: fn(&Request) -> Purpose,
    handler: H,
) -> Result<Response, ApiError>
where
    H: Fn(Arc<Shop>, Call) -> F,
    F: Future<Output = Result<Response, ApiError>>,
{
    let request_id = request.request_id().clone();
    let is_public = is_public(&request);
    let asker = shop.verifier.authenticate(request.headers());
    let user = asker.as_ref().ok().and_then(Option::as_ref).map(|principal| principal.user_id.clone());
    let verdict = shop.rate_limiter.admit(purpose(&request), user.as_ref(), request.peer(), Timestamp::now());
    let admitted = verdict.map_or(Ok(()), |verdict| verdict.check());
    let answered = match admitted {
        Ok(()) => {
            let profile = shop.rate_limiter.profile();
            handler(Arc::clone(&shop), Call::new(request, user.as_ref(), asker, profile)).await
        }
        Err(error) => Err(error),
    };
    let mut response = answered.unwrap_or_else(|error| error.into_response(&request_id));
    if let Some(verdict) = verdict {
        verdict.write_headers(response.headers_mut());
    }
    if !is_public && !response.headers().contains_key(CACHE_CONTROL) {
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
    }
    shop.requests.count(response.status());
    Ok(response)
}

/// Whether the answer is the same for everybody: the catalogue's, and how the services are. All others depend on who asks, or
/// carry what is theirs alone, tokens above all: no cache may keep them.
fn is_public(request: &Request) -> bool {
    matches!(request.path().segments().as_slice(), [_, _, "products" | "services", ..])
}

async fn services(shop: Arc<Shop>, call: Call) -> Result<Response, ApiError> {
    route!(call.request, {
        GET ["api", "v1", "services", "health"] => match shop.health.report() {
            Ok(report) => reply::ok(&report),
            Err(unreachable) => Err(ApiError::unavailable(crate::error::RETRY_AFTER_SECONDS_DEFAULT).because(unreachable)),
        },
    })
}
