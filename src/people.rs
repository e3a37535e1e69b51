//! Who administers the shop when it starts, and the demo's buyer.
//!
//! A shop without an administrator makes one, in an account made in that moment. An account that somebody registered is given
//! nothing here, whoever's address a setting names: only an administrator may.

use std::time::Duration;

use anyhow::{anyhow, bail};
use runtime::RequestContext;
use user_service::{
    Authority, Password, Registration, UserError, UserService,
    access::AddressOf,
    operator::{administrator, line, made_up_address},
};

use crate::config::Settings;

/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sees to it that the shop has an administrator, and in a demo its buyer. Gives the lines that the greeting ends with: who
/// administers the shop, and last, once, what a first administrator signs in with that nobody chose.
///
/// # Errors
/// In one sentence: when the shop has no administrator and the settings name a customer, or make no sense; when the user
/// service does not answer.
pub async fn ensure(settings: &Settings, users: &UserService) -> anyhow::Result<Vec<String>> {
    let context = RequestContext::new("start", PATIENCE);
    users.settle_administrators(&context).await?;
    let mut administrators = users.administrators(&context).await?;
    let credentials = match administrators.is_empty() {
        true => make_first(settings, users, &context).await?,
        false => {
            say_what_has_no_effect(settings, users).await?;
            None
        }
    };
    if administrators.is_empty() {
        administrators = users.administrators(&context).await?;
    }
    let lines: Vec<String> = administrators.iter().map(line).collect();
    let list = format!("Administrators: {}", lines.join("; "));
    if settings.is_demo {
        let buyer = registration("test@example.com", &Password::new("testPassword123"), ("Test", "User"));
        users.ensure_customer(buyer, &context).await.map_err(|error| anyhow!("the demo's buyer: {}", words(error)))?;
    }
    Ok([list].into_iter().chain(credentials).collect())
}

/// Makes the first administrator; gives what they sign in with, where the settings do not say it.
async fn make_first(
    settings: &Settings,
    users: &UserService,
    context: &RequestContext,
) -> anyhow::Result<Option<String>> {
    let email = match &settings.admin_email {
        Some(email) => email.clone(),
        None => made_up_address()?,
    };
    let password = match &settings.admin_password {
        Some(password) => Password::new(password),
        None => Password::generate().map_err(|error| anyhow!("{error}"))?,
    };
    let reason = "the shop had no administrator when it started";
    let made = users.make_administrator(administrator(&email, &password), Authority::FirstStart, reason, context).await;
    match made {
        Ok(_) => {}
        Err(UserError::EmailTaken) => bail!(
            "ADMIN_EMAIL is the address of a customer, and an account that somebody registered is never made an \
             administrator: name another address, or none to have one made up"
        ),
        Err(error) => bail!("ADMIN_EMAIL or ADMIN_PASSWORD makes no sense: {}", words(error)),
    }
    let once = "The administrator, shown this once:";
    Ok(match (&settings.admin_email, &settings.admin_password) {
        (Some(_), Some(_)) => None,
        (None, Some(_)) => Some(format!("{once} ADMIN_EMAIL={email}, with the ADMIN_PASSWORD that is set")),
        (_, None) => Some(format!("{once} ADMIN_EMAIL={email} ADMIN_PASSWORD={}", password.reveal())),
    })
}

/// A shop that has an administrator makes nobody one.
async fn say_what_has_no_effect(settings: &Settings, users: &UserService) -> anyhow::Result<()> {
    if let Some(email) = &settings.admin_email {
        match users.owner_of(email).await? {
            AddressOf::Administrator => tracing::info!("ADMIN_EMAIL has no effect: it is an administrator's already"),
            AddressOf::Customer => {
                tracing::warn!("ADMIN_EMAIL has no effect: it is the address of a customer, who is given no role by it")
            }
            AddressOf::Nobody => tracing::warn!(
                "ADMIN_EMAIL has no effect: the shop has an administrator; `microcommerce admin create` makes another"
            ),
        }
    }
    if settings.admin_password.is_some() {
        tracing::warn!(
            "ADMIN_PASSWORD has no effect: the shop has an administrator; `microcommerce admin reset-password` makes a new \
             password"
        );
    }
    Ok(())
}

fn registration(email: &str, password: &Password, (first_name, last_name): (&str, &str)) -> Registration {
    Registration {
        email: email.to_owned(),
        password: password.clone(),
        first_name: first_name.to_owned(),
        last_name: last_name.to_owned(),
        phone: None,
    }
}

