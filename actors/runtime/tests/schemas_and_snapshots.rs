//! An event written by an older build means what it meant; a snapshot is a cache and never the truth.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::{path::Path, sync::Arc, time::Duration};

use microcommerce_runtime::{
    CommandId, CommandMeta, Entities, EntitiesConfig, Entity, Gate, Journal, Roster,
    entity::EventPayload,
    event_samples,
    supervision::{Supervisor, SupervisorSpec},
    testkit::{Faults, MemoryDisk, MemoryJournal, Random, golden},
};
use proptest::prelude::*;
use ractor::Actor;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::time::Instant;

const PATIENCE: Duration = Duration::from_secs(20);

/// A thermometer in three builds. The first wrote whole degrees Fahrenheit; the second named the unit; the third writes
/// thousandths of a degree Celsius, and calls a reading what the others called a measurement.
mod first {
    use super::*;

    pub struct Thermometer;

    #[derive(Clone, Debug, Serialize, Deserialize)]
    pub enum Event {
        Measured { fahrenheit: i64 },
    }

    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    pub struct State {
        pub last_fahrenheit: i64,
        pub readings: u64,
    }

    impl EventPayload for Event {
        fn event_type(&self) -> &'static str {
            "thermometer.measured"
        }
    }

    impl Entity for Thermometer {
        const KIND: &'static str = "thermometer";
        const SCHEMA: u32 = 1;
        type State = State;
        type Command = i64;
        type Event = Event;
        type Refusal = ();
        fn decide(_: &State, fahrenheit: i64) -> Result<Vec<Event>, ()> {
            Ok(vec![Event::Measured { fahrenheit }])
        }
        fn evolve(state: &mut State, Event::Measured { fahrenheit }: &Event) {
            *state = State { last_fahrenheit: *fahrenheit, readings: state.readings + 1 };
        }
    }
}

mod second {
    use super::*;

    pub struct Thermometer;

    #[derive(Clone, Debug, Serialize, Deserialize)]
    pub enum Event {
        Measured { degrees: i64, unit: String },
    }

    impl EventPayload for Event {
        fn event_type(&self) -> &'static str {
            "thermometer.measured"
        }
    }

    pub fn upcast(from: u32, mut payload: Value) -> Value {
        if from == 1 {
            let degrees = payload["Measured"]["fahrenheit"].take();
            payload = json!({ "Measured": { "degrees": degrees, "unit": "fahrenheit" } });
        }
        payload
    }

    impl Entity for Thermometer {
        const KIND: &'static str = "thermometer";
        const SCHEMA: u32 = 2;
        type State = super::first::State;
        type Command = i64;
        type Event = Event;
        type Refusal = ();
        fn decide(_: &Self::State, degrees: i64) -> Result<Vec<Event>, ()> {
            Ok(vec![Event::Measured { degrees, unit: "fahrenheit".to_owned() }])
        }
        fn evolve(state: &mut Self::State, Event::Measured { degrees, .. }: &Event) {
            *state = Self::State { last_fahrenheit: *degrees, readings: state.readings + 1 };
        }
        fn upcast(_: &str, from: u32, payload: Value) -> Value {
            upcast(from, payload)
        }
    }
}

mod third {
    use super::*;

    pub struct Thermometer;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub enum Event {
        Read { millidegrees_celsius: i64 },
        Calibrated { by_millidegrees: i64 },
    }

    /// Another shape than the older builds': their snapshots must not be taken for this.
    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    pub struct State {
        pub readings: u64,
        pub last_millidegrees_celsius: i64,
        pub offset: i64,
    }

    impl EventPayload for Event {
        fn event_type(&self) -> &'static str {
            match self {
                // The name stays what it was: it stands in journals.
                Self::Read { .. } => "thermometer.measured",
                Self::Calibrated { .. } => "thermometer.calibrated",
            }
        }
    }

    impl Entity for Thermometer {
        const KIND: &'static str = "thermometer";
        const SCHEMA: u32 = 3;
        type State = State;
        type Command = Event;
        type Event = Event;
        type Refusal = ();
        fn decide(_: &State, event: Event) -> Result<Vec<Event>, ()> {
            Ok(vec![event])
        }
        fn evolve(state: &mut State, event: &Event) {
            match event {
                Event::Read { millidegrees_celsius } => {
                    state.readings += 1;
                    state.last_millidegrees_celsius = millidegrees_celsius + state.offset;
                }
                Event::Calibrated { by_millidegrees } => state.offset = *by_millidegrees,
            }
        }
        /// Step by step: each build knows only the one before it.
        fn upcast(_: &str, from: u32, payload: Value) -> Value {
            let payload = second::upcast(from, payload);
            let degrees = payload["Measured"]["degrees"].as_i64().unwrap_or_default();
            json!({ "Read": { "millidegrees_celsius": (degrees - 32) * 5_000 / 9 } })
        }
    }
}

