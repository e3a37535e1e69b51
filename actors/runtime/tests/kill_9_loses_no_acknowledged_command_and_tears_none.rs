//! `kill -9`, again and again, over one data directory.
//!
//! The test starts itself as a child process that keeps entities under load and prints each command once it is
//! acknowledged. The parent kills it at random moments, opens the directory, and holds what it was told against what is
//! there.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use microcommerce_runtime::{
    CommandId, CommandMeta, Entities, EntitiesConfig, Entity, EntityId, Gate, Journal, Roster, SqlValue, ViewWrite,
    entity::EventPayload,
    journal::sqlite::{SqliteJournal, SqliteOptions},
    supervision::{Supervisor, SupervisorSpec},
    testkit::Random,
};
use ractor::Actor;
use serde::{Deserialize, Serialize};

/// Of one run; `KILL_9_ROUNDS` asks for more.
const KILLS: u64 = 60;
/// The child lives between these after its first acknowledgement. 60 kills take some ten seconds.
const LIFE_MS: std::ops::Range<u64> = 0..150;
const ENTITIES: u64 = 40;
const CLIENTS: u64 = 64;
/// Every command writes so many events: enough for a torn one to show.
const PARTS: u64 = 3;
const VIEWS: &str = "CREATE TABLE IF NOT EXISTS parts (id TEXT PRIMARY KEY, parts INTEGER NOT NULL) STRICT;";
const CHILD_DIRECTORY: &str = "KILL_9_DIRECTORY";
const CHILD_ROUND: &str = "KILL_9_ROUND";
const ACKNOWLEDGED: &str = "acknowledged ";
const PATIENCE: Duration = Duration::from_secs(20);

/// A pile: each command puts on it one stone in several parts.
struct Pile;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum PileEvent {
    PartAdded { stone: u64, part: u64 },
}

impl EventPayload for PileEvent {
    fn event_type(&self) -> &'static str {
        match self {
            Self::PartAdded { .. } => "pile.part_added",
        }
    }
}

impl Entity for Pile {
    const KIND: &'static str = "pile";
    type State = u64;
    type Command = u64;
    type Event = PileEvent;
    type Refusal = ();

    fn decide(_: &u64, stone: u64) -> Result<Vec<PileEvent>, ()> {
        Ok((0..PARTS).map(|part| PileEvent::PartAdded { stone, part }).collect())
    }

    fn evolve(parts: &mut u64, _: &PileEvent) {
        *parts += 1;
    }

    fn views(id: &EntityId, parts: &u64, _: &PileEvent, _: i64) -> Vec<ViewWrite> {
        vec![ViewWrite::new(
            "INSERT INTO parts (id, parts) VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET parts = excluded.parts",
            vec![(&**id).into(), (*parts as i64).into()],
        )]
    }
}

fn open(directory: &Path) -> Arc<SqliteJournal> {
    SqliteJournal::open(&SqliteOptions::new(directory, VIEWS)).unwrap()
}

fn pile_of(stone: u64) -> String {
    format!("p{}", stone % ENTITIES)
}

/// The child: works until it is killed.
async fn work(directory: &Path, round: u64) {
    let journal = open(directory);
    let config = EntitiesConfig {
        active_per_shard_max: 4,
        idle_after: Duration::ZERO,
        snapshot_every: 50,
        ..EntitiesConfig::default()
    };
    let piles = Entities::<Pile>::new(journal, &Gate::new(10_000), config, Roster::new());
    let spec = SupervisorSpec::new("test", piles.shards());
    let (_supervisor, _) = Supervisor::spawn(None, Supervisor, (spec, Roster::new())).await.unwrap();
    let clients = (0..CLIENTS).map(|client| {
        let piles = piles.clone();
        tokio::spawn(async move {
            for number in 0_u64.. {
                let stone = round * 1_000_000_000 + client * 1_000_000 + number;
                let meta = CommandMeta::new(CommandId::from_u128(u128::from(stone)), PATIENCE);
                if piles.ask(pile_of(stone), stone, meta).await.is_ok() {
                    let mut out = std::io::stdout().lock();
                    writeln!(out, "\n{ACKNOWLEDGED}{stone}").unwrap();
                    out.flush().unwrap();
                }
            }
        })
    });
    futures::future::join_all(clients.collect::<Vec<_>>()).await;
}

