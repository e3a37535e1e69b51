//! A request behind the gateway's door: who asks, and under which limits.

use std::time::Duration;

use contracts::UserId;
use runtime::RequestContext;

use crate::auth::{self, Principal, Role};
use crate::error::ApiError;
use crate::rate_limit::Profile;
use crate::request::Request;

/// How long the services may take for a request: with the idempotency front's half second this stays under the five that
/// people wait, also where a service is away.
pub const PATIENCE: Duration = Duration::from_secs(4);

/// A request behind the door.
pub(crate) struct Call {
    pub(crate) request: Request,
    pub(crate) context: RequestContext,
    /// Who asks, or why their token is not good: only a route that needs to know refuses a bad token.
    pub(super) asker: Result<Option<Principal>, ApiError>,
    /// Which limits hold at the gateway.
    pub(crate) profile: Profile,
}

impl Call {
    pub(super) fn new(
        request: Request,
        user: Option<&UserId>,
        asker: Result<Option<Principal>, ApiError>,
        profile: Profile,
    ) -> Self {
        let mut context = request.context(PATIENCE);
        context.actor = user.map(|user| user.as_str().into());
        Self { request, context, asker, profile }
    }

    /// The signed-in person.
    ///
    /// # Errors
    /// 401 when nobody is signed in.
    pub(crate) fn user(&mut self) -> Result<Principal, ApiError> {
        auth::require_user(std::mem::replace(&mut self.asker, Ok(None))?)
    }

    /// The signed-in person, who has one of `roles`.
    ///
    /// # Errors
    /// 401 when nobody is signed in, 403 without the role.
    pub(crate) fn role(&mut self, roles: &[Role]) -> Result<Principal, ApiError> {
        auth::require_role(std::mem::replace(&mut self.asker, Ok(None))?, roles)
    }
}

/// Whether a person may see what is another's.
pub(crate) fn is_staff(principal: &Principal) -> bool {
    principal.has_role(Role::Support)
}
