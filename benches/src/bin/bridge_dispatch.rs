//! The engine and its controls in turns, and the table of their ratios: `bridge_dispatch [ROUNDS]`.

use microcommerce_benches::{
    bridge_dispatch::{a_millisecond_each, a_millisecond_each_in_turn, bare_loop, dispatch},
    per_second,
};

const ROUNDS: usize = 5;
const RECORDS: u64 = 4_000_000;
const KEYS: usize = 10_000;
const WORKED: u64 = 400_000;
const WORKED_KEYS: usize = 1_000;
/// One after another at a millisecond and more each: a second or so.
const WORKED_IN_TURN: u64 = 500;

fn main() {
    let rounds = std::env::args().nth(1).and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS).max(1);
    println!("| ours / control, median of {rounds} | ours /s | control /s | ratio | bar |");
    println!("|---|---:|---:|---:|---:|");
    row("dispatch, 10,000 keys / bare loop", "≥ 1,000,000 /s", rounds, || {
        (per_second(RECORDS, dispatch(KEYS, RECORDS)), per_second(RECORDS, bare_loop(KEYS, RECORDS)))
    });
    row("1 ms of async work, 1,000 keys / one after another", "≥ 200,000 /s", rounds, || {
        let in_turn = per_second(WORKED_IN_TURN, a_millisecond_each_in_turn(WORKED_IN_TURN));
        (per_second(WORKED, a_millisecond_each(WORKED_KEYS, WORKED)), in_turn)
    });
}

fn row(name: &str, bar: &str, rounds: usize, round: impl Fn() -> (f64, f64)) {
    let (mut ours, mut controls): (Vec<f64>, Vec<f64>) = (0..rounds).map(|_| round()).unzip();
    let mut ratios: Vec<f64> = ours.iter().zip(&controls).map(|(ours, control)| ours / control).collect();
    let (ours, control, ratio) = (median(&mut ours), median(&mut controls), median(&mut ratios));
    println!("| {name} | {ours:.0} | {control:.0} | {ratio:.3} | {bar} |");
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