/// An error in one sentence: of fields, which and why.
pub fn words(error: UserError) -> String {
    match error {
        UserError::Invalid(faults) => {
            faults.iter().map(|fault| format!("{}: {}", fault.field, fault.reason)).collect::<Vec<_>>().join("; ")
        }
        error => error.to_string(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use clap::Parser;
    use ractor::Actor;
    use runtime::{
        Gate, Journal, Roster,
        journal::sqlite::{SqliteJournal, SqliteOptions},
        supervision::{Supervisor, SupervisorSpec},
    };
    use std::sync::Arc;
    use user_service::{TokenIssuer, UserServiceConfig};

    use super::*;
    use crate::config::Arguments;

    const BUYER: &str = "buyer@example.com";
    const PASSWORD: &str = "correct horse battery staple";

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        let arguments = Arguments::try_parse_from(["microcommerce"]).unwrap();
        let find = |name: &str| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        Settings::read(&arguments, find).unwrap()
    }

    /// A user service of a directory, of which nobody is an administrator yet.
    async fn users(directory: &Path) -> UserService {
        let options = SqliteOptions::new(directory, UserService::VIEWS);
        let journal: Arc<dyn Journal> = SqliteJournal::open(&options).unwrap();
        let tokens = Arc::new(TokenIssuer::load_or_create(&directory.join("token.key")).unwrap());
        let config = UserServiceConfig { hash_wait_max: Duration::from_secs(60), ..UserServiceConfig::default() };
        let roster = Roster::new();
        let users = UserService::new(journal, &Gate::new(1_000), &roster, tokens, config);
        let spec = SupervisorSpec::new("user-service", users.children());
        Supervisor::spawn(None, Supervisor, (spec, roster)).await.unwrap();
        users
    }

    async fn roles(users: &UserService, email: &str, password: &str) -> Vec<&'static str> {
        let context = RequestContext::new("req_test", Duration::from_secs(60));
        let signed_in = users.login(email, Password::new(password), &context).await.unwrap();
        signed_in.profile.roles.iter().map(|role| role.name()).collect()
    }

    #[tokio::test]
    async fn a_shop_without_an_administrator_whose_settings_name_a_customer_does_not_start() {
        let directory = tempfile::tempdir().unwrap();
        let users = users(directory.path()).await;
        let context = RequestContext::new("req_test", Duration::from_secs(60));
        users.ensure_customer(registration(BUYER, &Password::new(PASSWORD), ("A", "B")), &context).await.unwrap();
        let named = settings(&[("ADMIN_EMAIL", "Buyer@example.com"), ("ADMIN_PASSWORD", "another good password")]);
        let sentence = ensure(&named, &users).await.unwrap_err().to_string();
        assert!(sentence.starts_with("ADMIN_EMAIL") && sentence.lines().count() == 1, "{sentence}");
        assert!(!sentence.contains('@'), "{sentence}");
        assert_eq!(roles(&users, BUYER, PASSWORD).await, ["customer"]);

        // Without the setting it makes one, once, and says last how to sign in.
        let lines = ensure(&settings(&[]), &users).await.unwrap();
        let words: Vec<&str> = lines.last().unwrap().split(['=', ' ']).collect();
        let after = |name: &str| words[words.iter().position(|word| *word == name).unwrap() + 1];
        let (email, password) = (after("ADMIN_EMAIL"), after("ADMIN_PASSWORD"));
        assert_eq!(roles(&users, email, password).await, ["customer", "admin"]);
        assert!(lines[0].starts_with("Administrators: usr_") && lines[0].contains("first start"), "{lines:?}");
        assert!(!lines[0].contains(email), "{lines:?}");
        // With one there, a customer's address is a warning.
        let again = ensure(&named, &users).await.unwrap();
        assert_eq!(again, lines[..1]);
        assert_eq!(roles(&users, BUYER, PASSWORD).await, ["customer"]);
    }

    #[tokio::test]
    async fn settings_that_make_no_administrator_say_why_in_one_sentence() {
        let directory = tempfile::tempdir().unwrap();
        let users = users(directory.path()).await;
        for (email, password, why) in [
            ("nobody", PASSWORD, "email"),
            ("admin@example.com", "password1", "common"),
            ("admin@example.com", "short", "at least 8"),
        ] {
            let wrong = settings(&[("ADMIN_EMAIL", email), ("ADMIN_PASSWORD", password)]);
            let sentence = ensure(&wrong, &users).await.unwrap_err().to_string();
            assert!(sentence.contains(why) && sentence.lines().count() == 1, "{sentence}");
            assert!(!sentence.contains(password), "{sentence}");
        }
    }
}
