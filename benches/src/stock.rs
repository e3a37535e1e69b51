//! The entity that the benches ask: a stock item that is reserved from, with events of the size that the shop writes.

use std::{sync::Arc, time::Duration};

use runtime::{CommandId, CommandMeta, Entity, entity::EventPayload};
use serde::{Deserialize, Serialize};

/// Long enough that no ask of a bench is ever too late.
const PATIENCE: Duration = Duration::from_secs(60);
/// The time of all commands: a bench does not measure the clock.
pub const AT_MS: i64 = 1_780_000_000_000;

/// The decider.
pub struct Stock;

/// What may be asked.
#[derive(Clone, Debug)]
pub struct Reserve {
    /// For which order.
    pub order_id: String,
    /// How many.
    pub quantity: u32,
}

/// What happened: about 130 bytes as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reserved {
    order_id: String,
    quantity: u32,
    reserved_after: u64,
    expires_at_ms: i64,
}

/// How many are reserved.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ReservedSoFar(u64);

impl EventPayload for Reserved {
    fn event_type(&self) -> &'static str {
        "stock.reserved"
    }
}

impl Entity for Stock {
    const KIND: &'static str = "stock";
    type State = ReservedSoFar;
    type Command = Reserve;
    type Event = Reserved;
    type Refusal = ();

    fn decide(state: &ReservedSoFar, command: Reserve) -> Result<Vec<Reserved>, ()> {
        let Reserve { order_id, quantity } = command;
        let reserved_after = state.0 + u64::from(quantity);
        Ok(vec![Reserved { order_id, quantity, reserved_after, expires_at_ms: AT_MS + 900_000 }])
    }

    fn evolve(state: &mut ReservedSoFar, event: &Reserved) {
        state.0 = event.reserved_after;
    }
}

/// The `number`-th command of a bench.
#[must_use]
pub fn command(number: u64) -> Reserve {
    Reserve { order_id: format!("ord_{:026x}", command_id_bits(number) >> 24), quantity: 1 }
}

/// The id of the `number`-th command: spread like the hashes that the shop uses, without the cost of hashing.
#[must_use]
pub fn command_id(number: u64) -> CommandId {
    CommandId::from_u128(command_id_bits(number))
}

/// What travels with the `number`-th command.
#[must_use]
pub fn meta(number: u64) -> CommandMeta {
    CommandMeta { at_ms: AT_MS, ..CommandMeta::new(command_id(number), PATIENCE) }
}

/// The ids of `count` entities.
#[must_use]
pub fn keys(count: usize) -> Vec<Arc<str>> {
    (0..count).map(key).collect()
}

/// The id of the `number`-th entity.
#[must_use]
pub fn key(number: usize) -> Arc<str> {
    format!("sku_{number:026}").into()
}

/// Splits 64 bits into 128 that look random (the finalizer of SplitMix64, twice).
fn command_id_bits(number: u64) -> u128 {
    let mixed = |seed: u64| {
        let mut bits = number.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(seed);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    };
    u128::from(mixed(1)) << 64 | u128::from(mixed(2))
}