/// A build of some entity, running on `disk`.
struct Build<E: Entity> {
    entities: Entities<E>,
    journal: Arc<MemoryJournal>,
    supervisor: ractor::ActorRef<microcommerce_runtime::supervision::SupervisorMessage>,
}

impl<E: Entity<Refusal = ()>> Build<E> {
    async fn start(disk: &MemoryDisk, snapshot_every: u64) -> Self {
        let journal = MemoryJournal::open(disk, Faults::none()).await.unwrap();
        let as_journal: Arc<dyn Journal> = journal.clone();
        let config = EntitiesConfig { shards: 1, snapshot_every, ..EntitiesConfig::default() };
        let entities = Entities::<E>::new(as_journal, &Gate::new(1_000), config, Roster::new());
        let spec = SupervisorSpec::new("test", entities.shards());
        let (supervisor, _) = Supervisor::spawn(None, Supervisor, (spec, Roster::new())).await.unwrap();
        Self { entities, journal, supervisor }
    }

    async fn ask(&self, number: u128, command: E::Command) {
        let meta = CommandMeta::new(CommandId::from_u128(number), PATIENCE);
        self.entities.ask("a", command, meta).await.map(drop).map_err(|error| error.to_string()).unwrap();
    }

    async fn state(&self) -> (E::State, u64)
    where
        E::State: Clone,
    {
        let read = self.entities.read("a", Instant::now() + PATIENCE, |state, version| (state.clone(), version)).await;
        read.map_err(|error| error.to_string()).unwrap()
    }

    async fn stop(self) {
        self.supervisor.stop_and_wait(None, None).await.unwrap();
        self.journal.close().await;
    }
}

fn snapshots(disk: &MemoryDisk) -> Vec<(i64, Vec<u8>)> {
    let rows = disk.query("SELECT version, state FROM snapshots", &[]).unwrap();
    let read = |row: &microcommerce_runtime::Row| match &row.0[1] {
        microcommerce_runtime::SqlValue::Blob(bytes) => (row.integer(0).unwrap(), bytes.clone()),
        other => panic!("a snapshot is bytes, not {other:?}"),
    };
    rows.iter().map(read).collect()
}

#[tokio::test]
async fn three_builds_in_a_row_read_one_stream_and_no_snapshot_of_another_schema() {
    let disk = MemoryDisk::new("").unwrap();
    let build = Build::<first::Thermometer>::start(&disk, 2).await;
    for number in 0..3 {
        build.ask(number, 212).await;
    }
    build.stop().await;
    let of_the_first = snapshots(&disk);
    assert_eq!(of_the_first[0].0, 2, "there is a snapshot to be ignored");

    let build = Build::<second::Thermometer>::start(&disk, 1_000).await;
    // The states have one shape, so a snapshot of the first build could be decoded: its schema alone forbids it.
    assert_eq!(build.state().await, (first::State { last_fahrenheit: 212, readings: 3 }, 3));
    build.ask(10, 32).await;
    build.stop().await;
    assert_eq!(snapshots(&disk), of_the_first);

    let build = Build::<third::Thermometer>::start(&disk, 2).await;
    let expected = third::State { readings: 4, last_millidegrees_celsius: 0, offset: 0 };
    assert_eq!(build.state().await, (expected, 4));
    build.ask(20, third::Event::Calibrated { by_millidegrees: 500 }).await;
    build.ask(21, third::Event::Read { millidegrees_celsius: 20_000 }).await;
    let (state, version) = build.state().await;
    build.stop().await;
    assert_eq!(snapshots(&disk).len(), 1);
    assert_ne!(snapshots(&disk), of_the_first, "the present build writes its own");

    let build = Build::<third::Thermometer>::start(&disk, 2).await;
    assert_eq!(build.state().await, (state, version));
    assert_eq!(version, 6);
    build.stop().await;
    let schemas: Vec<u32> = disk.events().unwrap().iter().map(|event| event.schema).collect();
    assert_eq!(schemas, [1, 1, 1, 2, 3, 3], "what was written is never written again");
}

fn corpus() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/thermometer")
}

fn samples() -> Vec<third::Event> {
    event_samples!(third::Event {
        third::Event::Read { .. } => third::Event::Read { millidegrees_celsius: 21_500 },
        third::Event::Calibrated { .. } => third::Event::Calibrated { by_millidegrees: -250 },
    })
}

