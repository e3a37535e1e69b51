//! `microcommerce admin`: what the operator does about the administrators.
//!
//! A shop that runs is asked over its user service's port, with the house's key; one that does not is opened in its directory,
//! under the directory's lock, for this one command. Which of the two it is, the command finds out: first it asks, and where
//! nobody answers it tries the lock. It leaves nothing running. Everything that it does is in the events, in the
//! operator's name; what it shows is shown once.

use std::{
    io::{Write as _, stdout},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use clap::Subcommand;
use contracts::{RequestId, Service};
use http_edge::{
    internal::OPERATOR,
    peers::{HouseKey, ask_once},
};
use ractor::Actor;
use runtime::{
    Gate, Journal, RequestContext, Roster,
    journal::sqlite::{SqliteJournal, SqliteOptions},
    supervision::{Supervisor, SupervisorSpec},
};
use user_service::{OperatorAnswer, OperatorWish, TokenIssuer, UserService, UserServiceConfig};

use crate::{config::Settings, people, tools};

/// How long a running shop may take: a password is hashed.
const PATIENCE: Duration = Duration::from_secs(12);
/// How long the work on a stopped one may take.
const WORK_PATIENCE: Duration = Duration::from_secs(10);
/// Commands in flight while a stopped shop is worked on.
const IN_FLIGHT_MAX: usize = 100;

/// What can be done about the administrators.
#[derive(Debug, Subcommand)]
pub enum Admin {
    /// Make another administrator, with an account of their own; their password is generated and shown once
    Create {
        /// Their e-mail address; not one that a customer has registered
        email: String,
    },
    /// List the administrators: id, masked address, how each became one
    List,
    /// Give an administrator a new password, shown once, and end their sessions
    ResetPassword {
        /// Their id (usr_…) or e-mail address
        user: String,
    },
    /// Make an administrator a customer again, and end their sessions; the last one stays
    Revoke {
        /// Their id (usr_…) or e-mail address
        user: String,
    },
}

impl Admin {
    fn wish(&self) -> OperatorWish {
        match self {
            Self::Create { email } => OperatorWish::Create { email: email.clone() },
            Self::List => OperatorWish::List,
            Self::ResetPassword { user } => OperatorWish::ResetPassword { user: user.clone() },
            Self::Revoke { user } => OperatorWish::Revoke { user: user.clone() },
        }
    }
}

/// Runs a command.
///
/// # Errors
/// What was wrong, in one sentence.
pub async fn run(admin: &Admin, settings: &Settings) -> anyhow::Result<()> {
    let wish = admin.wish();
    let answer = match asked(&wish, settings).await {
        Ok(answered) => answered.map_err(|reason| anyhow!("{reason}"))?,
        Err(silence) => in_directory(wish, settings, &silence).await?,
    };
    Ok(writeln!(stdout(), "{}", text(answer))?)
}

fn text(answer: OperatorAnswer) -> String {
    match answer {
        OperatorAnswer::Credentials { user_id, password } => {
            format!("{user_id}\nThe password, shown this once: {password}")
        }
        OperatorAnswer::Administrators(lines) => lines.join("\n"),
        OperatorAnswer::Revoked(user_id) => format!("{user_id} is no administrator any more"),
    }
}

/// Asks the running shop; the error is that it does not answer, and says why.
async fn asked(wish: &OperatorWish, settings: &Settings) -> Result<Result<OperatorAnswer, String>, String> {
    let secret = tools::secret(settings).map_err(|error| error.to_string())?;
    let key = HouseKey::new(&secret.key("house"));
    let (_, setting) = settings
        .services
        .iter()
        .find(|(service, _)| *service == Service::User)
        .ok_or("this role has not the user service's port")?;
    let url = format!("http://{}:{}/internal/v1/{OPERATOR}", settings.host, setting.port);
    let body = serde_json::to_vec(wish).map_err(|error| error.to_string())?;
    let answer = ask_once(&url, Some((&key, body)), PATIENCE).await?;
    serde_json::from_slice(&answer).map_err(|error| format!("{url}: {error}"))
}

/// Opens the user service in the directory of a shop that does not run, for one wish.
async fn in_directory(wish: OperatorWish, settings: &Settings, silence: &str) -> anyhow::Result<OperatorAnswer> {
    let directory = settings.data_dir.join(Service::User.name());
    if !directory.is_dir() {
        bail!("there is no shop in {} (DATA_DIR says where), and none answers: {silence}", settings.data_dir.display());
    }
    let key_file = directory.join("signing-key.pk8");
    let opened = tokio::task::spawn_blocking(move || {
        let journal = SqliteJournal::open(&SqliteOptions::new(&directory, UserService::VIEWS))?;
        anyhow::Ok((journal, TokenIssuer::load_or_create(&key_file)?))
    });
    let opened = opened.await?;
    let (journal, tokens) = opened.map_err(|error| anyhow!("the shop does not answer ({silence}); {error}"))?;
    let done = with_service(wish, settings, &(journal.clone() as Arc<dyn Journal>), tokens).await;
    journal.close().await;
    done
}

async fn with_service(
    wish: OperatorWish,
    settings: &Settings,
    journal: &Arc<dyn Journal>,
    tokens: TokenIssuer,
) -> anyhow::Result<OperatorAnswer> {
    let log_key = tools::secret(settings).map(|secret| secret.key("addresses in the log")).unwrap_or_default();
    let config = UserServiceConfig { log_key, ..UserServiceConfig::default() };
    let roster = Roster::new();
    let users = UserService::new(Arc::clone(journal), &Gate::new(IN_FLIGHT_MAX), &roster, Arc::new(tokens), config);
    let spec = SupervisorSpec::new("operator", users.children());
    let (supervisor, _) =
        Supervisor::spawn(None, Supervisor, (spec, roster)).await.context("the system gives no more")?;
    let context = RequestContext::new(RequestId::generate().as_str(), WORK_PATIENCE);
    let done = async {
        users.settle_administrators(&context).await?;
        users.for_operator(wish, &context).await
    };
    let done = done.await;
    supervisor.stop_and_wait(None, None).await?;
    Ok(done.map_err(|error| anyhow!("{}", people::words(error)))?.0)
}
