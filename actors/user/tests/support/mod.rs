//! The user service on a real journal, with its supervisor.
#![allow(dead_code, reason = "each test file uses its part")]

use std::{path::Path, sync::Arc, time::Duration};

use ractor::{Actor, ActorRef};
use runtime::{
    Gate, Journal, Position, Recorded, RequestContext, Roster,
    journal::sqlite::{SqliteJournal, SqliteOptions},
    supervision::{Supervisor, SupervisorMessage, SupervisorSpec},
};
use user_service::{Password, Registration, TokenIssuer, UserService, UserServiceConfig};

pub const PATIENCE: Duration = Duration::from_secs(60);
pub const EMAIL: &str = "ann@example.com";
pub const PASSWORD: &str = "correct horse";

pub struct System {
    pub users: UserService,
    pub journal: Arc<SqliteJournal>,
    pub tokens: Arc<TokenIssuer>,
    supervisor: ActorRef<SupervisorMessage>,
}

impl System {
    pub async fn start(directory: &Path) -> Self {
        let options = SqliteOptions::new(directory, UserService::VIEWS);
        let journal = SqliteJournal::open(&options).unwrap();
        let tokens = Arc::new(TokenIssuer::load_or_create(&directory.join("token.key")).unwrap());
        let roster = Roster::new();
        // The machine that runs the tests may be busy: nobody is told `Busy` for that.
        let config = UserServiceConfig { hash_wait_max: PATIENCE, ..UserServiceConfig::default() };
        let as_journal: Arc<dyn Journal> = journal.clone();
        let users = UserService::new(as_journal, &Gate::new(10_000), &roster, Arc::clone(&tokens), config);
        let spec = SupervisorSpec::new("user-service", users.children());
        let (supervisor, _) = Supervisor::spawn(None, Supervisor, (spec, roster)).await.unwrap();
        Self { users, journal, tokens, supervisor }
    }

    /// An orderly end: everything queued is settled.
    pub async fn stop(self) {
        self.supervisor.stop_and_wait(None, None).await.unwrap();
        self.journal.close().await;
    }

    pub async fn recorded(&self) -> Vec<Recorded> {
        self.journal.read_after(Position::MIN, 1_000).await.unwrap()
    }
}

/// A request of its own.
pub fn request() -> RequestContext {
    RequestContext::new("req_test", PATIENCE)
}

/// A request that came in `seconds` after now.
pub fn request_in(seconds: i64) -> RequestContext {
    let mut context = request();
    context.at_ms += seconds * 1_000;
    context
}

pub fn ann() -> Registration {
    registration(EMAIL, PASSWORD)
}

pub fn registration(email: &str, password: &str) -> Registration {
    Registration {
        email: email.into(),
        password: Password::new(password),
        first_name: "Ann".into(),
        last_name: "Example".into(),
        phone: Some("+1 555 0100".into()),
    }
}
