//! Ours and its controls in turns, and the tables of what came out.
//!
//! On a shared machine a figure is worth little and a ratio of two neighbours a lot: each round runs a measurement and its
//! controls back to back, and the median of the rounds' ratios is what counts. `ratios [ROUNDS] [PART OF A NAME]`; without
//! a name everything is measured.

use std::cell::LazyCell;

use microcommerce_benches::{
    bare_sqlite::{self, BATCH_COMMANDS_MAX},
    durable::{self, Load},
    falls,
    history::{History, Past},
    idle_memory::{self, Weighed},
    kameo_actors, messages,
    open_loop::{self, Latencies, Schedule},
    per_second, plain_channel, raw_ractor, waking,
};

/// The shop's own, for us and for the controls; `--no-default-features` measures with the system's.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 5;
/// Askers that wait at once: two of the writer's largest batches, one being committed and one queueing.
const ASKERS: usize = 8_192;
const COMMANDS: u64 = 200_000;
/// One commit each takes some 0.2 ms: as many as fit into a second or so.
const COMMANDS_ONE_BY_ONE: u64 = 4_000;
const TOLD: u64 = 1_000_000;
const ASKED: u64 = 500_000;
const SPAWNED: usize = 20_000;
const RESTARTED: u32 = 5_000;
/// Each fall on disk leaves one more event to be read after the next: few, so that it is the fall that is timed.
const RESTARTED_ON_DISK: u32 = 200;
/// Fewer askers than there is room for the awake: what is asked for can be awake.
const CHURN: Load = Load { keys: 10_000, commands: 100_000, askers: 100 };
/// How many wake at once where all are wanted.
const WAKING_AT_ONCE: usize = 64;
/// The part of the most that the open loop asks for.
const OPEN_LOOP_PART: f64 = 0.5;
/// Short enough that one key stays below the million commands that its entity keeps in memory.
const OPEN_LOOP_SECONDS: f64 = 5.0;

/// One measurement and what it is measured against.
struct Subject<'run> {
    name: &'static str,
    ours: Box<dyn Fn() -> f64 + 'run>,
    controls: Vec<Control<'run>>,
}

struct Control<'run> {
    name: &'static str,
    bar: &'static str,
    rate: Box<dyn Fn() -> f64 + 'run>,
}

impl<'run> Subject<'run> {
    fn new(name: &'static str, ours: impl Fn() -> f64 + 'run) -> Self {
        Self { name, ours: Box::new(ours), controls: Vec::new() }
    }

    fn against(mut self, name: &'static str, bar: &'static str, rate: impl Fn() -> f64 + 'run) -> Self {
        self.controls.push(Control { name, bar, rate: Box::new(rate) });
        self
    }
}

fn main() {
    if idle_memory::weigh_if_child() {
        return;
    }
    let mut arguments = std::env::args().skip(1);
    let rounds = arguments.next().and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS).max(1);
    let wanted = arguments.next().unwrap_or_default();

    println!("| ours / control, median of {rounds} | ours /s | control /s | ratio | least to most | bar |");
    println!("|---|---:|---:|---:|---:|---:|");
    for subjects in [durable_commands(), messages(), waking(), falls()] {
        for subject in subjects.iter().filter(|subject| subject.name.contains(&wanted)) {
            compare(subject, rounds);
        }
    }
    if "ready".contains(&wanted) {
        ready(rounds);
    }
    if "open loop".contains(&wanted) {
        open_loop();
    }
    if "idle memory".contains(&wanted) {
        idle_memory_table();
    }
}

fn durable_commands() -> Vec<Subject<'static>> {
    let load = |keys, commands, askers| Load { keys, commands, askers };
    let asks = move |keys| per_second(COMMANDS, durable::asks(load(keys, COMMANDS, ASKERS)));
    let group_commit =
        move |keys| per_second(COMMANDS, bare_sqlite::inserts(load(keys, COMMANDS, 0), BATCH_COMMANDS_MAX));
    let one_by_one = load(1, COMMANDS_ONE_BY_ONE, 1);
    let commits_of_one =
        move |keys| per_second(COMMANDS_ONE_BY_ONE, bare_sqlite::inserts(load(keys, COMMANDS_ONE_BY_ONE, 0), 1));
    vec![
        Subject::new("durable, 1 key", move || asks(1))
            .against("bare group commit", "≥ 0.60", move || group_commit(1))
            .against("one commit each", "≥ 20", move || commits_of_one(1)),
        Subject::new("durable, 10,000 keys", move || asks(10_000))
            .against("bare group commit", "≥ 0.60", move || group_commit(10_000))
            .against("one commit each", "≥ 20", move || commits_of_one(10_000)),
        Subject::new("durable, 1 key, one asker", move || per_second(COMMANDS_ONE_BY_ONE, durable::asks(one_by_one)))
            .against("one commit each", "none", move || commits_of_one(1)),
    ]
}

