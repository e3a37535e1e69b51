//! What holds whatever goes wrong, and in whatever order: thousands of seeded runs in virtual time, against a model.
//!
//! The model is what the clients were told. After each run: what was acknowledged is in the journal exactly once, what was
//! not is there at most once, an entity's commands are in the order of its client, nothing hangs, and the read model is the
//! fold of the events.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::future::join_all;
use microcommerce_runtime::{
    AskError, CommandId, Entities, EntitiesConfig, EntityId, Gate, ParkingRules,
    testkit::{Fault, Participant, Service, Simulation, Trace, for_every_seed, simulate},
};
use support::{Count, Counter, VIEWS};

const SHARDS: usize = 2;
const ENTITIES: u64 = 6;
const CLIENTS: u64 = 6;
/// Nobody may hang: a run of this much virtual time has hung.
const VIRTUAL_TIME_MAX: Duration = Duration::from_secs(3_600);
/// How long a client waits for one answer: a multiple of the turns' 64 ms, so that it ends in the client's own turn.
const PATIENCE: Duration = Duration::from_millis(64 * 100);
/// By then everybody works again when nothing goes wrong any more: a few answers' time.
const BACK_WITHIN: Duration = Duration::from_secs(30);
/// A client gives a command up after so many tries.
const TRIES_MAX: u32 = 4;

/// Room for two of three awake, and nobody stays awake for long.
fn crowded() -> EntitiesConfig {
    EntitiesConfig {
        shards: SHARDS,
        active_per_shard_max: 2,
        idle_after: Duration::from_millis(500),
        snapshot_every: 3,
        recoveries_per_shard_max: 1,
        // Its own tests are in `poison_entities.rs`; here every fall is chance.
        parking: ParkingRules { falls_max: usize::MAX, ..ParkingRules::default() },
        ..EntitiesConfig::default()
    }
}

async fn counters(simulation: &Simulation, config: EntitiesConfig) -> Service<Entities<Counter>> {
    simulation
        .service("counting", VIEWS, move |journal, roster| {
            let counters = Entities::<Counter>::new(journal, &Gate::new(1_000), config.clone(), roster);
            let shards = counters.shards();
            (counters, shards)
        })
        .await
}

fn ids() -> Vec<EntityId> {
    (0..ENTITIES).map(|number| format!("e{number}").into()).collect()
}

/// What a client was told about its commands: the amount is the command's name.
#[derive(Default)]
struct Told {
    acknowledged: BTreeMap<i64, EntityId>,
    unknown: BTreeMap<i64, EntityId>,
}

/// One client: asks one thing after the other, each until it is answered or given up. The amounts of one client grow.
async fn client(simulation: Simulation, service: Service<Entities<Counter>>, number: u64, commands: i64) -> Told {
    let mut participant = simulation.participant("client", number);
    let mut told = Told::default();
    for command in 0..commands {
        let amount = number as i64 * 1_000 + command + 1;
        let id = participant.random.pick(&ids()).unwrap().clone();
        let mut is_acknowledged = false;
        for _ in 0..TRIES_MAX {
            participant.pause(Duration::from_millis(400)).await;
            let Ok(counters) = service.handle() else { continue };
            let meta = simulation.command(CommandId::from_u128(amount as u128), PATIENCE);
            let answer = counters.ask(Arc::clone(&id), Count::Add(amount), meta).await;
            let outcome = answer.as_ref().map(|accepted| (accepted.version, accepted.is_repeat));
            simulation.note(format!("client {number}: {amount} to {id}: {outcome:?}"));
            match answer {
                Ok(accepted) => {
                    assert_eq!(accepted.events, [support::Counted::Added { amount }], "the answer is this command's");
                    is_acknowledged = true;
                    break;
                }
                Err(AskError::Unavailable | AskError::DeadlineExceeded) => {}
                Err(other) => panic!("nobody refuses: {other:?}"),
            }
        }
        if is_acknowledged { &mut told.acknowledged } else { &mut told.unknown }.insert(amount, id);
    }
    told
}

async fn disturb(simulation: Simulation, service: Service<Entities<Counter>>, faults: u32) {
    let mut participant = simulation.participant("faults", 0);
    for _ in 0..faults {
        participant.pause(Duration::from_millis(800)).await;
        let fault = Fault::draw(&mut participant.random, &ids(), SHARDS);
        simulation.note(format!("fault: {fault:?}"));
        fault.inject(&service, |counters| counters);
    }
    participant.pause(Duration::ZERO).await;
    service.faults.heal();
}

