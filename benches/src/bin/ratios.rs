//! Ours and its control in turns, and the table of their ratios.
//!
//! On a shared machine a figure is worth little and a ratio of two neighbours a lot: each round runs every pair back to
//! back, and the median of the rounds' ratios is what counts. `ratios [ROUNDS] [PART OF A NAME]`.

use microcommerce_benches::{
    bare_sqlite::{self, BATCH_COMMANDS_MAX},
    durable::{self, Load},
    messages, per_second, raw_ractor,
};

const ROUNDS: usize = 5;
/// Askers that wait at once: two of the writer's largest batches, one being committed and one queueing.
const ASKERS: usize = 8_192;
const COMMANDS: u64 = 200_000;
/// One commit each takes some 0.2 ms: as many as fit into a second or so.
const COMMANDS_ONE_BY_ONE: u64 = 4_000;
const TOLD: u64 = 1_000_000;
const ASKED: u64 = 500_000;

struct Pair {
    name: &'static str,
    bar: &'static str,
    ours: fn() -> f64,
    control: fn() -> f64,
}

const fn load(keys: usize, commands: u64) -> Load {
    Load { keys, commands, askers: ASKERS }
}
fn asks(keys: usize) -> f64 {
    per_second(COMMANDS, durable::asks(load(keys, COMMANDS)))
}
fn group_commit(keys: usize) -> f64 {
    per_second(COMMANDS, bare_sqlite::inserts(load(keys, COMMANDS), BATCH_COMMANDS_MAX))
}
fn one_by_one(keys: usize) -> f64 {
    per_second(COMMANDS_ONE_BY_ONE, bare_sqlite::inserts(load(keys, COMMANDS_ONE_BY_ONE), 1))
}

const PAIRS: [Pair; 8] = [
    Pair { name: "durable, 1 key / bare group commit", bar: "≥ 0.50", ours: || asks(1), control: || group_commit(1) },
    Pair {
        name: "durable, 10,000 keys / bare group commit",
        bar: "≥ 0.50",
        ours: || asks(10_000),
        control: || group_commit(10_000),
    },
    Pair { name: "durable, 1 key / one commit each", bar: "≥ 20", ours: || asks(1), control: || one_by_one(1) },
    Pair {
        name: "durable, 10,000 keys / one commit each",
        bar: "≥ 20",
        ours: || asks(10_000),
        control: || one_by_one(10_000),
    },
    Pair {
        name: "tell, 1 entity / ractor cast",
        bar: "none",
        ours: || per_second(TOLD, messages::tells(1, TOLD)),
        control: || per_second(TOLD, raw_ractor::casts(1, TOLD)),
    },
    Pair {
        name: "tell, 1,000 entities / ractor cast",
        bar: "none",
        ours: || per_second(TOLD, messages::tells(1_000, TOLD)),
        control: || per_second(TOLD, raw_ractor::casts(1_000, TOLD)),
    },
    Pair {
        name: "ask, 1 entity / ractor call",
        bar: "none",
        ours: || per_second(ASKED, messages::asks(1, ASKED)),
        control: || per_second(ASKED, raw_ractor::calls(1, ASKED)),
    },
    Pair {
        name: "ask, 1,000 entities / ractor call",
        bar: "none",
        ours: || per_second(ASKED, messages::asks(1_000, ASKED)),
        control: || per_second(ASKED, raw_ractor::calls(1_000, ASKED)),
    },
];

fn main() {
    let mut arguments = std::env::args().skip(1);
    let rounds = arguments.next().and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS).max(1);
    let wanted = arguments.next().unwrap_or_default();
    println!("| ours / control, median of {rounds} | ours /s | control /s | ratio | least to most | bar |");
    println!("|---|---:|---:|---:|---:|---:|");
    for pair in PAIRS.iter().filter(|pair| pair.name.contains(&wanted)) {
        let (mut ours, mut control, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..rounds {
            // Who goes first changes with the round: a drift of the machine favours neither.
            let (our_rate, control_rate) = if round % 2 == 0 {
                let our_rate = (pair.ours)();
                (our_rate, (pair.control)())
            } else {
                let control_rate = (pair.control)();
                ((pair.ours)(), control_rate)
            };
            ours.push(our_rate);
            control.push(control_rate);
            ratios.push(our_rate / control_rate);
        }
        let (ours, control, ratio) = (median(&mut ours), median(&mut control), median(&mut ratios));
        let (least, most) = (ratios[0], ratios[ratios.len() - 1]);
        println!("| {} | {ours:.0} | {control:.0} | {ratio:.2} | {least:.2} to {most:.2} | {} |", pair.name, pair.bar);
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