#[test]
fn every_event_that_was_ever_written_means_what_it_meant() {
    golden::check::<third::Thermometer>(&corpus(), samples());
}

#[test]
fn the_corpus_notices_what_would_break_old_journals() {
    let directory = tempfile::tempdir().unwrap();
    let faults =
        |samples: &[third::Event], writes| golden::faults::<third::Thermometer>(directory.path(), samples, writes);
    assert_eq!(
        faults(&samples(), false).len(),
        2 + 2,
        "nothing is there yet: neither the samples nor the states after them"
    );
    assert_eq!(faults(&samples(), true), Vec::<String>::new(), "written");
    assert_eq!(faults(&samples(), false), Vec::<String>::new(), "and read");
    // A payload of the present schema that changes its form.
    let changed = [third::Event::Read { millidegrees_celsius: 1 }, samples().remove(1)];
    let found = faults(&changed, true);
    assert!(found[0].contains("thermometer.measured.v3.json: the payload differs"), "{}", found[0]);
    assert!(found[1..].iter().all(|fault| fault.contains("Entity::STATE_VERSION")), "{found:?}");
    // A variant that nobody samples any more.
    assert!(faults(&samples()[..1], false)[0].contains("thermometer.calibrated.v3.json: no sample"));
    // An old payload that means something else today, or nothing at all.
    let put = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    put("thermometer.measured.v1.json", r#"{"Measured":{"fahrenheit":212}}"#);
    assert_eq!(faults(&samples(), true), Vec::<String>::new());
    put("thermometer.measured.v1.now.json", r#"{"Read":{"millidegrees_celsius":1}}"#);
    assert!(faults(&samples(), true)[0].contains("thermometer.measured.v1.now.json: today's meaning differs"));
    put("thermometer.measured.v1.now.json", r#"{"Read":{"millidegrees_celsius":100000}}"#);
    put("thermometer.lost.v3.2.json", r#"{"Lost":{}}"#);
    assert_eq!(faults(&samples(), false).len(), 2, "not read, and not sampled");
}

/// The thermometer, with a state that is written in other bytes.
struct Wider<const STATE: u32>;

impl<const STATE: u32> Entity for Wider<STATE> {
    const KIND: &'static str = "thermometer";
    const SCHEMA: u32 = 3;
    const STATE_VERSION: u32 = STATE;
    type State = (third::State, Option<u64>);
    type Command = ();
    type Event = third::Event;
    type Refusal = ();
    fn decide(_: &Self::State, (): ()) -> Result<Vec<third::Event>, ()> {
        Ok(vec![])
    }
    fn evolve((state, _): &mut Self::State, event: &third::Event) {
        third::Thermometer::evolve(state, event);
    }
}

#[test]
fn the_corpus_notices_a_state_of_another_form_under_the_same_version() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(golden::faults::<third::Thermometer>(directory.path(), &samples(), true), Vec::<String>::new());
    let found = golden::faults::<Wider<1>>(directory.path(), &samples(), true);
    assert_eq!(found.len(), 2, "each state is written otherwise: {found:?}");
    assert!(found.iter().all(|fault| fault.contains("a new Entity::STATE_VERSION")), "{found:?}");
    let of_the_next = |writes| golden::faults::<Wider<2>>(directory.path(), &samples(), writes);
    assert!(of_the_next(false).iter().all(|fault| fault.starts_with("state.v3.v2.digests: nothing is said of")));
    assert_eq!((of_the_next(true), of_the_next(false)), (vec![], vec![]));
}

#[tokio::test]
async fn a_repeated_command_is_known_although_its_entitys_snapshot_cannot_be_read() {
    let disk = MemoryDisk::new("").unwrap();
    let build = Build::<third::Thermometer>::start(&disk, 4).await;
    for number in 0..10 {
        build.ask(number, third::Event::Read { millidegrees_celsius: 1_000 }).await;
    }
    let truth = build.state().await;
    build.stop().await;
    assert_eq!(snapshots(&disk)[0].0, 8);
    disk.tamper("UPDATE snapshots SET state = x'ff'").unwrap();
    let build = Build::<third::Thermometer>::start(&disk, 4).await;
    // From before the snapshot, and from after it.
    for number in 0..10 {
        let meta = CommandMeta::new(CommandId::from_u128(number), PATIENCE);
        let again = build.entities.ask("a", third::Event::Read { millidegrees_celsius: 9 }, meta).await.unwrap();
        assert!(again.is_repeat, "command {number}");
        assert_eq!(again.events, [third::Event::Read { millidegrees_celsius: 1_000 }]);
    }
    assert_eq!(build.state().await, truth);
    build.stop().await;
    assert_eq!(disk.events().unwrap().len(), 10);
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_read_is_ignored_and_the_events_are_read() {
    for damage in ["x''", "x'ff'", "x'0100000003'", "x'010000000300'", "x'01ffffffff00'", "substr(state, 1, 6)"] {
        let disk = MemoryDisk::new("").unwrap();
        let build = Build::<third::Thermometer>::start(&disk, 4).await;
        for number in 0..10 {
            build.ask(number, third::Event::Read { millidegrees_celsius: 1_000 * number as i64 }).await;
        }
        let truth = build.state().await;
        build.stop().await;
        assert_eq!(snapshots(&disk)[0].0, 8);
        disk.tamper(&format!("UPDATE snapshots SET state = {damage}")).unwrap();
        let build = Build::<third::Thermometer>::start(&disk, 4).await;
        assert_eq!(build.state().await, truth, "damage {damage}");
        // And it goes on from there.
        build.ask(99, third::Event::Read { millidegrees_celsius: 7 }).await;
        assert_eq!(build.state().await.1, truth.1 + 1);
        build.stop().await;
    }
}

/// An entity whose state has everything a state may have.
mod ledger {
    use std::collections::BTreeMap;

    use super::*;

    pub struct Ledger;

    #[derive(Clone, Debug, Serialize, Deserialize)]
    pub enum Event {
        Noted { key: String, value: Option<i64> },
        Forgotten { key: String },
        Cleared {},
    }

    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    pub struct State {
        pub notes: BTreeMap<String, Option<i64>>,
        pub history: Vec<(u64, String)>,
        pub last: Option<Box<State>>,
    }

    impl EventPayload for Event {
        fn event_type(&self) -> &'static str {
            match self {
                Self::Noted { .. } => "ledger.noted",
                Self::Forgotten { .. } => "ledger.forgotten",
                Self::Cleared {} => "ledger.cleared",
            }
        }
    }

    impl Entity for Ledger {
        const KIND: &'static str = "ledger";
        type State = State;
        type Command = Vec<Event>;
        type Event = Event;
        type Refusal = ();
        fn decide(_: &State, events: Vec<Event>) -> Result<Vec<Event>, ()> {
            Ok(events)
        }
        fn evolve(state: &mut State, event: &Event) {
            state.history.push((state.history.len() as u64, event.event_type().to_owned()));
            match event {
                Event::Noted { key, value } => drop(state.notes.insert(key.clone(), *value)),
                Event::Forgotten { key } => drop(state.notes.remove(key)),
                Event::Cleared {} => {
                    let last = State { last: None, ..std::mem::take(state) };
                    state.last = Some(Box::new(last));
                }
            }
        }
    }

    pub fn event(random: &mut Random) -> Event {
        let key = format!("k{}", random.below(5));
        match random.below(8) {
            0 => Event::Cleared {},
            1 | 2 => Event::Forgotten { key },
            _ => Event::Noted { key, value: random.chance(0.7).then(|| random.next().cast_signed()) },
        }
    }
}

fn fold<E: Entity>(events: &[E::Event]) -> E::State {
    let mut state = E::State::default();
    events.iter().for_each(|event| E::evolve(&mut state, event));
    state
}

async fn state_after_a_restart<E: Entity<Refusal = ()>>(disk: &MemoryDisk) -> (E::State, u64)
where
    E::State: Clone + DeserializeOwned,
{
    let build = Build::<E>::start(disk, 1_000).await;
    let state = build.state().await;
    build.stop().await;
    state
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_snapshot_and_its_tail_are_all_the_events(seed: u64, commands in 1_usize..40, snapshot_every in 1_u64..12) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut random = Random::new(seed);
            let disk = MemoryDisk::new("").unwrap();
            let build = Build::<ledger::Ledger>::start(&disk, snapshot_every).await;
            let mut all = Vec::new();
            for number in 0..commands {
                let events: Vec<_> = (0..random.below(4)).map(|_| ledger::event(&mut random)).collect();
                all.extend(events.clone());
                build.ask(number as u128, events).await;
            }
            build.stop().await;
            let expected = (fold::<ledger::Ledger>(&all), all.len() as u64);
            assert_eq!(snapshots(&disk).is_empty(), expected.1 < snapshot_every);
            assert_eq!(state_after_a_restart::<ledger::Ledger>(&disk).await, expected, "snapshot and tail");
            disk.tamper("DELETE FROM snapshots").unwrap();
            assert_eq!(state_after_a_restart::<ledger::Ledger>(&disk).await, expected, "the events alone");
        });
    }
}