/// What is on the disk: (stream, amount) in the order of commits; checks that streams have no gap on the way.
fn on_disk(service: &Service<Entities<Counter>>) -> Vec<(EntityId, i64)> {
    let mut versions: BTreeMap<Arc<str>, u64> = BTreeMap::new();
    let events = service.disk.events().unwrap();
    let positions: Vec<_> = events.iter().map(|event| event.position).collect();
    assert!(positions.is_sorted_by(|a, b| a < b));
    let read = |event: &microcommerce_runtime::Recorded| {
        let version = versions.entry(Arc::clone(&event.stream)).or_default();
        *version += 1;
        assert_eq!(event.version, *version, "{} has a gap", event.stream);
        let payload: serde_json::Value = serde_json::from_str(&event.payload).unwrap();
        (event.kind_and_id().1.into(), payload["Added"]["amount"].as_i64().unwrap())
    };
    events.iter().map(read).collect()
}

fn check(service: &Service<Entities<Counter>>, told: &[Told]) {
    let events = on_disk(service);
    let distinct: BTreeSet<i64> = events.iter().map(|(_, amount)| *amount).collect();
    assert_eq!(distinct.len(), events.len(), "a command is there twice");
    for (client, told) in told.iter().enumerate() {
        for (amount, id) in &told.acknowledged {
            let is_there = events.iter().any(|(at, there)| at == id && there == amount);
            assert!(is_there, "client {client}: {amount} was acknowledged and is not there");
        }
        let of_this_client = |(_, amount): &&(EntityId, i64)| amount / 1_000 == client as i64;
        for (id, amount) in events.iter().filter(of_this_client) {
            let asked = told.acknowledged.get(amount).or_else(|| told.unknown.get(amount));
            assert_eq!(asked, Some(id), "{amount} is there and nobody asked that of {id}");
        }
        // A client asks one thing after the other: what was acknowledged is in that order.
        let order: Vec<i64> = events.iter().filter(of_this_client).map(|(_, amount)| *amount).collect();
        let acknowledged: Vec<i64> =
            order.iter().copied().filter(|amount| told.acknowledged.contains_key(amount)).collect();
        assert!(acknowledged.is_sorted(), "client {client}'s commands are out of order: {order:?}");
    }
    let mut totals: BTreeMap<EntityId, i64> = BTreeMap::new();
    for (id, amount) in &events {
        *totals.entry(Arc::clone(id)).or_default() += amount;
    }
    let rows = service.disk.query("SELECT id, total FROM totals ORDER BY id", &[]).unwrap();
    let views: BTreeMap<EntityId, i64> =
        rows.iter().map(|row| (row.text(0).unwrap().into(), row.integer(1).unwrap())).collect();
    assert_eq!(views, totals, "the read model is the fold of the events");
}

/// An entity's total and version. The last faults may have left its shard, or its service, starting again, or it may not know yet that
/// its last write was refused: then who asks is told to ask again.
async fn once_it_is_back(asker: &mut Participant, service: &Service<Entities<Counter>>, id: &EntityId) -> (i64, u64) {
    let asked = tokio::time::Instant::now();
    loop {
        assert!(asked.elapsed() < BACK_WITHIN, "{id} does not work again");
        if let Ok(counters) = service.handle() {
            let deadline = tokio::time::Instant::now() + PATIENCE;
            match counters.read(Arc::clone(id), deadline, |state, version| (state.0, version)).await {
                Ok(read) => return read,
                Err(AskError::Unavailable | AskError::DeadlineExceeded) => {}
                Err(other) => panic!("nobody refuses: {other:?}"),
            }
        }
        asker.pause(Duration::from_secs(1)).await;
    }
}

/// One run: clients and faults together, then quiet, then the books are compared.
async fn storm(simulation: Simulation, faults: u32, commands: i64) {
    let service = counters(&simulation, crowded()).await;
    let clients = (0..CLIENTS).map(|number| client(simulation.clone(), service.clone(), number, commands));
    let (told, ()) = futures::join!(join_all(clients), disturb(simulation.clone(), service.clone(), faults));
    // Everybody still works, and memory says what the disk says.
    let mut last = simulation.participant("last", 0);
    last.pause(Duration::from_secs(1)).await;
    for id in ids() {
        let in_memory = once_it_is_back(&mut last, &service, &id).await;
        let of_id = |(at, _): &&(EntityId, i64)| *at == id;
        let events = on_disk(&service);
        let amounts: Vec<i64> = events.iter().filter(of_id).map(|(_, amount)| *amount).collect();
        assert_eq!(in_memory, (amounts.iter().sum(), amounts.len() as u64), "{id}: memory is not the journal");
    }
    assert_eq!(service.handle().unwrap().in_flight(), 0, "every permit was given back");
    check(&service, &told);
    for (id, amount) in on_disk(&service) {
        simulation.note(format!("on disk: {id} {amount}"));
    }
    service.stop().await;
}