fn messages() -> Vec<Subject<'static>> {
    let rate = |messages: u64, run: fn(usize, u64) -> std::time::Duration, actors: usize| {
        move || per_second(messages, run(actors, messages))
    };
    let tell = |name, actors| {
        Subject::new(name, rate(TOLD, messages::tells, actors))
            .against("ractor cast", "none", rate(TOLD, raw_ractor::casts, actors))
            .against("kameo tell", "none", rate(TOLD, kameo_actors::tells, actors))
            .against("tokio channel", "none", rate(TOLD, plain_channel::sends, actors))
    };
    let ask = |name, actors| {
        Subject::new(name, rate(ASKED, messages::asks, actors))
            .against("ractor call", "none", rate(ASKED, raw_ractor::calls, actors))
            .against("kameo ask", "none", rate(ASKED, kameo_actors::asks, actors))
            .against("tokio channel and oneshot", "none", rate(ASKED, plain_channel::round_trips, actors))
    };
    vec![
        tell("tell, 1 entity", 1),
        tell("tell, 1,000 entities", 1_000),
        ask("ask, 1 entity", 1),
        ask("ask, 1,000 entities", 1_000),
        Subject::new("spawn and first answer, without a disk", || {
            per_second(SPAWNED as u64, messages::first_asks(SPAWNED))
        })
        .against("ractor spawn and call", "none", || per_second(SPAWNED as u64, raw_ractor::spawns(SPAWNED)))
        .against("kameo spawn and ask", "none", || per_second(SPAWNED as u64, kameo_actors::spawns(SPAWNED))),
    ]
}

fn waking() -> Vec<Subject<'static>> {
    let one_after_the_other = |name, past: Past| {
        let history = std::rc::Rc::new(LazyCell::new(move || History::write(past)));
        let read = std::rc::Rc::clone(&history);
        let entities = past.entities as u64;
        Subject::new(name, move || per_second(entities, waking::wakings(&history, 1))).against(
            "bare SELECT and decode",
            "none",
            move || per_second(entities, waking::bare_reads(&read)),
        )
    };
    let replay = |name, past: Past, at_once| {
        let history = std::rc::Rc::new(LazyCell::new(move || History::write(past)));
        let read = std::rc::Rc::clone(&history);
        Subject::new(name, move || per_second(past.events(), waking::wakings(&history, at_once))).against(
            "bare SELECT and decode",
            "ours ≥ 500,000/s",
            move || per_second(past.events(), waking::bare_reads(&read)),
        )
    };
    let past = |entities, before_snapshot, after_snapshot| Past { entities, before_snapshot, after_snapshot };
    vec![
        one_after_the_other("waking from a snapshot", past(2_000, 10, 0)),
        one_after_the_other("waking from a snapshot and 100 events", past(1_000, 10, 100)),
        one_after_the_other("waking from a snapshot and 1,000 events", past(200, 10, 1_000)),
        replay("replay, events of 1 entity", past(1, 0, 300_000), 1),
        replay("replay, events of 1,000 entities", past(1_000, 0, 300), WAKING_AT_ONCE),
        Subject::new("churn, room for a tenth", || per_second(CHURN.commands, waking::churn(CHURN))).against(
            "room for all",
            "none",
            || per_second(CHURN.commands, waking::no_churn(CHURN)),
        ),
    ]
}

fn falls() -> Vec<Subject<'static>> {
    let rate = |run: fn(u32) -> std::time::Duration, falls| move || per_second(u64::from(falls), run(falls));
    vec![
        Subject::new("panic and next answer, without a disk", rate(falls::restarts_in_memory, RESTARTED))
            .against("ractor, restarted by its parent", "none", rate(raw_ractor::restarts, RESTARTED))
            .against("kameo, restarted by its supervisor", "none", rate(kameo_actors::restarts, RESTARTED)),
        Subject::new("panic and next answer, durable", rate(falls::restarts_on_disk, RESTARTED_ON_DISK)).against(
            "ractor, without a disk",
            "none",
            rate(raw_ractor::restarts, RESTARTED),
        ),
    ]
}

