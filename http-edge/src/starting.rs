//! How far the start of the process has come, and what its ports answer meanwhile.
//!
//! A port is served from the moment that it is bound: `/healthz` says that the process lives, `/readyz` what it is doing and
//! how far it has come, everything else is 503 with `Retry-After`. Once the shop stands, [`Served`] switches the same port
//! over to its real routes; connections stay.
//!
//! The root and the services' starts report into [`StartProgress`]; ports and answers to pings read it. It decides nothing,
//! and dies with its process.

use std::sync::{Arc, OnceLock};

use contracts::Service;

use crate::error::{ApiError, RETRY_AFTER_SECONDS_DEFAULT};
use crate::health_pages::healthy;
use crate::reply::Response;
use crate::request::Request;
use crate::route;
use crate::routing::{self, Routes};

pub use crate::progress::{StartProgress, Step};

/// What a port called `name` answers while the process starts, of which `services` are what it is for.
pub fn starting(name: &'static str, services: Vec<Service>, progress: Arc<StartProgress>) -> Routes {
    let services: Arc<[Service]> = services.into();
    routing::everything(move |request| {
        let (services, progress) = (Arc::clone(&services), Arc::clone(&progress));
        async move { answer(name, &services, &progress, &request) }
    })
}

fn answer(name: &str, services: &[Service], progress: &StartProgress, request: &Request) -> Result<Response, ApiError> {
    match request.path().segments().as_slice() {
        ["healthz"] => route!(request, { GET ["healthz"] => healthy(name) }),
        ["readyz"] => route!(request, { GET ["readyz"] => Err(progress.refusal(services)) }),
        _ => Err(ApiError::unavailable(RETRY_AFTER_SECONDS_DEFAULT).with("reason", &progress.reason(services))),
    }
}

/// The routes of a port, which may be switched once while it is served. Clones are the same port's.
#[derive(Clone)]
pub struct Served {
    first: Routes,
    then: Arc<OnceLock<Routes>>,
}

impl Served {
    /// `first`, until [`Served::switch_to`].
    #[must_use]
    pub fn until_switched(first: Routes) -> Self {
        Self { first, then: Arc::default() }
    }

    /// From now on every request is answered by `routes`, on connections that are open already too. The first call counts.
    pub fn switch_to(&self, routes: Routes) {
        // A second set of routes would be a second shop in this process; the first stays.
        let _ = self.then.set(routes);
    }

    /// The routes for a request that comes now.
    #[must_use]
    pub fn now(&self) -> Routes {
        self.then.get().unwrap_or(&self.first).clone()
    }
}

impl From<Routes> for Served {
    fn from(routes: Routes) -> Self {
        Self::until_switched(routes)
    }
}