/// Sleep alone: no faults, so nobody has a reason to be told anything but yes.
async fn restless_nights(simulation: Simulation) {
    let service = counters(&simulation, crowded()).await;
    service.faults.delay_commits(Duration::ZERO..=Duration::from_millis(300));
    service.faults.delay_reads(Duration::ZERO..=Duration::from_millis(100));
    let (told, is_over) = (Mutex::new(Vec::new()), std::cell::Cell::new(false));
    let clients = async {
        let clients = (0..CLIENTS).map(|number| {
            let (simulation, service, told) = (simulation.clone(), service.clone(), &told);
            async move {
                let mut participant = simulation.participant("client", number);
                for command in 0..12 {
                    participant.pause(Duration::from_millis(200)).await;
                    // Some at once, to one entity: they meet it awake, falling asleep and asleep.
                    let id = participant.random.pick(&ids()).unwrap().clone();
                    let amounts = (0..3).map(|part| number as i64 * 1_000 + command * 3 + part);
                    let counters = service.handle().unwrap();
                    let asks = amounts.clone().map(|amount| {
                        let meta = simulation.command(CommandId::from_u128(amount as u128), PATIENCE);
                        counters.ask(Arc::clone(&id), Count::Add(amount), meta)
                    });
                    let answers = join_all(asks.collect::<Vec<_>>()).await;
                    let versions: Vec<_> = answers.into_iter().map(|answer| answer.unwrap().version).collect();
                    assert!(versions.is_sorted_by(|a, b| a < b), "in the order in which they were asked: {versions:?}");
                    told.lock().unwrap().extend(amounts.map(|amount| (Arc::clone(&id), amount)));
                }
            }
        });
        join_all(clients.collect::<Vec<_>>()).await;
        is_over.set(true);
    };
    let storm = async {
        let mut participant = simulation.participant("sandman", 0);
        while !is_over.get() {
            participant.pause(Duration::from_millis(150)).await;
            service.handle().unwrap().inject_sleep();
        }
    };
    futures::join!(clients, storm);
    let (mut told, mut there) = (told.into_inner().unwrap(), on_disk(&service));
    told.sort();
    there.sort();
    assert_eq!(there, told, "every command is there exactly once");
    service.stop().await;
}

#[test]
fn passivation_loses_no_command_and_refuses_nobody() {
    for_every_seed(1_000, VIRTUAL_TIME_MAX, restless_nights);
}

#[test]
fn passivation_and_every_fault_lose_no_acknowledged_command_and_repeat_none() {
    for_every_seed(1_000, VIRTUAL_TIME_MAX, |simulation| storm(simulation, 12, 6));
}

#[test]
fn a_long_storm_loses_nothing_either() {
    for_every_seed(4, VIRTUAL_TIME_MAX, |simulation| storm(simulation, 400, 150));
}

fn trace(seed: u64) -> Trace {
    simulate(seed, VIRTUAL_TIME_MAX, |simulation| storm(simulation, 20, 10))
}

#[test]
fn a_seed_fixes_a_run_and_another_seed_is_another_run() {
    let mut digests = BTreeSet::new();
    for seed in 0..60 {
        let (first, second) = (trace(seed), trace(seed));
        let differs = first.lines.iter().zip(&second.lines).find(|(a, b)| a != b);
        assert_eq!(first.digest(), second.digest(), "seed {seed} ran differently: {differs:?}");
        digests.insert(first.digest());
    }
    assert_eq!(digests.len(), 60, "other seeds, other runs");
}

#[test]
fn the_faults_really_happen() {
    let what_was_told = Mutex::new(BTreeSet::new());
    for seed in 0..40 {
        for (_, line) in trace(seed).lines {
            let kinds =
                ["Ok((1, false", "is_repeat", "true))", "Unavailable", "RefuseWrites", "Lost", "Unacknowledged"];
            let more = ["SlowCommits", "Panic", "KillShard", "PutAllToSleep"];
            let found = kinds.into_iter().chain(more).filter(|kind| line.contains(kind));
            what_was_told.lock().unwrap().extend(found);
        }
    }
    let told = what_was_told.into_inner().unwrap();
    for kind in ["true))", "Unavailable", "RefuseWrites", "Lost", "Unacknowledged", "SlowCommits", "Panic", "KillShard"]
    {
        assert!(told.contains(kind), "in 40 runs there was no {kind}");
    }
}

#[test]
#[should_panic(expected = "somebody hangs")]
fn a_run_in_which_somebody_hangs_fails() {
    simulate(1, VIRTUAL_TIME_MAX, |_| std::future::pending());
}