/// Runs the subject and its controls in turns and prints a line for each control.
fn compare(subject: &Subject<'_>, rounds: usize) {
    let mut ours = Vec::new();
    let mut controls = vec![Vec::new(); subject.controls.len()];
    for round in 0..rounds {
        // Who goes first changes with the round: a drift of the machine favours neither.
        let ours_first = round % 2 == 0;
        if ours_first {
            ours.push((subject.ours)());
        }
        for (control, rates) in subject.controls.iter().zip(&mut controls) {
            rates.push((control.rate)());
        }
        if !ours_first {
            ours.push((subject.ours)());
        }
    }
    for (control, rates) in subject.controls.iter().zip(controls) {
        let mut ratios: Vec<_> = ours.iter().zip(&rates).map(|(ours, control)| ours / control).collect();
        let (our_rate, control_rate, ratio) = (median(ours.clone()), median(rates), median(ratios.clone()));
        ratios.sort_by(f64::total_cmp);
        let (least, most) = (ratios[0], ratios[ratios.len() - 1]);
        println!(
            "| {} / {} | {} | {} | {ratio:.2} | {least:.2} to {most:.2} | {} |",
            subject.name,
            control.name,
            thousands(our_rate),
            thousands(control_rate),
            control.bar
        );
    }
}

fn ready(rounds: usize) {
    println!(
        "\n| 1,000,000 events of 10,000 entities, median of {rounds} | ms to the first answer | ms to all 10,000 | bar |"
    );
    println!("|---|---:|---:|---:|");
    let pasts = [
        (
            "snapshots, 20 events since",
            Past { entities: 10_000, before_snapshot: 80, after_snapshot: 20 },
            "all < 3,000",
        ),
        ("no snapshots", Past { entities: 10_000, before_snapshot: 0, after_snapshot: 100 }, "none"),
    ];
    for (name, past, bar) in pasts {
        let history = History::write(past);
        let (first, all): (Vec<_>, Vec<_>) = (0..rounds)
            .map(|_| {
                let (first, all) = waking::ready(&history, WAKING_AT_ONCE);
                (first.as_secs_f64() * 1e3, all.as_secs_f64() * 1e3)
            })
            .unzip();
        println!("| {name} | {:.1} | {} | {bar} |", median(first), thousands(median(all)));
    }
}

fn open_loop() {
    println!("\n| open loop, ms from the due moment | commands/s | p50 | p99 | p99.9 | max | refused | bar |");
    println!("|---|---:|---:|---:|---:|---:|---:|---:|");
    for (keys, name) in [(1, "1 key"), (10_000, "10,000 keys")] {
        let most = per_second(COMMANDS, durable::asks(Load { keys, commands: COMMANDS, askers: ASKERS }));
        let schedule = Schedule { keys, per_second: most * OPEN_LOOP_PART, seconds: OPEN_LOOP_SECONDS };
        let line = |who, latencies: Latencies, bar| {
            let ms = |quantile| latencies.micros.value_at_quantile(quantile) as f64 / 1e3;
            let (p50, p99, p999, max) = (ms(0.5), ms(0.99), ms(0.999), ms(1.0));
            let (rate, refused) = (thousands(schedule.per_second), latencies.refused);
            println!("| {name}, {who} | {rate} | {p50:.2} | {p99:.2} | {p999:.1} | {max:.0} | {refused} | {bar} |");
        };
        line("ask", open_loop::asks(schedule), "p99 ≤ 10");
        line("bare group commit", open_loop::bare_group_commit(schedule), "none");
    }
}

fn idle_memory_table() {
    println!("\n| bytes of each idle actor | 10,000 | 100,000 |");
    println!("|---|---:|---:|");
    for (name, weighed) in
        [("entity", Weighed::Entity), ("ractor actor", Weighed::Ractor), ("kameo actor", Weighed::Kameo)]
    {
        let [ten, hundred] = [10_000, 100_000].map(|count| thousands(idle_memory::bytes_each(weighed, count)));
        println!("| {name} | {ten} | {hundred} |");
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A whole number with commas.
fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
