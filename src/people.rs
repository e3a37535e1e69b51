//! The administrator, and the demo's buyer.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, anyhow};
use runtime::RequestContext;
use user_service::{Account, Password, Registration, Role, UserError};

use crate::{config::Settings, house::House, side_channel};

/// The administrator where `ADMIN_EMAIL` does not name one.
const ADMIN_EMAIL_DEFAULT: &str = "admin@microcommerce.local";
/// Random bytes of a generated password: 120 bits.
const PASSWORD_BYTES: usize = 15;
/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sees to it that the administrator exists, and in a demo the buyer. A generated password is printed once, when its user
/// is made.
///
/// # Errors
/// When the user service does not answer, or refuses the address or the password.
pub async fn ensure(settings: &Settings, house: &Arc<House>) -> anyhow::Result<()> {
    let email = settings.admin_email.clone().unwrap_or_else(|| ADMIN_EMAIL_DEFAULT.to_owned());
    let (password, is_generated) = match &settings.admin_password {
        Some(password) => (password.clone(), false),
        None => (generated_password()?, true),
    };
    let is_new = ensure_one(house, &email, &password, ("Shop", "Admin"), vec![Role::Admin])
        .await
        .map_err(|reason| anyhow!("ADMIN_EMAIL or ADMIN_PASSWORD makes no sense: {reason}"))?;
    if is_new && is_generated {
        side_channel::say(format_args!(
            "The administrator, shown this once: ADMIN_EMAIL={email} ADMIN_PASSWORD={password}"
        ));
    }
    if settings.is_demo {
        let buyer = ensure_one(house, "test@example.com", "testPassword123", ("Test", "User"), vec![]).await;
        buyer.map_err(|reason| anyhow!("the demo's buyer: {reason}"))?;
    }
    Ok(())
}

async fn ensure_one(
    house: &House,
    email: &str,
    password: &str,
    (first_name, last_name): (&str, &str),
    roles: Vec<Role>,
) -> Result<bool, String> {
    let users = house.users.get().map_err(|down| down.to_string())?;
    let registration = Registration {
        email: email.to_owned(),
        password: Password::new(password),
        first_name: first_name.to_owned(),
        last_name: last_name.to_owned(),
        phone: None,
    };
    let context = RequestContext::new("start", PATIENCE);
    match users.ensure_user(Account { registration, roles }, &context).await {
        Ok(ensured) => Ok(ensured.is_new),
        Err(UserError::Invalid(faults)) => {
            Err(faults.iter().map(|fault| format!("{}: {}", fault.field, fault.reason)).collect::<Vec<_>>().join("; "))
        }
        Err(error) => Err(error.to_string()),
    }
}

fn generated_password() -> anyhow::Result<String> {
    const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut bytes = [0; PASSWORD_BYTES * 8 / 5];
    getrandom::fill(&mut bytes).ok().context("the system gives no random bytes")?;
    // 32 letters: the low five bits of a random byte choose one evenly.
    Ok(bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect())
}
