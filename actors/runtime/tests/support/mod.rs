//! A counter on a real journal: the smallest entity that can be wrong.
#![allow(dead_code, reason = "each test uses its part")]

use std::{path::Path, sync::Arc, time::Duration};

use microcommerce_runtime::{
    CommandId, CommandMeta, Entities, EntitiesConfig, Entity, EntityId, Gate, Journal, JournalError, Roster,
    ViewSchema, ViewWrite,
    entity::EventPayload,
    journal::{
        Append, Fence, NewEvent,
        sqlite::{SqliteJournal, SqliteOptions},
    },
    supervision::{Supervisor, SupervisorMessage, SupervisorSpec},
};
use ractor::{Actor, ActorRef};
use serde::{Deserialize, Serialize};
use tokio::{sync::oneshot, time::Instant};

pub const VIEWS: &str = "CREATE TABLE IF NOT EXISTS totals (id TEXT PRIMARY KEY, total INTEGER NOT NULL) STRICT;";
pub const COUNTERS: &[ViewSchema] = &[ViewSchema::of::<Counter>()];
pub const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Counter;

#[derive(Clone, Debug)]
pub enum Count {
    Add(i64),
    /// Adds nothing and is accepted all the same.
    Nothing,
    /// Panics inside `decide`.
    Explode,
    /// Writes a view row that the table refuses, so that the journal must refuse the write.
    BreakTheView,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Counted {
    Added { amount: i64 },
    ViewBroken {},
}

impl EventPayload for Counted {
    fn event_type(&self) -> &'static str {
        match self {
            Self::Added { .. } => "counter.added",
            Self::ViewBroken {} => "counter.view_broken",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TooLarge {
    pub total: i64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Total(pub i64);

impl Entity for Counter {
    const KIND: &'static str = "counter";
    const TABLES: &'static [&'static str] = &[VIEWS];
    type State = Total;
    type Command = Count;
    type Event = Counted;
    type Refusal = TooLarge;

    fn decide(state: &Total, command: Count) -> Result<Vec<Counted>, TooLarge> {
        match command {
            Count::Add(amount) if state.0 + amount > 1_000_000_000 => Err(TooLarge { total: state.0 }),
            Count::Add(amount) => Ok(vec![Counted::Added { amount }]),
            Count::Nothing => Ok(vec![]),
            Count::Explode => panic!("asked to explode"),
            Count::BreakTheView => Ok(vec![Counted::ViewBroken {}]),
        }
    }

    fn evolve(state: &mut Total, event: &Counted) {
        if let Counted::Added { amount } = event {
            state.0 += amount;
        }
    }

    fn views(id: &EntityId, state: &Total, event: &Counted, _: i64) -> Vec<ViewWrite> {
        let total = match event {
            Counted::Added { .. } => Some(state.0),
            Counted::ViewBroken {} => None,
        };
        vec![ViewWrite::new(
            "INSERT INTO totals (id, total) VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET total = excluded.total",
            vec![(&**id).into(), total.into()],
        )]
    }
}

pub struct System {
    pub counters: Entities<Counter>,
    pub journal: Arc<SqliteJournal>,
    pub supervisor: ActorRef<SupervisorMessage>,
    pub roster: Roster,
}

impl System {
    pub async fn start(directory: &Path) -> Self {
        Self::start_with(directory, EntitiesConfig::default()).await
    }

    pub async fn start_with(directory: &Path, config: EntitiesConfig) -> Self {
        let options = SqliteOptions::new(directory, COUNTERS);
        let journal = SqliteJournal::open(&options).unwrap();
        let roster = Roster::new();
        let as_journal: Arc<dyn Journal> = journal.clone();
        let counters = Entities::<Counter>::new(as_journal, &Gate::new(200_000), config, roster.clone());
        let spec = SupervisorSpec::new("test", counters.shards());
        let (supervisor, _) = Supervisor::spawn(None, Supervisor, (spec, roster.clone())).await.unwrap();
        Self { counters, journal, supervisor, roster }
    }

    /// An orderly end: everything queued is settled.
    pub async fn stop(self) {
        self.supervisor.stop_and_wait(None, None).await.unwrap();
        self.journal.close().await;
    }

    pub async fn total(&self, id: &str) -> i64 {
        self.counters.read(id, Instant::now() + PATIENCE, |state, _| state.0).await.unwrap()
    }
}

pub fn command(number: u64) -> CommandMeta {
    CommandMeta::new(CommandId::of(&["test", &number.to_string()]), PATIENCE)
}

/// Appends `count` events that add one each, by one command, past all entities.
pub async fn append(
    journal: &dyn Journal,
    stream: &str,
    first_version: u64,
    count: u64,
    command_id: CommandId,
) -> Result<(), JournalError> {
    let payload = serde_json::to_string(&Counted::Added { amount: 1 }).unwrap();
    let (done, settled) = oneshot::channel();
    journal.append(Append {
        stream: stream.into(),
        first_version,
        events: (0..count)
            .map(|_| NewEvent { event_type: "counter.added", payload: payload.clone(), published_before: None })
            .collect(),
        schema: 1,
        refusal: None,
        command_id,
        at_ms: 0,
        correlation_id: None,
        causation_id: None,
        traceparent: Some(TRACEPARENT.into()),
        actor: None,
        views: vec![],
        snapshot: None,
        fence: Arc::new(Fence::default()),
        settle: Box::new(move |outcome| drop(done.send(outcome))),
    });
    settled.await.unwrap()
}
