//! Totals over all entities of a kind are what adding up their rows would give: as commands write them, and projected anew.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::{path::Path, sync::Arc, time::Duration};

use microcommerce_runtime::{
    CommandId, CommandMeta, Entities, EntitiesConfig, Entity, EntityId, Gate, Journal, Roster, SqlValue, ViewSchema,
    ViewWrite,
    entity::EventPayload,
    journal::sqlite::{SqliteJournal, SqliteOptions},
    supervision::{Supervisor, SupervisorSpec},
    totals::Counts,
};
use proptest::prelude::*;
use ractor::Actor;
use serde::{Deserialize, Serialize};

const TABLES: &[&str] = &["
CREATE TABLE IF NOT EXISTS parcels (id TEXT PRIMARY KEY, place TEXT NOT NULL, grams INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS places (place TEXT PRIMARY KEY, parcels INTEGER NOT NULL, grams INTEGER NOT NULL) STRICT;
"];
const UPSERT: &str = "INSERT INTO parcels (id, place, grams) VALUES (?1, ?2, ?3) \
                      ON CONFLICT (id) DO UPDATE SET place = excluded.place, grams = excluded.grams";
const DELETE: &str = "DELETE FROM parcels WHERE id = ?1";
const KEPT: &str = "SELECT place, parcels, grams FROM places WHERE parcels <> 0 OR grams <> 0 ORDER BY place";
const ADDED_UP: &str = "SELECT place, count(*), sum(grams) FROM parcels GROUP BY place ORDER BY place";

/// A parcel; `VERSION` is that of its read model.
struct Parcel<const VERSION: u32>;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Somewhere(Option<(String, i64)>);

/// All of it happens in one command.
#[derive(Clone, Debug)]
struct Happens(Vec<Happened>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Happened {
    Arrived { place: String, grams: i64 },
    Filled { grams: i64 },
    HandedOver {},
}

impl EventPayload for Happened {
    fn event_type(&self) -> &'static str {
        "parcel.happened"
    }
}

impl<const VERSION: u32> Entity for Parcel<VERSION> {
    const KIND: &'static str = "parcel";
    const TABLES: &'static [&'static str] = TABLES;
    const VIEW_VERSION: u32 = VERSION;
    const ADD_TO_TOTALS: &'static str = "INSERT INTO places (place, parcels, grams) VALUES (?1, ?2, ?3) \
         ON CONFLICT (place) DO UPDATE SET parcels = parcels + excluded.parcels, grams = grams + excluded.grams";
    type State = Somewhere;
    type Command = Happens;
    type Event = Happened;
    type Refusal = ();

    fn decide(_: &Somewhere, Happens(events): Happens) -> Result<Vec<Happened>, ()> {
        Ok(events)
    }

    fn evolve(Somewhere(state): &mut Somewhere, event: &Happened) {
        match (event, state) {
            (Happened::Arrived { place, grams }, state) => *state = Some((place.clone(), *grams)),
            (Happened::Filled { grams: more }, Some((_, grams))) => *grams += more,
            (Happened::Filled { .. }, None) => {}
            (Happened::HandedOver {}, state) => *state = None,
        }
    }

    fn views(id: &EntityId, Somewhere(state): &Somewhere, _: &Happened, _: i64) -> Vec<ViewWrite> {
        vec![match state {
            Some((place, grams)) => {
                ViewWrite::new(UPSERT, vec![(&**id).into(), place.as_str().into(), (*grams).into()])
            }
            None => ViewWrite::new(DELETE, vec![(&**id).into()]),
        }]
    }

    fn counts(Somewhere(state): &Somewhere) -> Option<Counts> {
        state.as_ref().map(|(place, grams)| Counts::new(&**place, [1, *grams]))
    }
}

fn open<const VERSION: u32>(directory: &Path) -> Arc<SqliteJournal> {
    const FIRST: &[ViewSchema] = &[ViewSchema::of::<Parcel<1>>()];
    const SECOND: &[ViewSchema] = &[ViewSchema::of::<Parcel<2>>()];
    SqliteJournal::open(&SqliteOptions::new(directory, if VERSION == 1 { FIRST } else { SECOND })).unwrap()
}

async fn rows(journal: &SqliteJournal, sql: &'static str) -> Vec<Vec<SqlValue>> {
    journal.query(sql, vec![]).await.unwrap().into_iter().map(|row| row.0).collect()
}

/// Runs the commands; gives the totals.
async fn run(directory: &Path, commands: Vec<(u8, Vec<Happened>)>) -> Vec<Vec<SqlValue>> {
    let journal = open::<1>(directory);
    let roster = Roster::new();
    let as_journal: Arc<dyn Journal> = journal.clone();
    let parcels = Entities::<Parcel<1>>::new(as_journal, &Gate::new(1_000), EntitiesConfig::default(), roster.clone());
    let spec = SupervisorSpec::new("parcels", parcels.shards());
    let (supervisor, _) = Supervisor::spawn(None, Supervisor, (spec, roster)).await.unwrap();
    for (number, (id, events)) in commands.into_iter().enumerate() {
        let meta = CommandMeta::new(CommandId::of(&["happens", &number.to_string()]), Duration::from_secs(20));
        parcels.ask(format!("p{id}"), Happens(events), meta).await.unwrap();
    }
    let kept = rows(&journal, KEPT).await;
    assert_eq!(kept, rows(&journal, ADDED_UP).await, "kept with each command");
    supervisor.stop_and_wait(None, None).await.unwrap();
    journal.close().await;

    let journal = open::<2>(directory);
    assert_eq!(kept, rows(&journal, KEPT).await, "projected anew");
    journal.close().await;
    kept
}

fn happened() -> impl Strategy<Value = Happened> {
    prop_oneof![
        3 => ("[abc]", 0..1_000_i64).prop_map(|(place, grams)| Happened::Arrived { place, grams }),
        3 => (-50..50_i64).prop_map(|grams| Happened::Filled { grams }),
        1 => Just(Happened::HandedOver {}),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn totals_are_the_sums_over_all(commands in prop::collection::vec((0..6_u8, prop::collection::vec(happened(), 0..4)), 1..40)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let directory = tempfile::tempdir().unwrap();
        runtime.block_on(run(directory.path(), commands));
    }
}

#[tokio::test]
async fn one_parcel_counts_where_it_is_and_nowhere_else() {
    let directory = tempfile::tempdir().unwrap();
    let arrived = |place: &str, grams| Happened::Arrived { place: place.to_owned(), grams };
    let commands = vec![
        (1, vec![arrived("a", 100), Happened::Filled { grams: 5 }]),
        (2, vec![arrived("a", 10), arrived("b", 20)]),
        (3, vec![arrived("b", 1), Happened::HandedOver {}]),
        (1, vec![Happened::Filled { grams: -6 }]),
    ];
    let row = |place: &str, parcels: i64, grams: i64| vec![place.into(), parcels.into(), grams.into()];
    assert_eq!(run(directory.path(), commands).await, [row("a", 1, 99), row("b", 1, 20)]);
}