/// Runs a child until it is killed, and gives back what it acknowledged.
fn one_life(directory: &Path, round: u64, life: Duration) -> Vec<u64> {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["kill_9_loses_no_acknowledged_command_and_tears_none", "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD_DIRECTORY, directory)
        .env(CHILD_ROUND, round.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut acknowledged = Vec::new();
    let mut killed_at = None;
    // Reads on after the kill: what was in the pipe was said.
    for line in lines {
        let Some(stone) = line.strip_prefix(ACKNOWLEDGED) else { continue };
        acknowledged.push(stone.parse().unwrap());
        let first_heard = *killed_at.get_or_insert_with(Instant::now);
        if first_heard.elapsed() >= life {
            // SIGKILL.
            let _ = child.kill();
        }
    }
    let status = child.wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "the child ended by itself: {status}");
    acknowledged
}

/// How many outcomes there are: beside the events, and by id.
const COMMANDS: &str = "SELECT count(*) FROM (SELECT stream, command_id FROM events UNION \
                        SELECT stream, command_id FROM commands)";

/// Holds the directory against everything that was ever acknowledged.
async fn check(directory: &Path, acknowledged: &BTreeSet<u64>) -> usize {
    let journal = open(directory);
    let events = journal.read_after(0, usize::MAX >> 1).await.unwrap();
    let mut parts_of: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let mut versions: BTreeMap<Arc<str>, u64> = BTreeMap::new();
    for event in &events {
        let version = versions.entry(Arc::clone(&event.stream)).or_default();
        *version += 1;
        assert_eq!(event.version, *version, "{} has a gap", event.stream);
        let PileEvent::PartAdded { stone, part } = serde_json::from_str(&event.payload).unwrap();
        assert_eq!(event.kind_and_id().1, pile_of(stone));
        parts_of.entry(stone).or_default().push(part);
    }
    for (stream, newest) in &versions {
        let of_stream = journal.events(Arc::clone(stream)).await.unwrap();
        assert!(of_stream.iter().map(|event| event.version).eq(1..=*newest), "{stream} is read as it was written");
    }
    for (stone, parts) in &parts_of {
        assert_eq!(*parts, (0..PARTS).collect::<Vec<_>>(), "stone {stone} is torn or there twice");
    }
    let lost: Vec<_> = acknowledged.iter().filter(|stone| !parts_of.contains_key(stone)).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    let commands = journal.query(COMMANDS, vec![]).await.unwrap();
    assert_eq!(commands[0].0, [SqlValue::Integer(parts_of.len() as i64)], "as many outcomes as commands");
    let views = journal.query("SELECT id, parts FROM parts", vec![]).await.unwrap();
    let views: BTreeMap<String, u64> =
        views.iter().map(|row| (format!("pile/{}", row.text(0).unwrap()), row.integer(1).unwrap() as u64)).collect();
    let folded: BTreeMap<String, u64> = versions.iter().map(|(stream, count)| (stream.to_string(), *count)).collect();
    assert_eq!(views, folded, "the read model is the fold of the events");
    journal.close().await;
    parts_of.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_loses_no_acknowledged_command_and_tears_none() {
    if let Ok(directory) = env::var(CHILD_DIRECTORY) {
        work(Path::new(&directory), env::var(CHILD_ROUND).unwrap().parse().unwrap()).await;
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut random = Random::new(9);
    let mut acknowledged = BTreeSet::new();
    let mut there = 0;
    let kills = env::var("KILL_9_ROUNDS").map_or(KILLS, |kills| kills.parse().unwrap());
    for round in 1..=kills {
        let life = Duration::from_millis(LIFE_MS.start + random.below(LIFE_MS.end - LIFE_MS.start));
        let path = directory.path().to_owned();
        let heard = tokio::task::spawn_blocking(move || one_life(&path, round, life)).await.unwrap();
        assert!(!heard.is_empty());
        acknowledged.extend(heard);
        there = check(directory.path(), &acknowledged).await;
    }
    println!("{kills} kills, {} commands acknowledged, {there} there", acknowledged.len());
}
